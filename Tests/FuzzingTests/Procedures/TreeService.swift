// A file service in memory that ends the process when it is asked for what the protocol layer must not ask for.
// It keeps names and sizes; bytes read as zeroes. Every n-th call fails, with one error after the other.
//
// Used by one thread only (runToEnd), hence without locks.

import FileService
import Model
import NIOCore
import Platform

final class TreeService: FileService, @unchecked Sendable {
    static let root = reference(0)

    private struct Node {
        var attributes: FileAttributes
        var target: LinkTarget?
        /// Directories: in the order in which they came. The cookie of an entry stays when others go.
        var entries: [(name: FileName, cookie: UInt64, child: Int)] = []
    }

    private struct State {
        /// By number; nil: removed.
        var nodes: [Node?]
        var calls = 0
        var clock: Int64 = 1000
        var nextCookie: UInt64 = 3
    }

    private var state: State
    private let failingEvery: Int
    /// Who may ask for something now; without one nobody may ask for anything.
    var permits: [Permit] = []
    /// Directories whose parent is nobody's to see now.
    var hiddenParents: [FileID] = []

    init(failingEvery: Int) {
        self.failingEvery = failingEvery
        var nodes: [Node?] = []
        for type in [FileType.directory, .regular, .directory] {
            nodes.append(Node(attributes: Self.attributes(nodes.count, type)))
        }
        for (text, child) in [("f", 1), ("d", 2)] {
            guard let name = try? FileName(Array(text.utf8)) else { fatalError("\(text) is no name") }
            nodes[0]?.entries.append((name, UInt64(child), child))
        }
        state = State(nodes: nodes)
    }

    private static func reference(_ number: Int) -> FileReference {
        FileReference(id: FileID(rawValue: UInt64(number) + 1), generation: FileGeneration(rawValue: 17))
    }

    /// The file that was made as the `number`-th; it may be gone or never have been.
    func file(number: Int) -> FileReference { Self.reference(number) }

    private static func attributes(_ number: Int, _ type: FileType) -> FileAttributes {
        let time = Timestamp(seconds: 1000, nanoseconds: 1)
        return FileAttributes(
            fileID: reference(number).id, type: type, mode: 0o755, linkCount: 1, uid: 1, gid: 2, size: 0, usedBytes: 0,
            accessTime: time, modificationTime: time, changeTime: time)
    }

    // MARK: Doing

    private func run<Value>(_ body: (inout State) throws(FileError) -> Value) throws(FileError) -> Value {
        hold(!permits.isEmpty, "a caller who is not admitted gets as far as the file service")
        state.calls += 1
        state.clock += 1
        if failingEvery > 0, state.calls % failingEvery == 0 {
            throw FileError.allCases[state.calls / failingEvery % FileError.allCases.count]
        }
        return try body(&state)
    }

    private static func number(_ file: FileReference, _ state: State) throws(FileError) -> Int {
        let number = Int(truncatingIfNeeded: file.id.rawValue &- 1)
        guard number >= 0, number < state.nodes.count, file.generation == root.generation, state.nodes[number] != nil
        else { throw .stale }
        return number
    }

    private static func directory(_ file: FileReference, _ state: State) throws(FileError) -> Int {
        let number = try number(file, state)
        guard state.nodes[number]?.attributes.type == .directory else { throw .notDirectory }
        return number
    }

    private static func change(
        _ number: Int, _ state: inout State, _ body: (inout Node) -> Void = { _ in }
    ) -> AttributeChange {
        guard var node = state.nodes[number] else { fatalError("file \(number) is gone") }
        let before = node.attributes
        body(&node)
        node.attributes.changeTime = Timestamp(seconds: state.clock, nanoseconds: 0)
        state.nodes[number] = node
        return AttributeChange(before: before, after: node.attributes)
    }

    private static func entry(_ number: Int, _ state: State) -> FileEntry {
        guard let node = state.nodes[number] else { fatalError("file \(number) is gone") }
        return FileEntry(file: reference(number), attributes: node.attributes)
    }

