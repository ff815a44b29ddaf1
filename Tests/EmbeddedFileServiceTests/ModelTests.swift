// Random sequences of all operations against the model: at any time everything reads back as it should.

import FaultInjection
import FileService
import Journal
import Model
import Platform
import Testing
import WriteBack

@testable import EmbeddedFileService

@Suite("Against a simple model", .serialized, .timeLimit(.minutes(10)))
struct ModelTests {
    @Test("RS-3-2 with five volumes: everything reads back at any time", arguments: 0..<14 as Range<UInt64>)
    func reedSolomon(seed: UInt64) async throws {
        var sequence = try await RandomSequence(policy: "RS-3-2-4k", seed: seed)
        try await sequence.run(steps: 300)
    }

    @Test("XOR-2-1 with four volumes", arguments: 100..<108 as Range<UInt64>)
    func xor(seed: UInt64) async throws {
        var sequence = try await RandomSequence(policy: "XOR-2-1-4k", volumes: 4, seed: seed)
        try await sequence.run(steps: 300)
    }

    @Test("RS-6-3", arguments: 200..<204 as Range<UInt64>)
    func wide(seed: UInt64) async throws {
        var sequence = try await RandomSequence(policy: "RS-6-3-4k", seed: seed)
        try await sequence.run(steps: 300)
    }

    @Test("groups of at most two stripes and three nodes in memory", arguments: 300..<310 as Range<UInt64>)
    func smallBounds(seed: UInt64) async throws {
        var sequence = try await RandomSequence(policy: "RS-3-2-4k", seed: seed) {
            $0.maxCachedNodes = 3
            $0.maxGroupBytes = 24 << 10
        }
        try await sequence.run(steps: 300)
    }

    @Test("a journal that is half full after a few writes", arguments: 400..<410 as Range<UInt64>)
    func smallJournal(seed: UInt64) async throws {
        var sequence = try await RandomSequence(policy: "RS-3-2-4k", seed: seed) {
            $0.journal.segmentBytes = 16 << 10
            $0.journal.capacityBytes = 96 << 10
        }
        try await sequence.run(steps: 300)
    }
}

/// One random sequence. Errors carry the seed.
private struct RandomSequence {
    private let seed: UInt64
    private let store: SimulatedStore
    private var random: SeededGenerator
    private var tree: ModelTree
    /// The change times that were seen last.
    private var changeTimes: [FileID: Timestamp] = [:]
    private var step = 0
    private var history: [String] = []

    // The last two are equal as Swift strings, and two names for a file system.
    private let names = ["a", "b", "c", "d", "\u{e9}", "e\u{301}"].map(name)

    init(
        policy: String, volumes: Int? = nil, seed: UInt64, change: (inout StoreBounds) -> Void = { _ in }
    ) async throws {
        self.seed = seed
        store = try SimulatedStore(policy, volumes: volumes)
        store.bounds.journal.patience = SimulatedStore.endlessPatience
        change(&store.bounds)
        random = SeededGenerator(seed: seed)
        try await store.open()
        tree = ModelTree(root: try await store.service.rootReference())
    }

    mutating func run(steps: Int) async throws {
        do {
            for step in 0..<steps {
                self.step = step
                try await self.next()
                if step % 50 == 49 { try await checkAll() }
                if step % 100 == 99 { try await checkWhenStriped() }
            }
            for file in tree.files { try await commit(file) }
            try await checkAll()
            try await store.core.checkNamespace()
            try await store.restart()
            try await checkAll()
            let orphans = try await store.orphans()
            try check(orphans.isEmpty, "orphans \(orphans)")
            let status = await store.service.status()
            try check(status.health == .green, "health \(status.health): \(status.reasons)")
            try check(status.bytes == tree.files.reduce(0) { $0 + UInt64(tree[$1].usedBytes) }, "bytes of the store")
            try check(status.counters.decodedStripes == 0 && status.counters.failedBlockReads == 0, "failed reads")
            await store.close()
        } catch {
            await store.close()
            throw Violation("seed \(seed), step \(step): \(error); \(history.suffix(8).joined(separator: "; "))")
        }
    }

    // MARK: Steps

    private var service: EmbeddedFileService { store.service }
    private var user: Credentials { SimulatedStore.superuser }

