// How deep directories go: bounded, so that no walk up is long.

import FileService
import Model
import Namespace
import Platform
import Testing

@testable import EmbeddedFileService

@Suite("Depth of directories", .timeLimit(.minutes(10)))
struct DirectoryDepthTests {
    private let store: SimulatedStore
    private let user = SimulatedStore.superuser
    private let max = Limits.maxDirectoryDepth

    init() async throws {
        store = try SimulatedStore()
        try await store.open()
    }

    private var service: EmbeddedFileService { store.service }

    /// So many directories, one in the other, by the names "d"; the top one has the name that is given. Returns them from
    /// the top down. Made in few bodies, without the checks of MKDIR.
    private func chain(_ count: Int, _ top: String, in start: FileReference) async throws -> [FileReference] {
        var made: [FileReference] = []
        while made.count < count {
            let parent = made.last ?? start
            let names = (made.count..<min(made.count + 256, count)).map { name($0 == 0 ? top : "d") }
            made += try await store.core.transact {
                [core = store.core, user] transaction throws(FileError) in
                var made: [FileReference] = []
                var directory = try transaction.directory(parent)
                for name in names {
                    let now = core.clock.now()
                    var inode = try core.newInode(
                        .directory, AttributeUpdate(), in: directory, as: user, now: now, &transaction)
                    inode.parent = directory.id
                    inode.linkCount = 2
                    made.append(
                        try core.link(inode, as: name, into: directory, by: user, now: now, &transaction).entry.file)
                    directory = inode
                }
                return made
            }
        }
        return made
    }

    private func makeDirectory(_ text: String, in directory: FileReference) async throws(FileError) -> FileReference {
        try await service.makeDirectory(name(text), in: directory, attributes: AttributeUpdate(), as: user).entry.file
    }

    private func rename(
        _ text: String, in directory: FileReference, to other: String, in target: FileReference
    ) async throws(FileError) {
        _ = try await service.rename(name(text), in: directory, to: name(other), in: target, as: user)
    }

    private func finish() async throws {
        try await store.core.checkNamespace()
        await store.close()
    }

    @Test("MKDIR goes down to the limit, and is ENAMETOOLONG there; files are still made (RFC 1813 §3.3.9)")
    func makeDirectories() async throws {
        let chain = try await chain(max - 1, "top", in: service.rootReference())
        let last = try await makeDirectory("last", in: chain[max - 2])
        await #expect(throws: FileError.nameTooLong) { try await makeDirectory("below", in: last) }
        await #expect(throws: FileError.notFound) { try await service.find("below", in: last) }
        _ = try await service.removeDirectory(name("last"), from: chain[max - 2], as: user)
        let again = try await makeDirectory("again", in: chain[max - 2])
        try await service.make("file", in: again)
        try await finish()
    }

    @Test("RENAME brings no directory below the limit, but files, and is free within one directory (RFC 1813 §3.3.14)")
    func renameDirectories() async throws {
        let root = try await service.rootReference()
        let chain = try await chain(max, "top", in: root)
        let deepest = chain[max - 1]
        _ = try await makeDirectory("moved", in: root)
        await #expect(throws: FileError.nameTooLong) { try await rename("moved", in: root, to: "x", in: deepest) }
        try await rename("moved", in: root, to: "x", in: chain[max - 2])
        try await rename("x", in: chain[max - 2], to: "y", in: chain[max - 2])
        try await service.make("file", in: root)
        try await rename("file", in: root, to: "file", in: deepest)
        // A directory into itself is found out as deep as directories are made.
        await #expect(throws: FileError.invalidArgument) { try await rename("top", in: root, to: "x", in: deepest) }
        try await finish()
    }

    @Test("depths that a deep directory took along end each walk with an error, and lead up and out again")
    func movedDepths() async throws {
        let root = try await service.rootReference()
        let upper = try await chain(max - 1, "upper", in: root)
        let lower = try await chain(max, "lower", in: root)
        try await rename("lower", in: root, to: "lower", in: upper[max - 2])
        let deepest = lower[max - 1]
        await #expect(throws: FileError.nameTooLong) { try await makeDirectory("x", in: deepest) }
        // Whether it is in itself can't be seen from there, so it must not move.
        await #expect(throws: FileError.nameTooLong) { try await rename("upper", in: root, to: "x", in: deepest) }
        try await rename("lower", in: upper[max - 2], to: "lower", in: root)
        await #expect(throws: FileError.invalidArgument) { try await rename("lower", in: root, to: "x", in: deepest) }
        try await finish()
    }
}
