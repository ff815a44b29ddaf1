// Looking at rows without waiting for the namespace thread.

import FaultInjection
import Glibc
import Model
import Testing

@testable import Namespace

@Suite("A glance at the namespace", .timeLimit(.minutes(10)))
struct GlanceTests {
    private static let a = Fixture.name("a")
    private static let b = Fixture.name("b")

    /// What glances at both names say, in one word each.
    private static func glances(_ namespace: Namespace) -> [String] {
        [a, b].map { name in
            switch namespace.glance(at: name, in: .root) {
            case .present: "present"
            case .absent: "absent"
            case .unknown: "unknown"
            }
        }
    }

    private static func move(_ transaction: inout Transaction) throws(NamespaceError) {
        guard let entry = try transaction.entry(.root, a), var root = try transaction.inode(.root) else {
            throw .damaged("nothing to move")
        }
        try transaction.mutate(.removeEntry(directory: .root, name: a))
        try transaction.mutate(.putEntry(directory: .root, name: b, cookie: root.nextCookie, child: entry.child))
        root.nextCookie += 1
        try transaction.mutate(.putInode(root))
    }

    @Test("shows what bodies left, nothing of a running one, and nothing of one that threw")
    func bodies() async throws {
        let namespace = try Fixture().open()
        #expect(Self.glances(namespace) == ["unknown", "unknown"])
        let id = try await namespace.create(Self.a, size: 5)
        #expect(try await namespace.child(Self.b) == nil)
        #expect(Self.glances(namespace) == ["present", "absent"])

        await #expect(throws: TestFailure.refused) {
            try await namespace.perform { transaction throws(TestFailure) in
                do throws(NamespaceError) { try Self.move(&transaction) } catch { throw .namespace(error) }
                #expect(Self.glances(namespace) == ["unknown", "unknown"])
                if case .present = namespace.glance(at: .root) { Issue.record("a row in change is shown") }
                throw .refused
            }
        }
        #expect(try await namespace.child(Self.a) == id)
        #expect(try await namespace.child(Self.b) == nil)
        #expect(Self.glances(namespace) == ["present", "absent"])

        try await namespace.perform { transaction throws(NamespaceError) in try Self.move(&transaction) }
        #expect(Self.glances(namespace) == ["absent", "present"])
        guard case .present(let inode) = namespace.glance(at: id) else {
            Issue.record("the inode is not shown")
            return
        }
        #expect(inode == Fixture.inode(id, size: 5))
        await namespace.close()
    }

    @Test(
        "shows nothing any more when what bodies left could not be made durable, or no mirror is left",
        arguments: [true, false])
    func failure(ofLog: Bool) async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        try await namespace.create(Self.a)
        #expect(Self.glances(namespace)[0] == "present")
        if ofLog {
            fixture.log.fail()
        } else {
            for mirror in fixture.mirrors { try? await namespace.dropMirror(on: mirror.volume) }
        }
        await #expect(throws: (any Error).self) { try await namespace.create(Self.b) }
        #expect(Self.glances(namespace) == ["unknown", "unknown"])
        await namespace.close()
    }
}