    private mutating func next() async throws {
        if Int.random(in: 0..<3, using: &random) == 0 { store.clock.advance(seconds: 1) }
        let file = tree.files.randomElement(using: &random)
        switch (Int.random(in: 0..<100, using: &random), file) {
        case (0..<34, let file?): try await write(file)
        case (34..<44, let file?): try await read(file)
        case (44..<52, let file?): try await commit(file)
        case (52..<60, let file?): try await truncate(file)
        case (60..<62, let file?): try await setMode(file)
        case (62..<69, _): try await create()
        case (69..<73, _): try await link()
        case (73, _): try await makeSymbolicLink()
        case (74, _): try await makeFIFO()
        case (75, _): try await create()
        case (76..<82, _): try await remove()
        case (82..<89, _): try await rename()
        case (89..<92, _): try await makeDirectory()
        case (92..<94, _): try await removeDirectory()
        case (94..<96, _): try await list(randomDirectory())
        case (96..<98, _):
            note("tick")
            store.clock.advance(seconds: Int64.random(in: 1...6, using: &random))
            await service.tick()
        case (98, _):
            note("restart")
            if Bool.random(using: &random) { store.clock.setWall(seconds: 5) }
            try await store.restart()
        default: try await create()
        }
    }

    private mutating func write(_ file: FileReference) async throws {
        let size = tree[file].bytes.count
        let offset: Int
        switch Int.random(in: 0..<5, using: &random) {
        case 0: offset = size
        case 1: offset = Int.random(in: 0...size + 20_000, using: &random) / 4096 * 4096
        case 2: offset = size + Int.random(in: 0...30_000, using: &random)
        default: offset = Int.random(in: 0...size, using: &random)
        }
        guard offset < 300_000 else { return }
        let largest = [1, 100, 4096, 12_288, 40_000].randomElement(using: &random) ?? 1
        let count = Int.random(in: 0...largest, using: &random)
        let bytes = pattern(count, seed: random.next())
        let stability: WriteStability =
            [.unstable, .unstable, .unstable, .dataSync, .fileSync].randomElement(using: &random) ?? .unstable
        note("write \(file.id) [\(offset), \(offset + count)) \(stability)")
        let result = try await service.write(bytes, to: file, at: UInt64(offset), stability)
        tree[file].write(bytes, at: offset)
        if count > 0 { try see(result.change, file) }
        try check(result.change.after.size == UInt64(tree[file].bytes.count), "size after WRITE")
        try check(stability == .unstable || result.stability == .fileSync, "stability of the answer")
        if stability != .unstable { try await checkUsedBytes(file) }
    }

    private mutating func read(_ file: FileReference) async throws {
        let content = tree[file].bytes
        let offset = Int.random(in: 0...content.count + 10, using: &random)
        let count = Int.random(in: 0...max(1, content.count), using: &random)
        note("read \(file.id) [\(offset), \(offset + count))")
        let result = try await service.read(file, offset: UInt64(offset), count: count, as: user)
        let end = min(content.count, offset + count)
        let expected = offset < end ? Array(content[offset..<end]) : []
        try check(result.payload.bytes == expected, "READ [\(offset), \(offset + count)) of \(file.id)")
        // RFC 1813 §3.3.6: eof is true when the read ended at the end of the file.
        try check(result.isAtEnd == (offset >= content.count || offset + count >= content.count), "eof")
    }

    private mutating func commit(_ file: FileReference) async throws {
        note("commit \(file.id)")
        let result = try await service.commit(file)
        let unchanged = result.change.before.changeTime == result.change.after.changeTime
        try check(unchanged, "COMMIT changes no times")
        try await checkUsedBytes(file)
    }

    /// What is in the journal and lies over stored bytes may count twice, but no byte is missing, and there are never more
    /// than the size; and when nothing is pending each counts once.
    private func checkUsedBytes(_ file: FileReference) async throws {
        let isStriped = try await store.context(of: file).isClean
        let used = try await service.attributes(of: file).usedBytes
        let (least, most) = (tree[file].usedBytes, isStriped ? tree[file].usedBytes : tree[file].bytes.count)
        try check(used >= UInt64(least) && used <= UInt64(most), "\(used) used bytes of \(file.id): \(least)…\(most)")
    }

    private mutating func truncate(_ file: FileReference) async throws {
        let size = Int.random(in: 0...tree[file].bytes.count + 20_000, using: &random)
        note("truncate \(file.id) to \(size)")
        let change = try await service.truncate(file, to: UInt64(size))
        tree[file].truncate(to: size)
        try see(change, file)
        try check(change.after.size == UInt64(size), "size after SETATTR")
    }