    private static func child(_ name: FileName, _ directory: Int, _ state: State) -> Int? {
        state.nodes[directory]?.entries.first { $0.name == name }?.child
    }

    /// Of the root, itself.
    private static func parent(_ directory: Int, _ state: State) -> Int {
        state.nodes.firstIndex { $0?.entries.contains { $0.child == directory } == true } ?? 0
    }

    /// Whether a directory is `other` or below it.
    private static func isInside(_ directory: Int, _ other: Int, _ state: State) -> Bool {
        directory == other || directory != 0 && isInside(parent(directory, state), other, state)
    }

    /// The same, by their ids.
    func isInside(_ directory: UInt64, _ other: FileID) -> Bool {
        Self.isInside(Int(directory) - 1, Int(other.rawValue) - 1, state)
    }

    private func add(
        _ type: FileType, _ name: FileName, to directory: FileReference, target: LinkTarget? = nil,
        device: DeviceNumber? = nil
    ) throws(FileError) -> CreatedEntry {
        checkOwn(name)
        return try run { state throws(FileError) in
            let parent = try Self.directory(directory, state)
            if Self.child(name, parent, state) != nil { throw .alreadyExists }
            let number = state.nodes.count
            var node = Node(attributes: Self.attributes(number, type), target: target)
            node.attributes.device = device
            state.nodes.append(node)
            let cookie = state.nextCookie
            state.nextCookie += 1
            let change = Self.change(parent, &state) { $0.entries.append((name, cookie, number)) }
            return CreatedEntry(entry: Self.entry(number, state), directory: change)
        }
    }

    private func take(
        _ name: FileName, from directory: FileReference, isDirectory: Bool
    ) throws(FileError) -> AttributeChange {
        checkOwn(name)
        return try run { state throws(FileError) in
            let parent = try Self.directory(directory, state)
            guard let child = Self.child(name, parent, state), let node = state.nodes[child] else { throw .notFound }
            guard (node.attributes.type == .directory) == isDirectory else {
                throw isDirectory ? FileError.notDirectory : FileError.isDirectory
            }
            guard node.entries.isEmpty else { throw .notEmpty }
            if node.attributes.linkCount > 1 {
                _ = Self.change(child, &state) { $0.attributes.linkCount -= 1 }
            } else {
                state.nodes[child] = nil
            }
            return Self.change(parent, &state) { $0.entries.removeAll { $0.name == name } }
        }
    }

    // MARK: What must not be asked for

    private func check(_ caller: Credentials, changes: Bool = false) {
        hold(
            permits.contains { $0.caller == caller && ($0.mayChange || !changes) },
            "\(caller) asks\(changes ? " for a change" : ""), where may: \(permits)")
    }

    private func checkOwn(_ name: FileName) { hold(!name.isDot && !name.isDotDot, "\(name) is to be made or removed") }

    private func check(_ update: AttributeUpdate) {
        hold((update.mode ?? 0) <= 0o7777, "mode \(update.mode ?? 0)")
        hold((update.size ?? 0) <= Limits.maxFileBytes, "size \(update.size ?? 0)")
    }

    // MARK: The service

    func root() async throws(FileError) -> FileEntry { try run { Self.entry(0, $0) } }

    func attributes(of file: FileReference) async throws(FileError) -> FileAttributes {
        try run { state throws(FileError) in Self.entry(try Self.number(file, state), state).attributes }
    }

    func setAttributes(
        of file: FileReference, to update: AttributeUpdate, guardTime: Timestamp?, as caller: Credentials
    ) async throws(FileError) -> AttributeChange {
        check(caller, changes: true)
        check(update)
        return try run { state throws(FileError) in
            let number = try Self.number(file, state)
            if let guardTime, state.nodes[number]?.attributes.changeTime != guardTime { throw .notSynchronized }
            return Self.change(number, &state) { node in
                node.attributes.mode = update.mode ?? node.attributes.mode
                node.attributes.size = update.size ?? node.attributes.size
                if case .to(let time) = update.modificationTime { node.attributes.modificationTime = time }
            }
        }
    }

