// Files with several names, and files that only stand for something.

import FileService
import Model
import Namespace
import Testing

@testable import EmbeddedFileService

@Suite("Links and special files", .timeLimit(.minutes(10)))
struct LinkTests {
    private let user = SimulatedStore.superuser

    private func openStore() async throws -> (SimulatedStore, root: FileReference) {
        let store = try SimulatedStore()
        try await store.open()
        return (store, try await store.service.rootReference())
    }

    @Test("a write through either of two names is one file, pending or durable, and one order")
    func twoNames() async throws {
        let (store, root) = try await openStore()
        let file = try await store.service.make("a")
        try await store.service.write(pattern(30_000, seed: 1), to: file)
        let linked = try await store.service.link(file, as: name("b"), in: root, by: user)
        #expect(linked.attributes.size == 30_000 && linked.attributes.linkCount == 2)
        let other = try await store.service.find("b")
        #expect(other == file)
        try await store.service.write([1, 2, 3], to: other, at: 10)
        try await store.service.commit(other)
        var expected = pattern(30_000, seed: 1)
        expected.replaceSubrange(10..<13, with: [1, 2, 3])
        #expect(try await store.service.bytes(of: file) == expected)
        try await store.restart()
        #expect(try await store.service.bytes(of: store.service.find("a")) == expected)
        #expect(try await store.service.bytes(of: store.service.find("b")) == expected)
        try await store.core.checkNamespace()
        await store.close()
    }

    @Test("the bytes stay while a name is left, unstable ones too, and are gone with the last")
    func removeOneName() async throws {
        let (store, root) = try await openStore()
        let file = try await store.service.make("a")
        try await store.service.write(pattern(20_000, seed: 2), to: file, .fileSync)
        _ = try await store.service.link(file, as: name("b"), in: root, by: user)
        try await store.service.write([9, 9], to: file, at: 20_000)
        let before = try await store.service.attributes(of: file)
        try await store.service.remove("a")
        let after = try await store.service.attributes(of: file)
        #expect(after.linkCount == 1 && after.size == 20_002 && after.changeTime > before.changeTime)
        #expect(after.modificationTime == before.modificationTime)
        try await store.service.commit(file)
        try await store.restart()
        #expect(try await store.service.bytes(of: file) == pattern(20_000, seed: 2) + [9, 9])
        try await store.service.remove("b")
        await #expect(throws: FileError.stale) { try await store.service.attributes(of: file) }
        try await store.restart()
        #expect(try await store.orphans() == [])
        try await store.core.checkNamespace()
        await store.close()
    }

    @Test("a rename over one of two names takes that name only")
    func renameOverOneName() async throws {
        let (store, root) = try await openStore()
        let file = try await store.service.make("a")
        try await store.service.write([1, 2, 3], to: file)
        _ = try await store.service.link(file, as: name("b"), in: root, by: user)
        let other = try await store.service.make("c")
        _ = try await store.service.rename(name("c"), in: root, to: name("b"), in: root, as: user)
        #expect(try await store.service.find("b") == other)
        #expect(try await store.service.attributes(of: file).linkCount == 1)
        #expect(try await store.service.bytes(of: file) == [1, 2, 3])
        try await store.core.checkNamespace()
        await store.close()
    }

    @Test("LINK is durable when it is answered", arguments: 0..<4 as Range<UInt64>)
    func powerCut(seed: UInt64) async throws {
        let (store, root) = try await openStore()
        let file = try await store.service.make("a")
        try await store.service.write(pattern(5000, seed: 3), to: file)
        try await store.service.commit(file)
        let times = try await store.service.link(file, as: name("b"), in: root, by: user).attributes
        _ = try await store.service.makeSymbolicLink(
            name("s"), in: root, to: LinkTarget([0xff, 0x2f]), attributes: AttributeUpdate(), as: user)
        _ = try await store.service.remove("a")
        await store.crash(seed: seed)
        try await store.open()
        #expect(try await store.service.find("b") == file)
        let attributes = try await store.service.attributes(of: file)
        #expect(attributes.linkCount == 1 && attributes.changeTime > times.changeTime)
        #expect(try await store.service.bytes(of: file) == pattern(5000, seed: 3))
        let link = try await store.service.find("s")
        #expect(try await store.service.readLink(link, as: user).target == LinkTarget([0xff, 0x2f]))
        await #expect(throws: FileError.notFound) { try await store.service.find("a") }
        try await store.core.checkNamespace()
        await store.close()
    }

    @Test("a file has at most as many names as PATHCONF says (RFC 1813 §3.3.15: NFS3ERR_MLINK)")
    func linkLimit() async throws {
        let (store, root) = try await openStore()
        let file = try await store.service.make("a")
        try await store.core.transact { transaction throws(FileError) in
            var inode = try transaction.existing(file)
            inode.linkCount = Limits.maxLinks - 1
            try transaction.put(.putInode(inode))
        }
        // What is in memory says 1 still.
        try await store.restart()
        let linked = try await store.service.link(file, as: name("b"), in: root, by: user)
        #expect(linked.attributes.linkCount == Limits.maxLinks)
        await #expect(throws: FileError.tooManyLinks) {
            try await store.service.link(file, as: name("c"), in: root, by: user)
        }
        await #expect(throws: FileError.notFound) { try await store.service.find("c") }
        #expect(try await store.service.attributes(of: file).linkCount == Limits.maxLinks)
        await store.close()
    }

    @Test("LINK, a write and a truncate of one file at once end in one of their orders")
    func concurrent() async throws {
        let (store, root) = try await openStore()
        let file = try await store.service.make("a")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 {
                group.addTask { [service = store.service, user] in
                    _ = try await service.link(file, as: name("l\(number)"), in: root, by: user)
                }
                group.addTask { [service = store.service] in
                    try await service.write(pattern(3000, seed: 1), to: file, at: UInt64(number) * 3000)
                    try await service.commit(file)
                }
                if number % 2 == 1 {
                    try await store.service.make("r\(number)")
                    group.addTask { [service = store.service] in try await service.remove("r\(number)") }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await store.service.attributes(of: file).linkCount == 21)
        for number in 0..<20 {
            let bytes = try await store.service.bytes(of: file, from: UInt64(number) * 3000, count: 3000)
            #expect(bytes == pattern(3000, seed: 1))
        }
        try await store.core.checkNamespace()
        await store.close()
    }

    @Test("a symbolic link is never resolved, has its own owner, mode and times, and no bytes")
    func symbolicLinkAttributes() async throws {
        let (store, root) = try await openStore()
        let link = try await store.service.makeSymbolicLink(
            name("s"), in: root, to: LinkTarget(Array("a/b".utf8)), attributes: AttributeUpdate(mode: 0o755), as: user
        ).entry
        #expect(link.attributes.mode == 0o755 && link.attributes.size == 3 && link.attributes.usedBytes == 0)
        let time = Timestamp(seconds: 77, nanoseconds: 5)
        let change = try await store.service.setAttributes(
            of: link.file, to: AttributeUpdate(uid: 7, gid: 8, accessTime: .to(time), modificationTime: .to(time)),
            guardTime: nil, as: user)
        #expect(change.after.uid == 7 && change.after.gid == 8 && change.after.modificationTime == time)
        await #expect(throws: FileError.invalidArgument) { try await store.service.truncate(link.file, to: 0) }
        await #expect(throws: FileError.notDirectory) {
            try await store.service.lookUp(name("x"), in: link.file, as: user)
        }
        try await store.restart()
        #expect(try await store.service.attributes(of: link.file) == change.after)
        await store.close()
    }
}