    private mutating func setMode(_ file: FileReference) async throws {
        let mode = UInt32.random(in: 0...0o777, using: &random)
        note("mode of \(file.id)")
        let before = try await service.attributes(of: file)
        let change = try await service.setAttributes(
            of: file, to: AttributeUpdate(mode: mode), guardTime: before.changeTime, as: user)
        try check(change.after.mode == mode && change.after.modificationTime == before.modificationTime, "SETATTR")
        try see(change, file)
        do {
            _ = try await service.setAttributes(
                of: file, to: AttributeUpdate(mode: 0), guardTime: before.changeTime, as: user)
            throw Violation("a guard that doesn't match was accepted")
        } catch let error as FileError {
            try check(error == .notSynchronized, "guard: \(error)")
        }
    }

    private mutating func create() async throws {
        let directory = randomDirectory()
        let name = randomName()
        let existing = tree.entries(directory)[name]
        let size = [nil, nil, nil, 0, 5_000].randomElement(using: &random) ?? nil
        let update = AttributeUpdate(mode: 0o600, size: size.map { UInt64($0) })
        let verifier = random.next()
        let mode: CreateMode =
            [.unchecked(update), .guarded(update), .exclusive(verifier: verifier)].randomElement(using: &random)
            ?? .unchecked(update)
        note("create \(name) in \(directory.id) \(mode)")
        do {
            let created = try await service.create(name, in: directory, mode: mode, as: user)
            switch (mode, existing) {
            case (_, nil):
                var isExclusive = false
                if case .exclusive = mode { isExclusive = true }
                tree.add(name, to: directory, created.entry.file, .file(ModelFile(size: isExclusive ? 0 : size ?? 0)))
                try see(created.directory, directory)
                if isExclusive {
                    // A retransmission.
                    let again = try await service.create(name, in: directory, mode: mode, as: user)
                    try check(again.entry.file == created.entry.file, "exclusive CREATE repeated")
                }
            case (.unchecked, let existing?):
                try check(tree.isFile(existing) && created.entry.file == existing, "UNCHECKED over a file")
                if let size { tree[existing].truncate(to: size) }
                let after = created.entry.attributes.changeTime
                if size != nil, let last = changeTimes[existing.id] { try check(after > last, "time of a truncate") }
                changeTimes[existing.id] = after
            case (_, _?): throw Violation("CREATE over what exists")
            }
            let expected = tree[created.entry.file].bytes.count
            try check(created.entry.attributes.size == UInt64(expected), "size after CREATE")
        } catch let error as FileError {
            try check(error == .alreadyExists && existing != nil, "CREATE: \(error)")
            if case .unchecked = mode, let existing { try check(!tree.isFile(existing), "UNCHECKED refused") }
        }
    }

    private mutating func remove() async throws {
        let directory = randomDirectory()
        let name = randomName()
        note("remove \(name) from \(directory.id)")
        let existing = tree.entries(directory)[name]
        do {
            let change = try await service.remove(name, from: directory, as: user)
            guard let existing, !tree.isDirectory(existing) else { throw Violation("REMOVE succeeded") }
            tree.remove(name, from: directory)
            try see(change, directory)
            try await expectOneNameLess(existing)
        } catch let error as FileError {
            try check(error == (existing == nil ? .notFound : .isDirectory), "REMOVE: \(error)")
            try check(existing.map { tree.isDirectory($0) } ?? true, "REMOVE of a file: \(error)")
        }
    }

    private mutating func makeDirectory() async throws {
        let parent = randomDirectory()
        let name = randomName()
        note("mkdir \(name) in \(parent.id)")
        let existing = tree.entries(parent)[name]
        do {
            let created = try await service.makeDirectory(
                name, in: parent, attributes: AttributeUpdate(), as: user)
            try check(existing == nil, "MKDIR over what exists")
            tree.add(name, to: parent, created.entry.file, .directory([:]))
            try see(created.directory, parent)
        } catch let error as FileError {
            try check(error == .alreadyExists && existing != nil, "MKDIR: \(error)")
        }
    }

