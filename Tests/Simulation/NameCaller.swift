// A client that makes, moves and removes names in a directory of its own, one call at a time. The files are everybody's.

import FaultInjection
import FileService
import Model
import Platform

@testable import EmbeddedFileService

final class NameCaller: @unchecked Sendable {
    let world: World
    /// The name of its directory in the root.
    let rootName: String
    var root: FileReference
    private(set) var tree = TreeModel()
    /// Asked for and not answered, or answered with an error after which it may have been done.
    private(set) var underWay: TreeModel.Change?
    private(set) var directories: [Int: FileReference] = [:]

    private static let names = ["a", "b", "c", "d", "e"]

    init(world: World, rootName: String, root: FileReference) {
        self.world = world
        self.rootName = rootName
        self.root = root
    }

    func run(calls: Int) async {
        for _ in 0..<calls {
            if world.isOver || underWay != nil { return }
            await next()
        }
    }

    private func pick(_ range: Range<Int>) -> Int { Int.random(in: range, using: &world.random) }

    private func next() async {
        let directory = tree.directories.keys.sorted().randomElement(using: &world.random) ?? 0
        let name = Self.names.randomElement(using: &world.random) ?? "a"
        let newDirectory = tree.directories.keys.sorted().randomElement(using: &world.random) ?? 0
        let newName = Self.names.randomElement(using: &world.random) ?? "a"
        switch tree[directory, name] {
        case nil:
            if pick(0..<8) == 0 { return await lookUp(name, in: directory, nil) }
            if directory == 0, pick(0..<4) == 0 { return await makeDirectory(name, in: directory) }
            await create(name, in: directory)
        case .directory(let number):
            switch pick(0..<3) {
            case 0: await removeDirectory(name, in: directory, number)
            case 1: await rename(name, in: directory, to: newName, in: 0)
            default: await list(number)
            }
        case .file(let file):
            switch pick(0..<12) {
            case 0..<2: await remove(name, in: directory, file)
            case 2..<6: await rename(name, in: directory, to: newName, in: newDirectory)
            case 6..<8: await link(file, as: newName, in: newDirectory)
            case 8: await createAgain(name, in: directory)
            case 9..<11: await lookUp(name, in: directory, file)
            default: await list(directory)
            }
        }
    }

    private func reference(_ directory: Int) -> FileReference { directory == 0 ? root : directories[directory]! }

    // MARK: Changes

    /// Makes the call; when it is refused in a way that leaves open whether it was done, the change stays under way until
    /// the next start shows it.
    private func carryOut(
        _ change: TreeModel.Change, _ call: () async throws(FileError) -> Void
    ) async {
        let what = "\(world.event()): \(rootName): \(change)"
        world.note(what)
        underWay = change
        do throws(FileError) {
            try await call()
            tree.apply(change)
            underWay = nil
            _ = world.event()
            world.note("\(what) -> done")
        } catch {
            if world.failed(error, what), error == .busy { underWay = nil }
        }
    }

    private func create(_ text: String, in directory: Int) async {
        let number = world.newNumber()
        let mode = UInt32(pick(0..<0o1000))
        let event = world.event()
        let before = world.clock.now()
        let change = TreeModel.Change.create(text, in: directory, file: number)
        await carryOut(change) { () throws(FileError) in
            let made = try await world.service.create(
                name(text), in: reference(directory), mode: .guarded(AttributeUpdate(mode: mode)), as: World.user)
            world.add(
                FileModel(
                    number: number, reference: made.entry.file, mode: mode, times: before...world.clock.now(), at: event
                ))
        }
    }

    private func createAgain(_ text: String, in directory: Int) async {
        do throws(FileError) {
            _ = try await world.service.create(
                name(text), in: reference(directory), mode: .guarded(AttributeUpdate()), as: World.user)
            world.isWrong("\(rootName): \(text) in \(directory) was made again")
        } catch {
            if error != .alreadyExists { _ = world.failed(error, "\(rootName): create \(text) again") }
        }
    }

    private func makeDirectory(_ text: String, in directory: Int) async {
        let number = world.newNumber()
        await carryOut(.makeDirectory(text, in: directory, directory: number)) { () throws(FileError) in
            let made = try await world.service.makeDirectory(
                name(text), in: reference(directory), attributes: AttributeUpdate(), as: World.user)
            directories[number] = made.entry.file
        }
    }

    /// The file may be gone from now on.
    private func askForRemoval(_ file: Int) {
        if tree.names(of: file) == 1 { world.files[file]?.isRemovalAsked = true }
    }

    private func wasRemoved(_ file: Int) {
        if tree.names(of: file) == 0 { world.forget(file: file) }
    }

    private func remove(_ text: String, in directory: Int, _ file: Int) async {
        askForRemoval(file)
        await carryOut(.remove(text, from: directory)) { () throws(FileError) in
            _ = try await world.service.remove(name(text), from: reference(directory), as: World.user)
        }
        wasRemoved(file)
    }

