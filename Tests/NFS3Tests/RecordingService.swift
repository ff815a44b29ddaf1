// A file service whose outcomes a test sets, and which remembers what it was asked.

import FileService
import Model
import Platform
import Synchronization

final class RecordingService: FileService {
    enum Call: Equatable {
        case setAttributes(FileReference, AttributeUpdate, guardTime: Timestamp?)
        case lookUp(String, FileReference)
        case access(FileReference, AccessRights)
        case read(FileReference, offset: UInt64, count: Int)
        case write([UInt8], FileReference, offset: UInt64, WriteStability)
        case commit(FileReference, offset: UInt64, count: UInt64)
        case create(String, FileReference, CreateMode)
        case makeDirectory(String, FileReference, AttributeUpdate)
        case makeSymbolicLink(String, FileReference, [UInt8], AttributeUpdate)
        case makeSpecialFile(String, FileReference, SpecialFile, AttributeUpdate)
        case link(FileReference, String, FileReference)
        case readLink(FileReference)
        case remove(String, FileReference)
        case removeDirectory(String, FileReference)
        case rename(String, FileReference, String, FileReference)
        case list(FileReference, after: UInt64, maxEntries: Int, withAttributes: Bool)
        case space
    }

    struct State {
        var calls: [Call] = []
        var callers: [Credentials] = []
        /// Thrown by everything but `attributes(of:)` and `root`.
        var failure: FileError?
        var attributesFailure: FileError?
        var files: [FileReference: FileAttributes] = [
            Fixture.root: Fixture.rootAttributes, Fixture.file: Fixture.fileAttributes,
            Fixture.other: Fixture.otherAttributes,
        ]
        /// Where names lead; all others to `notFound`.
        var names: [String: FileReference] = ["file": Fixture.file, "other": Fixture.other]
        var granted: AccessRights = [.read, .lookup]
        var readResult = ReadResult(payload: Payload(), isAtEnd: true, attributes: Fixture.fileAttributes)
        var stability = WriteStability.unstable
        var entries: [DirectoryEntry] = []
        /// The directory goes on after `entries`.
        var hasMoreEntries = false
    }

    private let state = Mutex(State())

    init(_ change: (inout State) -> Void = { _ in }) { set(change) }

    func set(_ change: (inout State) -> Void) { state.withLock { change(&$0) } }
    var calls: [Call] { state.withLock { $0.calls } }
    var callers: [Credentials] { state.withLock { $0.callers } }

    private func record(_ call: Call, as caller: Credentials?) throws(FileError) -> State {
        let state = self.state.withLock { state in
            state.calls.append(call)
            if let caller { state.callers.append(caller) }
            return state
        }
        if let failure = state.failure { throw failure }
        return state
    }

    func root() async throws(FileError) -> FileEntry {
        if let failure = state.withLock({ $0.failure }) { throw failure }
        return FileEntry(file: Fixture.root, attributes: Fixture.rootAttributes)
    }

    func attributes(of file: FileReference) async throws(FileError) -> FileAttributes {
        let state = self.state.withLock { $0 }
        if let failure = state.attributesFailure { throw failure }
        guard let attributes = state.files[file] else { throw .stale }
        return attributes
    }

    func setAttributes(
        of file: FileReference, to update: AttributeUpdate, guardTime: Timestamp?, as caller: Credentials
    ) async throws(FileError) -> AttributeChange {
        _ = try record(.setAttributes(file, update, guardTime: guardTime), as: caller)
        return Fixture.change
    }