    private mutating func removeDirectory() async throws {
        let parent = randomDirectory()
        let name = randomName()
        note("rmdir \(name) from \(parent.id)")
        let existing = tree.entries(parent)[name]
        do {
            let change = try await service.removeDirectory(name, from: parent, as: user)
            guard let existing, tree.isDirectory(existing), tree.entries(existing).isEmpty else {
                throw Violation("RMDIR succeeded")
            }
            tree.remove(name, from: parent)
            try see(change, parent)
            try await expectStale(existing)
        } catch let error as FileError {
            let expected: FileError =
                existing.map { tree.isDirectory($0) ? .notEmpty : .notDirectory } ?? .notFound
            try check(error == expected, "RMDIR: \(error)")
            if let existing, tree.isDirectory(existing) {
                try check(!tree.entries(existing).isEmpty, "RMDIR of an empty directory")
            }
        }
    }

    private mutating func rename() async throws {
        let (source, target) = (randomDirectory(), randomDirectory())
        let (from, to) = (randomName(), randomName())
        note("rename \(from) in \(source.id) to \(to) in \(target.id)")
        let objections = tree.objections(rename: from, in: source, to: to, in: target)
        let replaced = tree.entries(target)[to]
        let moved = tree.entries(source)[from]
        do {
            let result = try await service.rename(from, in: source, to: to, in: target, as: user)
            try check(objections.isEmpty, "RENAME succeeded in spite of \(objections)")
            tree.rename(from, in: source, to: to, in: target)
            if let moved, moved != replaced {
                let after = try await service.attributes(of: moved).changeTime
                try check(changeTimes[moved.id].map { after > $0 } ?? true, "RENAME changes the change time")
                changeTimes[moved.id] = tree.isDirectory(moved) ? nil : after
                try see(result.source, source)
                if source != target { try see(result.target, target) }
                if let replaced { try await expectOneNameLess(replaced) }
            }
        } catch let error as FileError {
            try check(objections.contains(error), "RENAME: \(error)")
        }
    }

    private mutating func link() async throws {
        let (source, directory) = (randomDirectory(), randomDirectory())
        let (from, name) = (randomName(), randomName())
        guard let file = tree.entries(source)[from] else { return }
        note("link \(file.id) as \(name) in \(directory.id)")
        let existing = tree.entries(directory)[name]
        do {
            let result = try await service.link(file, as: name, in: directory, by: user)
            try check(existing == nil && !tree.isDirectory(file), "LINK succeeded")
            tree.link(file, as: name, in: directory)
            try see(result.directory, directory)
            try check(result.attributes.linkCount == tree.linkCount(file), "links of \(file.id) after LINK")
            try check(changeTimes[file.id].map { result.attributes.changeTime > $0 } ?? true, "LINK changes the time")
            changeTimes[file.id] = result.attributes.changeTime
        } catch let error as FileError {
            let expected: FileError = tree.isDirectory(file) ? .invalidArgument : .alreadyExists
            try check(error == expected && (tree.isDirectory(file) || existing != nil), "LINK: \(error)")
        }
    }

    private mutating func makeSymbolicLink() async throws {
        let directory = randomDirectory()
        let name = randomName()
        let bytes = (0..<Int.random(in: 1...200, using: &random)).map { _ in UInt8.random(in: 1...255, using: &random) }
        let target = try LinkTarget(bytes)
        note("symlink \(name) in \(directory.id)")
        let existing = tree.entries(directory)[name]
        do {
            let created = try await service.makeSymbolicLink(
                name, in: directory, to: target, attributes: AttributeUpdate(), as: user)
            try check(existing == nil, "SYMLINK over what exists")
            tree.add(name, to: directory, created.entry.file, .symbolicLink(target))
            try see(created.directory, directory)
        } catch let error as FileError {
            try check(error == .alreadyExists && existing != nil, "SYMLINK: \(error)")
        }
    }

    private mutating func makeFIFO() async throws {
        let directory = randomDirectory()
        let name = randomName()
        note("mkfifo \(name) in \(directory.id)")
        let existing = tree.entries(directory)[name]
        do {
            let created = try await service.makeSpecialFile(
                name, in: directory, .fifo, attributes: AttributeUpdate(), as: user)
            try check(existing == nil, "MKNOD over what exists")
            tree.add(name, to: directory, created.entry.file, .fifo)
            try see(created.directory, directory)
        } catch let error as FileError {
            try check(error == .alreadyExists && existing != nil, "MKNOD: \(error)")
        }
    }