    private func removeDirectory(_ text: String, in directory: Int, _ number: Int) async {
        guard tree.directories[number]?.isEmpty == true else {
            do throws(FileError) {
                _ = try await world.service.removeDirectory(name(text), from: reference(directory), as: World.user)
                world.isWrong("\(rootName): \(text) was removed and wasn't empty")
            } catch {
                if error != .notEmpty { _ = world.failed(error, "\(rootName): remove directory \(text)") }
            }
            return
        }
        await carryOut(.removeDirectory(text, from: directory)) { () throws(FileError) in
            _ = try await world.service.removeDirectory(name(text), from: reference(directory), as: World.user)
        }
    }

    private func rename(_ text: String, in directory: Int, to newText: String, in newDirectory: Int) async {
        guard let moved = tree[directory, text] else { return }
        let replaced = tree[newDirectory, newText]
        switch (moved, replaced) {
        case (_, nil): break
        case (.file, .file(let file)): if moved != replaced { askForRemoval(file) }
        case (.directory, .directory(let number)):
            guard moved == replaced || tree.directories[number]?.isEmpty == true else { return }
        case (.file, .directory), (.directory, .file): return
        }
        await carryOut(.rename(text, in: directory, to: newText, into: newDirectory)) { () throws(FileError) in
            _ = try await world.service.rename(
                name(text), in: reference(directory), to: name(newText), in: reference(newDirectory), as: World.user)
        }
        if case .file(let file) = replaced { wasRemoved(file) }
    }

    private func link(_ file: Int, as text: String, in directory: Int) async {
        guard tree[directory, text] == nil, let model = world.files[file] else { return }
        await carryOut(.link(file, as: text, in: directory)) { () throws(FileError) in
            _ = try await world.service.link(model.reference, as: name(text), in: reference(directory), by: World.user)
        }
    }

    // MARK: Looks

    private func lookUp(_ text: String, in directory: Int, _ file: Int?) async {
        let what = "\(rootName): look up \(text) in \(directory)"
        do throws(FileError) {
            let found = try await world.service.lookUp(name(text), in: reference(directory), as: World.user)
            if file.map({ world.files[$0]?.reference != found.file }) ?? true { world.isWrong("\(what) found another") }
        } catch {
            if error == .notFound, file == nil { return }
            _ = world.failed(error, what)
        }
    }

    private func list(_ directory: Int) async {
        let what = "\(rootName): list \(directory)"
        do throws(FileError) {
            let found = try await world.names(of: reference(directory))
            let expected = Set(tree.directories[directory]!.keys.map(name))
            if Set(found.map(\.name)) != expected {
                world.isWrong("\(what) gave \(found.map(\.name)), not \(expected)")
            }
        } catch {
            _ = world.failed(error, what)
        }
    }

    // MARK: After a start

    /// Compares the tree with what the store holds now, and takes that for what there is.
    func compare() async throws {
        var found = FoundTree()
        var queue = [root]
        var seen: Set<FileID> = []
        while let directory = queue.popLast() {
            var names: [String: FoundTree.Entry] = [:]
            for entry in try await world.names(of: directory) {
                guard let there = entry.entry else { throw Wrong("an entry without attributes") }
                let text = Self.names.first { name($0) == entry.name }
                guard let text else { throw Wrong("\(entry.name) was never made") }
                guard names[text] == nil else { throw Wrong("\(entry.name) is listed twice") }
                if there.attributes.type == .directory {
                    guard seen.insert(there.file.id).inserted else { throw Wrong("a directory with two names") }
                    queue.append(there.file)
                    names[text] = .directory(there.file)
                } else {
                    names[text] = .file(there.file)
                }
            }
            found.directories[directory] = names
        }
        let outcomes = underWay.map { [tree, tree.after($0)] } ?? [tree]
        var files = world.files.mapValues(\.reference)
        var objections: [String] = []
        for outcome in outcomes {
            if let objection = outcome.objection(to: found, root: root, files: &files, directories: &directories) {
                objections.append(objection)
                continue
            }
            adopt(outcome, files)
            return
        }
        throw Wrong(
            "\(rootName): \(objections.joined(separator: " | "))"
                + (underWay.map { ", while there was under way: \($0)" } ?? ""))
    }

    private func adopt(_ outcome: TreeModel, _ references: [Int: FileReference]) {
        for file in Set(tree.files).subtracting(outcome.files).sorted() { world.forget(file: file) }
        for file in outcome.files where world.files[file] == nil {
            // Its creation was not answered: what it is is known by looking at it.
            let model = FileModel(
                number: file, reference: references[file]!, mode: 0, times: world.clock.now()...world.clock.now(), at: 0
            )
            world.add(model)
            model.isNew = true
        }
        tree = outcome
        for file in tree.files { world.files[file]?.isRemovalAsked = false }
        underWay = nil
    }
}

extension World {
    /// All names of a directory but "." and "..".
    func names(of directory: FileReference) async throws(FileError) -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        var cookie: UInt64 = 0
        while true {
            let listing = try await service.list(
                directory, after: cookie, maxEntries: 4, withAttributes: true, as: Self.user)
            entries += listing.entries
            guard let last = listing.entries.last, !listing.isAtEnd else { break }
            cookie = last.cookie
        }
        return entries.filter { !$0.name.isDot && !$0.name.isDotDot }
    }
}