    func lookUp(
        _ name: FileName, in directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> FileEntry {
        let state = try record(.lookUp(name.description, directory), as: caller)
        guard let file = state.names[name.description], let attributes = state.files[file] else { throw .notFound }
        return FileEntry(file: file, attributes: attributes)
    }

    func access(
        to file: FileReference, rights: AccessRights, as caller: Credentials
    ) async throws(FileError) -> (granted: AccessRights, attributes: FileAttributes) {
        let state = try record(.access(file, rights), as: caller)
        return (state.granted, Fixture.fileAttributes)
    }

    func read(
        _ file: FileReference, offset: UInt64, count: Int, as caller: Credentials
    ) async throws(FileError) -> ReadResult {
        try record(.read(file, offset: offset, count: count), as: caller).readResult
    }

    func write(
        _ payload: Payload, to file: FileReference, offset: UInt64, stability: WriteStability, as caller: Credentials
    ) async throws(FileError) -> WriteResult {
        let state = try record(.write(payload.bytes, file, offset: offset, stability), as: caller)
        return WriteResult(stability: state.stability, verifier: Fixture.verifier, change: Fixture.change)
    }

    func commit(
        _ file: FileReference, offset: UInt64, count: UInt64, as caller: Credentials
    ) async throws(FileError) -> CommitResult {
        _ = try record(.commit(file, offset: offset, count: count), as: caller)
        return CommitResult(verifier: Fixture.verifier, change: Fixture.change)
    }

    func create(
        _ name: FileName, in directory: FileReference, mode: CreateMode, as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        _ = try record(.create(name.description, directory, mode), as: caller)
        return Fixture.created
    }

    func makeDirectory(
        _ name: FileName, in directory: FileReference, attributes: AttributeUpdate, as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        _ = try record(.makeDirectory(name.description, directory, attributes), as: caller)
        return Fixture.created
    }

    func readLink(
        _ file: FileReference, as caller: Credentials
    ) async throws(FileError) -> (target: LinkTarget, attributes: FileAttributes) {
        _ = try record(.readLink(file), as: caller)
        return (Fixture.linkTarget, Fixture.otherAttributes)
    }

    func makeSymbolicLink(
        _ name: FileName, in directory: FileReference, to target: LinkTarget, attributes: AttributeUpdate,
        as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        _ = try record(.makeSymbolicLink(name.description, directory, target.bytes, attributes), as: caller)
        return Fixture.created
    }

    func makeSpecialFile(
        _ name: FileName, in directory: FileReference, _ kind: SpecialFile, attributes: AttributeUpdate,
        as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        _ = try record(.makeSpecialFile(name.description, directory, kind, attributes), as: caller)
        return Fixture.created
    }

    func link(
        _ file: FileReference, as name: FileName, in directory: FileReference, by caller: Credentials
    ) async throws(FileError) -> LinkResult {
        _ = try record(.link(file, name.description, directory), as: caller)
        return LinkResult(attributes: Fixture.otherAttributes, directory: Fixture.change)
    }

    func remove(
        _ name: FileName, from directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> AttributeChange {
        _ = try record(.remove(name.description, directory), as: caller)
        return Fixture.change
    }

    func removeDirectory(
        _ name: FileName, from directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> AttributeChange {
        _ = try record(.removeDirectory(name.description, directory), as: caller)
        return Fixture.change
    }

    func rename(
        _ name: FileName, in directory: FileReference, to newName: FileName, in newDirectory: FileReference,
        as caller: Credentials
    ) async throws(FileError) -> RenameResult {
        _ = try record(.rename(name.description, directory, newName.description, newDirectory), as: caller)
        return RenameResult(source: Fixture.change, target: Fixture.otherChange)
    }

    func list(
        _ directory: FileReference, after cookie: UInt64, maxEntries: Int, withAttributes: Bool,
        as caller: Credentials
    ) async throws(FileError) -> DirectoryListing {
        let state = try record(
            .list(directory, after: cookie, maxEntries: maxEntries, withAttributes: withAttributes), as: caller)
        let rest = state.entries.filter { $0.cookie > cookie }
        return DirectoryListing(
            entries: Array(rest.prefix(maxEntries)), isAtEnd: !state.hasMoreEntries && rest.count <= maxEntries,
            attributes: Fixture.rootAttributes)
    }

    func space() async throws(FileError) -> FileSystemSpace {
        _ = try record(.space, as: nil)
        return FileSystemSpace(
            totalBytes: 0x10_0000_0001, freeBytes: 0x20_0000_0002, availableBytes: 0x30_0000_0003,
            totalFiles: 0x40_0000_0004, freeFiles: 0x50_0000_0005)
    }
}