    /// A name was taken from the file: it is gone with the last one, and changed otherwise.
    private mutating func expectOneNameLess(_ file: FileReference) async throws {
        guard tree.nodes[file] != nil else { return try await expectStale(file) }
        let after = try await service.attributes(of: file).changeTime
        try check(changeTimes[file.id].map { after > $0 } ?? true, "the time of a file that lost a name")
        changeTimes[file.id] = after
    }

    private func expectStale(_ file: FileReference) async throws {
        do {
            _ = try await service.attributes(of: file)
            throw Violation("\(file.id) is not stale")
        } catch let error as FileError {
            try check(error == .stale, "GETATTR of what is gone: \(error)")
        }
    }

    // MARK: Checks

    private mutating func list(_ directory: FileReference) async throws {
        note("list \(directory.id)")
        let entries = try await service.entries(of: directory)
        let expected = tree.entries(directory)
        try check(
            entries.map(\.name).sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
                == expected.keys.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }, "names")
        for entry in entries {
            let node = expected[entry.name]
            try check(entry.entry?.file == node && entry.fileID == node?.id, "entry \(entry.name)")
            guard let node, let attributes = entry.entry?.attributes else { continue }
            try check(attributes.linkCount == tree.linkCount(node), "links of \(node.id)")
        }
        let own = try await service.attributes(of: directory)
        try check(own.linkCount == tree.linkCount(directory), "\(own.linkCount) links of \(directory.id)")
        let dotDot = try await service.lookUp(EmbeddedFileServiceTests.name(".."), in: directory, as: user).file
        try check(dotDot == tree.parents[directory], "the parent of \(directory.id)")
    }

    private mutating func checkAll() async throws {
        for directory in tree.directories { try await list(directory) }
        for (node, content) in tree.nodes { try await checkType(node, content) }
        for file in tree.files {
            let expected = tree[file].bytes
            let found = try await service.bytes(of: file)
            try check(found == expected, difference(found, expected, file))
            let attributes = try await service.attributes(of: file)
            try check(attributes.size == UInt64(expected.count), "size of \(file.id)")
            if let last = changeTimes[file.id] {
                try check(attributes.changeTime == last, "change time of \(file.id) moved by itself")
            }
        }
    }

    /// With all that was committed out of the journal.
    private mutating func checkWhenStriped() async throws {
        for file in tree.files { try await commit(file) }
        try await store.stripeEverything()
        for file in tree.files {
            try check(try await store.context(of: file).isClean, "\(file.id) has something pending")
            try await checkUsedBytes(file)
        }
        try await checkAll()
        try await store.core.checkNamespace()
    }

    private func checkType(_ node: FileReference, _ content: ModelTree.Content) async throws {
        let attributes = try await service.attributes(of: node)
        switch content {
        case .file: try check(attributes.type == .regular, "type of \(node.id)")
        case .directory: try check(attributes.type == .directory, "type of \(node.id)")
        case .fifo: try check(attributes.type == .fifo && attributes.size == 0, "\(node.id) is no fifo")
        case .symbolicLink(let target):
            let found = try await service.readLink(node, as: user)
            try check(found.target == target && found.attributes == attributes, "target of \(node.id)")
            try check(attributes.type == .symbolicLink && attributes.size == UInt64(target.bytes.count), "\(node.id)")
        }
    }

    private func difference(_ found: [UInt8], _ expected: [UInt8], _ file: FileReference) -> String {
        guard found.count == expected.count else { return "\(file.id): \(found.count) bytes, not \(expected.count)" }
        let first = zip(found, expected).enumerated().first { $0.element.0 != $0.element.1 }
        return "\(file.id) differs at \(first?.offset ?? -1)"
    }

    /// Attributes around a change: the change time strictly increases, whatever the clock does.
    private mutating func see(_ change: AttributeChange, _ node: FileReference) throws {
        try check(change.after.changeTime > change.before.changeTime, "the change time of \(node.id) did not increase")
        changeTimes[node.id] = tree.isDirectory(node) ? nil : change.after.changeTime
    }

    private func check(_ condition: Bool, _ what: @autoclosure () -> String) throws {
        if !condition { throw Violation(what()) }
    }

    private mutating func note(_ text: String) { history.append(text) }

    private mutating func randomName() -> FileName { names.randomElement(using: &random) ?? names[0] }
    private mutating func randomDirectory() -> FileReference {
        tree.directories.randomElement(using: &random) ?? tree.root
    }
}
