// What happens when mirrors fail, fall behind or are damaged.

import FaultInjection
import Glibc
import Model
import Platform
import Synchronization
import Testing

@testable import Namespace

@Suite("Mirrors")
struct MirrorTests {
    /// Collects what `onMirrorFailure` is told.
    final class Failures: Sendable {
        private let calls = Mutex<[[VolumeID]]>([])
        let mayGoOn: Bool
        init(mayGoOn: Bool = true) { self.mayGoOn = mayGoOn }
        func report(_ failed: [VolumeID], _ remaining: [VolumeID]) -> Bool {
            calls.withLock { $0.append(failed) }
            return mayGoOn && !remaining.isEmpty
        }
        var volumes: [VolumeID] { calls.withLock { $0.flatMap { $0 } } }
    }

    @Test("are set up so that each commit is synced, and say so")
    func settings() throws {
        let fixture = try Fixture()
        let mirror = try Mirror(fixture.mirrors[0], fixture.disk)
        defer { mirror.close() }
        #expect(try mirror.connection.text("PRAGMA synchronous") == "2")
        #expect(try mirror.connection.text("PRAGMA journal_mode") == "wal")
        #expect(try mirror.connection.text("PRAGMA locking_mode") == "exclusive")
        let before = fixture.disk.callCount(.sync, under: "/v0/namespace.sqlite-wal")
        try mirror.apply([])
        try mirror.commit(upTo: LogNumber(rawValue: 9))
        #expect(fixture.disk.callCount(.sync, under: "/v0/namespace.sqlite-wal") > before)
    }

    @Test("refuse to be formatted over")
    func formatTwice() throws {
        let fixture = try Fixture()
        #expect(throws: NamespaceError.alreadyFormatted("/v0/namespace.sqlite")) { try fixture.format() }
    }

