// Looking at rows without waiting for the namespace thread.

import FaultInjection
import Glibc
import Model
import Synchronization
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

    private static func glance(_ namespace: Namespace, _ name: FileName, _ directory: FileID) -> String {
        switch namespace.glance(at: name, in: directory) {
        case .present: "present"
        case .absent: "absent"
        case .unknown: "unknown"
        }
    }

    @Test("of a directory that was made since the start it knows what isn't there, until some of it is forgotten")
    func newDirectory() async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open(cacheLimit: 16)
        let (old, new) = (FileID.root, try await namespace.makeDirectory(Fixture.name("d")))
        #expect(Self.glance(namespace, Self.a, new) == "absent" && Self.glance(namespace, Self.a, old) == "unknown")
        try await namespace.perform { transaction throws(NamespaceError) in
            try transaction.mutate(.putEntry(directory: new, name: Self.a, cookie: 3, child: new))
            #expect(Self.glance(namespace, Self.a, new) == "unknown")
            #expect(Self.glance(namespace, Self.b, new) == "unknown")
        }
        #expect(Self.glance(namespace, Self.a, new) == "present" && Self.glance(namespace, Self.b, new) == "absent")
        try await namespace.perform { transaction throws(NamespaceError) in
            try transaction.mutate(.removeEntry(directory: new, name: Self.a))
        }
        #expect(Self.glance(namespace, Self.a, new) == "absent")
        // More than there is room for, in another one.
        for index in 0..<20 { try await namespace.create(Fixture.name("\(index)")) }
        #expect(Self.glance(namespace, Self.b, new) == "unknown")
        await namespace.close()
    }

    @Test("a body that threw leaves nothing of a directory known that it changed")
    func newDirectoryAndThrow() async throws {
        let namespace = try Fixture().open()
        let directory = try await namespace.makeDirectory(Fixture.name("d"))
        let other = try await namespace.makeDirectory(Fixture.name("e"))
        try await namespace.perform { transaction throws(NamespaceError) in
            try transaction.mutate(.putEntry(directory: directory, name: Self.a, cookie: 3, child: other))
        }
        await #expect(throws: TestFailure.refused) {
            try await namespace.perform { transaction throws(TestFailure) in
                do throws(NamespaceError) {
                    try transaction.mutate(.removeEntry(directory: directory, name: Self.a))
                } catch {
                    throw .namespace(error)
                }
                throw .refused
            }
        }
        #expect(Self.glance(namespace, Self.a, directory) == "unknown")
        #expect(Self.glance(namespace, Self.b, directory) == "unknown")
        #expect(Self.glance(namespace, Self.b, other) == "absent")
        let found = try await namespace.read { transaction throws(NamespaceError) in
            try transaction.entry(directory, Self.a)
        }
        #expect(found?.child == other)
        await namespace.close()
    }

    @Test("a directory that could not be made is none of these")
    func directoryThatWasNotMade() async throws {
        let namespace = try Fixture().open()
        let taken = Mutex(FileID.root)
        await #expect(throws: TestFailure.refused) {
            try await namespace.perform { transaction throws(TestFailure) in
                let id = transaction.newFileID()
                taken.withLock { $0 = id }
                do throws(NamespaceError) {
                    try transaction.mutate(.putInode(Fixture.inode(id, .directory, parent: .root)))
                } catch {
                    throw .namespace(error)
                }
                throw .refused
            }
        }
        try await namespace.create(Self.a)
        #expect(Self.glance(namespace, Self.a, taken.withLock { $0 }) == "unknown")
        await namespace.close()
    }

    @Test("never says what isn't so, whatever bodies do in however little memory", arguments: 0..<30 as Range<UInt64>)
    func random(seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let fixture = try Fixture()
        let namespace = try fixture.open(cacheLimit: [4, 30, 1000].randomElement(using: &random)!)
        var rows: [FileID: [FileName: FileID]] = [:]
        let names = (0..<6).map { Fixture.name("n\($0)") }
        var known = 0
        for round in 0..<150 {
            if rows.isEmpty || Int.random(in: 0..<12, using: &random) == 0 {
                rows[try await namespace.makeDirectory(Fixture.name("d\(round)"))] = [:]
            }
            let directories = rows.keys.sorted { $0.rawValue < $1.rawValue }
            let changes = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                (directories.randomElement(using: &random)!, names.randomElement(using: &random)!)
            }
            let mustThrow = Int.random(in: 0..<4, using: &random) == 0
            let before = rows
            let after: [FileID: [FileName: FileID]]? = try? await namespace.perform { transaction throws(TestFailure) in
                var after = before
                do throws(NamespaceError) {
                    for (directory, name) in changes {
                        if after[directory]?[name] != nil {
                            try transaction.mutate(.removeEntry(directory: directory, name: name))
                            after[directory]?[name] = nil
                        } else {
                            let cookie = UInt64(1000 + 10 * round + after[directory]!.count)
                            try transaction.mutate(
                                .putEntry(directory: directory, name: name, cookie: cookie, child: directory))
                            after[directory]?[name] = directory
                        }
                    }
                } catch {
                    throw .namespace(error)
                }
                if mustThrow { throw .refused }
                return after
            }
            #expect((after == nil) == mustThrow)
            if let after { rows = after }
            for (directory, entries) in rows {
                for name in names {
                    switch namespace.glance(at: name, in: directory) {
                    case .present(let entry): #expect(entries[name] == entry.child, "seed \(seed)")
                    case .absent:
                        known += 1
                        #expect(entries[name] == nil, "seed \(seed)")
                    case .unknown: break
                    }
                }
            }
        }
        #expect(known > 0)
        await namespace.close()
    }

    @Test("who makes a file in a new directory needs no other thread; a name that there is, or may be, does")
    func inPlace() async throws {
        let namespace = try Fixture().open()
        let directory = try await namespace.makeDirectory(Fixture.name("d"))
        /// Whether the body ran on the thread that asked for it.
        func runsHere(_ footprint: Footprint) async throws -> Bool {
            // The thread may still be at what was asked for before.
            await namespace.rest()
            let caller = pthread_self()
            return try await namespace.perform(footprint) { transaction throws(NamespaceError) in
                if case .newName(let name, let directory) = footprint, try transaction.entry(directory, name) == nil {
                    let id = transaction.newFileID()
                    try transaction.mutate(.putInode(Fixture.inode(id)))
                    try transaction.mutate(.putEntry(directory: directory, name: name, cookie: id.rawValue, child: id))
                }
                return pthread_equal(caller, pthread_self()) != 0
            }
        }
        #expect(try await runsHere(.newName(Self.a, in: directory)))
        #expect(try await runsHere(.newName(Self.b, in: directory)))
        #expect(try await !runsHere(.newName(Self.a, in: directory)))
        #expect(try await !runsHere(.newName(Self.a, in: .root)))
        #expect(try await runsHere(.inode(directory)))
        #expect(try await !runsHere(.inode(FileID(rawValue: 1 << 40))))
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