    func lookUp(
        _ name: FileName, in directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> FileEntry {
        // The gateway itself follows ".." to see whether a directory is in the export.
        if !name.isDotDot || caller != Credentials(uid: 0, gid: 0, groups: []) { check(caller) }
        hold(!name.isDotDot || !hiddenParents.contains(directory.id), "the way out of an export is looked up")
        return try run { state throws(FileError) in
            let parent = try Self.directory(directory, state)
            if name.isDot { return Self.entry(parent, state) }
            if name.isDotDot { return Self.entry(Self.parent(parent, state), state) }
            guard let child = Self.child(name, parent, state) else { throw .notFound }
            return Self.entry(child, state)
        }
    }

    func access(
        to file: FileReference, rights: AccessRights, as caller: Credentials
    ) async throws(FileError) -> (granted: AccessRights, attributes: FileAttributes) {
        check(caller)
        return try run { state throws(FileError) in
            (
                rights.intersection([.read, .lookup, .modify]),
                Self.entry(try Self.number(file, state), state).attributes
            )
        }
    }

    private static let zeroes = ByteBuffer(repeating: 0, count: Limits.maxTransferBytes)

    func read(
        _ file: FileReference, offset: UInt64, count: Int, as caller: Credentials
    ) async throws(FileError) -> ReadResult {
        check(caller)
        hold(offset <= Limits.maxFileBytes && count >= 0 && count <= Limits.maxTransferBytes, "READ \(offset) \(count)")
        return try run { state throws(FileError) in
            let attributes = Self.entry(try Self.number(file, state), state).attributes
            guard attributes.type == .regular else { throw .isDirectory }
            let there = attributes.size > offset ? Int(min(UInt64(count), attributes.size - offset)) : 0
            let payload = Self.zeroes.getSlice(at: 0, length: there).map { Payload($0) } ?? Payload()
            return ReadResult(
                payload: payload, isAtEnd: offset + UInt64(there) >= attributes.size, attributes: attributes)
        }
    }

    func write(
        _ payload: Payload, to file: FileReference, offset: UInt64, stability: WriteStability, as caller: Credentials
    ) async throws(FileError) -> WriteResult {
        check(caller, changes: true)
        let end = offset.addingReportingOverflow(UInt64(payload.count))
        hold(
            payload.count <= Limits.maxTransferBytes && !end.overflow && end.partialValue <= Limits.maxFileBytes,
            "WRITE \(offset) \(payload.count)")
        return try run { state throws(FileError) in
            let number = try Self.number(file, state)
            guard state.nodes[number]?.attributes.type == .regular else { throw .isDirectory }
            let change = Self.change(number, &state) {
                $0.attributes.size = max($0.attributes.size, payload.isEmpty ? 0 : end.partialValue)
            }
            return WriteResult(stability: stability, verifier: WriteVerifier(rawValue: 5), change: change)
        }
    }

    func commit(
        _ file: FileReference, offset: UInt64, count: UInt64, as caller: Credentials
    ) async throws(FileError) -> CommitResult {
        check(caller)
        return try run { state throws(FileError) in
            let number = try Self.number(file, state)
            return CommitResult(verifier: WriteVerifier(rawValue: 5), change: Self.change(number, &state))
        }
    }

    func create(
        _ name: FileName, in directory: FileReference, mode: CreateMode, as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        check(caller, changes: true)
        switch mode {
        case .unchecked(let update), .guarded(let update): check(update)
        case .exclusive: break
        }
        return try add(.regular, name, to: directory)
    }

    func makeDirectory(
        _ name: FileName, in directory: FileReference, attributes: AttributeUpdate, as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        check(caller, changes: true)
        check(attributes)
        return try add(.directory, name, to: directory)
    }

    func readLink(
        _ file: FileReference, as caller: Credentials
    ) async throws(FileError) -> (target: LinkTarget, attributes: FileAttributes) {
        check(caller)
        return try run { state throws(FileError) in
            let number = try Self.number(file, state)
            guard let node = state.nodes[number], let target = node.target else { throw .invalidArgument }
            return (target, node.attributes)
        }
    }

    func makeSymbolicLink(
        _ name: FileName, in directory: FileReference, to target: LinkTarget, attributes: AttributeUpdate,
        as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        check(caller, changes: true)
        check(attributes)
        return try add(.symbolicLink, name, to: directory, target: target)
    }

    func makeSpecialFile(
        _ name: FileName, in directory: FileReference, _ kind: SpecialFile, attributes: AttributeUpdate,
        as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        check(caller, changes: true)
        check(attributes)
        switch kind {
        case .fifo: return try add(.fifo, name, to: directory)
        case .socket: return try add(.socket, name, to: directory)
        case .blockDevice(let device): return try add(.blockDevice, name, to: directory, device: device)
        case .characterDevice(let device): return try add(.characterDevice, name, to: directory, device: device)
        }
    }

    func link(
        _ file: FileReference, as name: FileName, in directory: FileReference, by caller: Credentials
    ) async throws(FileError) -> LinkResult {
        check(caller, changes: true)
        checkOwn(name)
        return try run { state throws(FileError) in
            let (number, parent) = (try Self.number(file, state), try Self.directory(directory, state))
            guard state.nodes[number]?.attributes.type != .directory else { throw .isDirectory }
            if Self.child(name, parent, state) != nil { throw .alreadyExists }
            let cookie = state.nextCookie
            state.nextCookie += 1
            let change = Self.change(parent, &state) { $0.entries.append((name, cookie, number)) }
            let linked = Self.change(number, &state) { $0.attributes.linkCount += 1 }
            return LinkResult(attributes: linked.after, directory: change)
        }
    }

    func remove(
        _ name: FileName, from directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> AttributeChange {
        check(caller, changes: true)
        return try take(name, from: directory, isDirectory: false)
    }

    func removeDirectory(
        _ name: FileName, from directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> AttributeChange {
        check(caller, changes: true)
        return try take(name, from: directory, isDirectory: true)
    }

    func rename(
        _ name: FileName, in directory: FileReference, to newName: FileName, in newDirectory: FileReference,
        as caller: Credentials
    ) async throws(FileError) -> RenameResult {
        check(caller, changes: true)
        checkOwn(name)
        checkOwn(newName)
        return try run { state throws(FileError) in
            let (from, to) = (try Self.directory(directory, state), try Self.directory(newDirectory, state))
            guard let child = Self.child(name, from, state) else { throw .notFound }
            guard Self.child(newName, to, state) == nil else { throw .alreadyExists }
            guard !Self.isInside(to, child, state) else { throw .invalidArgument }
            let cookie = state.nextCookie
            state.nextCookie += 1
            let source = Self.change(from, &state) { $0.entries.removeAll { $0.name == name } }
            let target = Self.change(to, &state) { $0.entries.append((newName, cookie, child)) }
            return RenameResult(source: source, target: target)
        }
    }

    func list(
        _ directory: FileReference, after cookie: UInt64, maxEntries: Int, withAttributes: Bool,
        as caller: Credentials
    ) async throws(FileError) -> DirectoryListing {
        check(caller)
        hold(maxEntries >= 1 && maxEntries <= 64 << 10, "a listing of \(maxEntries) entries")
        return try run { state throws(FileError) in
            let number = try Self.directory(directory, state)
            guard let node = state.nodes[number] else { throw .stale }
            let rest = node.entries.filter { $0.cookie > cookie }
            let entries = rest.prefix(maxEntries).map { entry in
                DirectoryEntry(
                    name: entry.name, cookie: entry.cookie, fileID: Self.reference(entry.child).id,
                    entry: withAttributes && state.nodes[entry.child] != nil ? Self.entry(entry.child, state) : nil)
            }
            return DirectoryListing(
                entries: entries, isAtEnd: rest.count <= maxEntries, attributes: node.attributes)
        }
    }

    func space() async throws(FileError) -> FileSystemSpace {
        try run { _ in
            FileSystemSpace(totalBytes: 9, freeBytes: 8, availableBytes: 7, totalFiles: 6, freeFiles: 5)
        }
    }
}
