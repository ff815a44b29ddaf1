// What the cache of rows leaves out.

import Model
import Testing

@testable import Namespace

@Suite("Cached rows")
struct MetadataCacheTests {
    @Test("links with long targets are not kept, so that the bound on inodes is one on bytes", arguments: [256, 257])
    func longTargets(count: Int) throws {
        let id = FileID(rawValue: 5)
        var inode = Fixture.inode(id, .symbolicLink)
        inode.linkTarget = try LinkTarget(Array(repeating: 1, count: count))
        let cache = MetadataCache(limit: 10)
        cache.add(.present(inode), for: id)
        #expect((cache.inode(id)?.value == inode) == (count == 256))
        cache.hide(id)
        var rows = MetadataCache.Rows()
        rows.inodes[id] = .present(inode)
        cache.show(rows)
        #expect((cache.inode(id)?.value == inode) == (count == 256))
    }

    @Test("a link with a long target is read again, also by the body that follows in its batch")
    func readAgain() async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let id = try await namespace.create(Fixture.name("a"))
        let target = try LinkTarget(Array(repeating: 7, count: Limits.maxLinkTargetBytes))
        try await namespace.perform { transaction throws(NamespaceError) in
            var inode = Fixture.inode(id, .symbolicLink)
            inode.linkTarget = target
            try transaction.mutate(.putInode(inode))
        }
        let found = try await namespace.perform { transaction throws(NamespaceError) in try transaction.inode(id) }
        #expect(found?.linkTarget == target)
        await namespace.close()
    }
}