    @Test("of another store are refused")
    func wrongStore() throws {
        let fixture = try Fixture()
        #expect(throws: NamespaceError.wrongStore("/v0/namespace.sqlite")) {
            try Namespace.open(
                fixture.mirrors, records: [], lastNumber: LogNumber(rawValue: 1), fileSystem: fixture.disk,
                storeID: StoreID(rawValue: UniqueID(high: 1, low: 1)), epoch: Epoch(rawValue: 5), log: fixture.log.log,
                logger: Fixture.quiet, onMirrorFailure: { _, _ in true })
        }
    }

    @Test(
        "one that fails is dropped, which is told before the log lets go of what it lacks, and the others go on",
        arguments: [0, 1, 2], [FileOperation.sync, .write])
    func failure(_ index: Int, _ operation: FileOperation) async throws {
        let fixture = try Fixture(mirrors: 3)
        let failures = Failures()
        let (disk, log) = (fixture.disk, fixture.log)
        let namespace = try fixture.open(onMirrorFailure: { failed, remaining in
            #expect(log.appliedNumber < log.lastNumber)
            #expect(remaining == fixture.mirrors.map(\.volume).filter { !failed.contains($0) })
            return failures.report(failed, remaining)
        })
        try await namespace.create(Fixture.name("a"))
        try await namespace.applyNow()
        disk.inject(Fault("/v\(index)/", operation, code: EIO, count: 1))
        try await namespace.create(Fixture.name("b"))
        #expect(failures.volumes == [])
        try await namespace.applyNow()
        #expect(failures.volumes == [fixture.mirrors[index].volume] && log.appliedNumber == log.lastNumber)
        let syncs = disk.callCount(.sync, under: "/v\(index)/")
        let writes = disk.callCount(.write, under: "/v\(index)/")
        try await namespace.create(Fixture.name("c"))
        try await namespace.applyNow()
        #expect(try await namespace.names() == ["a", "b", "c"])
        await namespace.close()
        // A failed sync is never retried.
        #expect(disk.callCount(.sync, under: "/v\(index)/") == syncs)
        #expect(disk.callCount(.write, under: "/v\(index)/") == writes)
        for other in 0..<3 where other != index {
            guard case .verified = fixture.inspect(other) else {
                Issue.record("mirror \(other) is \(fixture.inspect(other))")
                continue
            }
        }
    }

    @Test("when the last one fails, or the rest may not go on, nothing is answered any more", arguments: [true, false])
    func allFail(mayGoOn: Bool) async throws {
        let fixture = try Fixture()
        let failures = Failures(mayGoOn: mayGoOn)
        let namespace = try fixture.open(onMirrorFailure: failures.report)
        try await namespace.applyNow()
        let applied = fixture.log.appliedNumber
        fixture.disk.inject(Fault(mayGoOn ? "/" : "/v1/", .sync, code: EIO))
        // What is in the log is durable, and answered.
        try await namespace.create(Fixture.name("a"))
        await #expect(throws: NamespaceError.self) { try await namespace.applyNow() }
        for name in ["b", "c"] {
            do {
                try await namespace.create(Fixture.name(name))
                Issue.record("answered")
            } catch {
                guard case .failed = error else { throw error }
            }
        }
        await namespace.close()
        #expect(fixture.log.appliedNumber == applied)
    }

    @Test("a full disk drops its mirror; when all are full the namespace fails")
    func outOfSpace() async throws {
        let fixture = try Fixture()
        let failures = Failures()
        let namespace = try fixture.open(onMirrorFailure: failures.report)
        let used = fixture.disk.content(of: "/v1/namespace.sqlite-wal")?.count ?? 0
        fixture.disk.setCapacity(used + 100_000, under: "/v1/")
        for index in 0..<200 {
            try await namespace.create(Fixture.name("\(index)"))
            if index % 20 == 0 { try await namespace.applyNow() }
        }
        #expect(failures.volumes == [fixture.mirrors[1].volume])
        fixture.disk.setCapacity(0, under: "/v0/")
        await #expect(throws: NamespaceError.self) { try await namespace.applyNow() }
        await #expect(throws: NamespaceError.self) { try await namespace.create(Fixture.name("x")) }
        await namespace.close()
    }

    @Test("a mirror that fails while a body reads is replaced, with all that bodies did so far", arguments: [0, 1])
    func primaryFailsInBatch(_ bodies: Int) async throws {
        let fixture = try Fixture()
        let failures = Failures()
        let namespace = try fixture.open(onMirrorFailure: failures.report)
        for index in 0..<300 { try await namespace.create(Fixture.name("old\(index)")) }
        await namespace.close()
        let again = try fixture.open(epoch: 2, cacheLimit: 2, onMirrorFailure: failures.report)
        try await again.applyNow()
        let disk = fixture.disk
        let gate = Gate()
        let pause = again.queueBody { gate.pass() }
        await gate.waitForArrival()
        // These share a batch with the one that waits at the gate.
        let before = (0..<bodies).map { index in Task { try await again.create(Fixture.name("before\(index)")) } }
        while again.queuedRequests < bodies { await Task.yield() }
        let failing = Task {
            try await again.perform { transaction throws(NamespaceError) in
                try transaction.create(Fixture.name("first half"))
                disk.inject(Fault("/v0/", .read, code: EIO))
                disk.inject(Fault("/v0/", .write, code: EIO))
                // Reads what no cache holds.
                let names = try transaction.entries(.root, after: 0, limit: 1000)
                try transaction.create(Fixture.name("second half"))
                return names.count
            }
        }
        while again.queuedRequests < bodies + 1 { await Task.yield() }
        gate.open()
        try await pause.value
        for task in before { _ = try await task.value }
        #expect(try await failing.value == 300 + bodies + 1)
        _ = try await again.mirrorVolumes()
        #expect(failures.volumes == [fixture.mirrors[0].volume])
        #expect(try await again.names().count == 300 + bodies + 2)
        await again.close()
        guard case .verified = fixture.inspect(1) else {
            Issue.record("the mirror that took over is \(fixture.inspect(1))")
            return
        }
    }

    @Test("a damaged row is seen, served from another mirror, and its mirror dropped")
    func damagedRow() async throws {
        let (fixture, id) = try await fixtureWithMarker()
        try damageMarker(fixture, 0)
        guard case .damaged(_, let position) = fixture.inspect(0) else {
            Issue.record("not seen")
            return
        }
        #expect(position?.logNumber == self.position(fixture, 1)?.logNumber)
        let failures = Failures()
        let namespace = try fixture.open(epoch: 2, onMirrorFailure: failures.report)
        let inode = try await namespace.perform { transaction throws(NamespaceError) in
            // A change in the same body must move over too.
            try transaction.create(Fixture.name("b"))
            return try transaction.inode(id)
        }
        #expect(inode?.linkTarget?.bytes == Self.marker)
        _ = try await namespace.mirrorVolumes()
        #expect(failures.volumes == [fixture.mirrors[0].volume])
        #expect(try await namespace.names() == ["a", "b"])
        await namespace.close()
    }

    @Test("a row that is damaged on all mirrors is an error for its readers alone")
    func damagedEverywhere() async throws {
        let (fixture, id) = try await fixtureWithMarker()
        try damageMarker(fixture, 0)
        try damageMarker(fixture, 1)
        let failures = Failures()
        let namespace = try fixture.open(epoch: 2, onMirrorFailure: failures.report)
        await #expect(throws: NamespaceError.self) {
            try await namespace.perform { transaction throws(NamespaceError) in
                try transaction.create(Fixture.name("b"))
                return try transaction.inode(id)
            }
        }
        #expect(failures.volumes == [])
        try await namespace.create(Fixture.name("c"))
        #expect(try await namespace.names() == ["a", "c"])
        await namespace.close()
    }

    @Test("a damaged mirror is never the source of a copy")
    func copyOfDamaged() async throws {
        let (fixture, _) = try await fixtureWithMarker()
        try damageMarker(fixture, 0)
        let before = fixture.disk.content(of: "/v1/namespace.sqlite")
        #expect(throws: NamespaceError.self) {
            try Namespace.copy(from: fixture.mirrors[0], to: fixture.mirrors[1], fileSystem: fixture.disk)
        }
        #expect(fixture.disk.content(of: "/v1/namespace.sqlite") == before)
        try Namespace.copy(from: fixture.mirrors[1], to: fixture.mirrors[0], fileSystem: fixture.disk)
        #expect(fixture.inspect(0) == fixture.inspect(1))
    }

    @Test("any damaged byte of a mirror is seen, or changes nothing", arguments: 0..<60 as Range<UInt64>)
    func anyDamage(seed: UInt64) async throws {
        let (fixture, _) = try await fixtureWithMarker()
        let expected = try dump(fixture, 0)
        let path = "/v0/namespace.sqlite"
        let size = try #require(fixture.disk.content(of: path)).count
        var random = SeededGenerator(seed: seed)
        fixture.disk.flipBits(
            path, at: .random(in: 0..<size, using: &random), mask: 1 << UInt8.random(in: 0..<8, using: &random))
        if case .verified = fixture.inspect(0) { #expect(try dump(fixture, 0) == expected) }
    }

    @Test("a name that is damaged in the table or in the index alone is seen, and so never left out of a listing")
    func damagedIndex() async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let text = "a name of which there are two copies"
        try await namespace.create(Fixture.name(text))
        await namespace.close()
        let path = fixture.mirrors[0].path
        let (content, bytes) = (try #require(fixture.disk.content(of: path)), Array(text.utf8))
        let copies = content.indices.dropLast(bytes.count).filter {
            content[$0..<$0 + bytes.count].elementsEqual(bytes)
        }
        #expect(copies.count == 2)
        for offset in copies {
            fixture.disk.flipBits(path, at: offset)
            #expect(position(fixture, 0) == nil, "copy at \(offset)")
            fixture.disk.flipBits(path, at: offset)
        }
        #expect(position(fixture, 0) != nil)
    }

    @Test("a copy that is interrupted leaves no mirror or a whole one, also over one with a log", arguments: 0..<60)
    func interruptedCopy(calls: Int) async throws {
        var fixture = try Fixture()
        // Cut off while it was in use, so that much of the old mirror is in its log only.
        let old = try fixture.open()
        for index in 0..<20 {
            try await old.create(Fixture.name("old\(index)"))
            try await old.applyNow()
        }
        fixture.crash(seed: UInt64(calls))
        await old.close()
        #expect(fixture.disk.content(of: fixture.mirrors[1].path + "-wal")?.isEmpty == false)
        let namespace = try fixture.open([fixture.mirrors[0]], epoch: 2)
        for index in 0..<20 { try await namespace.create(Fixture.name("\(index)")) }
        await namespace.close()
        fixture.disk.losePower(afterCalls: calls)
        try? Namespace.copy(from: fixture.mirrors[0], to: fixture.mirrors[1], fileSystem: fixture.disk)
        fixture.disk = fixture.disk.crash(seed: UInt64(calls))
        // Either the old one, or none, or the new one.
        switch fixture.inspect(1) {
        case .missing: break
        case .verified(let found):
            #expect(found.epoch == Epoch(rawValue: 1) || found == position(fixture, 0))
        case .damaged(let reason, _): Issue.record("\(reason)")
        }
        try Namespace.copy(from: fixture.mirrors[0], to: fixture.mirrors[1], fileSystem: fixture.disk)
        #expect(fixture.inspect(1) == fixture.inspect(0))
        #expect(try dump(fixture, 1) == dump(fixture, 0))
    }

    @Test("a copy takes away the log of the mirror that it replaces")
    func copyOverLog() async throws {
        var fixture = try Fixture()
        let old = try fixture.open()
        for index in 0..<20 {
            try await old.create(Fixture.name("old\(index)"))
            try await old.applyNow()
        }
        fixture.crash(seed: 1)
        await old.close()
        let namespace = try fixture.open([fixture.mirrors[0]], epoch: 2)
        for index in 0..<20 { try await namespace.create(Fixture.name("\(index)")) }
        await namespace.close()
        #expect(fixture.disk.content(of: fixture.mirrors[1].path + "-wal")?.isEmpty == false)
        try Namespace.copy(from: fixture.mirrors[0], to: fixture.mirrors[1], fileSystem: fixture.disk)
        #expect(fixture.disk.content(of: fixture.mirrors[1].path + "-wal") == nil)
        #expect(fixture.inspect(1) == fixture.inspect(0))
        #expect(try dump(fixture, 1) == dump(fixture, 0))
    }

    @Test("a format that is interrupted leaves no mirror or a whole one", arguments: 0..<60)
    func interruptedFormat(calls: Int) throws {
        let disk = SimulatedFileSystem(directories: ["/v0", "/v1"])
        let mirrors = [Fixture.mirror(0), Fixture.mirror(1)]
        disk.losePower(afterCalls: calls)
        try? Namespace.format(
            mirrors, fileSystem: disk, storeID: Fixture.storeID, epoch: Epoch(rawValue: 1),
            root: Fixture.inode(.root, .directory, parent: .root))
        let after = disk.crash(seed: UInt64(calls))
        for mirror in mirrors {
            if case .damaged(let reason, _) = Namespace.inspect(mirror, fileSystem: after) { Issue.record("\(reason)") }
        }
    }

    @Test(
        "one that was away is behind, and is brought forward where the log reaches back to it; else all are refused",
        arguments: [true, false])
    func stale(reachesBack: Bool) async throws {
        let fixture = try Fixture(logForgets: !reachesBack)
        let first = try fixture.open()
        try await first.create(Fixture.name("both"))
        await first.close()
        let second = try fixture.open([fixture.mirrors[0]], epoch: 2)
        try await second.create(Fixture.name("one"))
        await second.close()
        let ahead = try #require(position(fixture, 0))
        let behind = try #require(position(fixture, 1))
        #expect(behind < ahead && behind.epoch < ahead.epoch)
        #expect(
            behind < MirrorPosition(storeID: ahead.storeID, epoch: ahead.epoch, logNumber: LogNumber(rawValue: 0)))
        if !reachesBack {
            do {
                _ = try fixture.open(fixture.mirrors.reversed(), epoch: 2)
                Issue.record("opened")
            } catch {
                guard case .incompleteLog = error as? NamespaceError else { throw error }
            }
            try Namespace.copy(from: fixture.mirrors[0], to: fixture.mirrors[1], fileSystem: fixture.disk)
        }
        let third = try fixture.open(fixture.mirrors.reversed(), epoch: 2)
        #expect(try await third.names() == ["both", "one"])
        #expect(try await third.mirrorVolumes().count == 2)
        await third.close()
        #expect(fixture.inspect(0) == fixture.inspect(1))
        #expect(try dump(fixture, 0) == dump(fixture, 1))
        // Neither may a mirror be ahead of the log.
        let log = SimulatedLog(after: LogNumber(rawValue: try #require(position(fixture, 0)).logNumber.rawValue - 1))
        #expect(throws: NamespaceError.self) { try fixture.open(log: log, epoch: 3) }
    }

    @Test("a new one can be added while the namespace is in use")
    func addMirror() async throws {
        let fixture = try Fixture(mirrors: 3)
        let failures = Failures()
        let namespace = try fixture.open(Array(fixture.mirrors[0..<2]), onMirrorFailure: failures.report)
        try await namespace.create(Fixture.name("a"))
        fixture.disk.inject(Fault("/v0/", .sync, code: EIO))
        try await namespace.create(Fixture.name("b"))
        try await namespace.applyNow()
        try await namespace.addMirror(fixture.mirrors[2]) { _ in true }
        try await namespace.create(Fixture.name("c"))
        #expect(try await namespace.mirrorVolumes() == [fixture.mirrors[1].volume, fixture.mirrors[2].volume])
        await namespace.close()
        #expect(fixture.inspect(2) == fixture.inspect(1))
        let alone = try fixture.open([fixture.mirrors[2]], epoch: 2)
        #expect(try await alone.names() == ["a", "b", "c"])
        await alone.close()
    }

    @Test("the log is moved into the database as it grows, and starts over")
    func checkpoints() async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let database = "/v1/namespace.sqlite"
        for index in 0..<600 {
            try await namespace.create(Fixture.name("\(index)"))
            try await namespace.applyNow()
        }
        #expect(
            fixture.disk.callCount(.sync, under: database) > fixture.disk.callCount(.sync, under: database + "-wal"))
        // 1,000 pages with their frame headers, and the commits of one batch.
        let log = try #require(fixture.disk.content(of: database + "-wal"))
        #expect(log.count < 1100 * (4096 + 24))
        #expect(try #require(fixture.disk.content(of: database)).count > 40_000)
        await namespace.close()
    }

    @Test("one whose database can't be synced when the log is moved is dropped", arguments: [0, 1])
    func checkpointFails(_ index: Int) async throws {
        let fixture = try Fixture()
        let failures = Failures()
        let namespace = try fixture.open(onMirrorFailure: failures.report)
        fixture.disk.inject(
            Fault(fixture.mirrors[index].path, isWholePath: true, .sync, code: EIO, count: 1))
        for index in 0..<600 {
            try await namespace.create(Fixture.name("\(index)"))
            try await namespace.applyNow()
        }
        #expect(failures.volumes == [fixture.mirrors[index].volume])
        #expect(try await namespace.names().count == 600)
        await namespace.close()
        // Its log is still there, with what was committed until then.
        guard case .verified = fixture.inspect(index) else {
            Issue.record("\(fixture.inspect(index))")
            return
        }
    }

    // MARK: Help

    /// A symbolic link's target that is easy to find in a database.
    private static let marker = Array("sluice-marker-sluice-marker".utf8)

    private func fixtureWithMarker() async throws -> (Fixture, FileID) {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let id = try await namespace.create(Fixture.name("a"))
        try await namespace.perform { transaction throws(NamespaceError) in
            var inode = Fixture.inode(id)
            inode.linkTarget = try? LinkTarget(Self.marker)
            try transaction.mutate(.putInode(inode))
        }
        await namespace.close()
        return (fixture, id)
    }

    /// Changes a byte of the marker in the database.
    private func damageMarker(_ fixture: Fixture, _ index: Int) throws {
        let path = fixture.mirrors[index].path
        let content = try #require(fixture.disk.content(of: path))
        #expect(fixture.disk.content(of: path + "-wal") == nil)
        for offset in content.indices.dropLast(Self.marker.count)
        where content[offset..<offset + Self.marker.count].elementsEqual(Self.marker) {
            fixture.disk.flipBits(path, at: offset + 3)
        }
        #expect(fixture.disk.content(of: path) != content)
    }

    private func position(_ fixture: Fixture, _ index: Int) -> MirrorPosition? {
        guard case .verified(let position) = fixture.inspect(index) else { return nil }
        return position
    }

    private func dump(_ fixture: Fixture, _ index: Int) throws -> [String] {
        let mirror = try Mirror(fixture.mirrors[index], fixture.disk)
        defer { mirror.close() }
        return try mirror.dump()
    }
}

extension Namespace {
    /// Queues a body that changes nothing.
    func queueBody(_ body: @escaping @Sendable () -> Void) -> Task<Void, any Error> {
        Task { try await perform { _ throws(NamespaceError) in body() } }
    }
}
