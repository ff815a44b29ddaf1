// When batches are applied to the mirrors, what waits for that, and what doesn't.

import FaultInjection
import Glibc
import Model
import Synchronization
import Testing

@testable import Namespace

@Suite("Applying records to the mirrors", .timeLimit(.minutes(10)))
struct ApplierTests {
    /// What all mirrors have when everything that the applier was told to do is done.
    private func applied(_ fixture: Fixture, _ namespace: Namespace) async throws -> LogNumber {
        _ = try await namespace.mirrorVolumes()
        return fixture.log.appliedNumber
    }

    @Test("begins when enough wait, or at the second tick that finds them")
    func due() async throws {
        let fixture = try Fixture()
        var bounds = Backlog.Bounds()
        bounds.records = 5
        let namespace = try fixture.open(bounds: bounds)
        // With the one that began the epoch.
        for name in ["a", "b", "c"] { try await namespace.create(Fixture.name(name)) }
        #expect(try await applied(fixture, namespace) == LogNumber(rawValue: 0))
        try await namespace.create(Fixture.name("d"))
        #expect(try await applied(fixture, namespace) == fixture.log.lastNumber)
        let before = fixture.log.lastNumber
        try await namespace.create(Fixture.name("e"))
        namespace.tick()
        try await namespace.create(Fixture.name("f"))
        #expect(try await applied(fixture, namespace) == before)
        namespace.tick()
        #expect(try await applied(fixture, namespace) == fixture.log.lastNumber)
        // Nothing waits: nothing is written.
        let writes = fixture.disk.callCount(.write, under: "/")
        for _ in 0..<3 { namespace.tick() }
        #expect(try await applied(fixture, namespace) == fixture.log.lastNumber)
        #expect(fixture.disk.callCount(.write, under: "/") == writes)
        await namespace.close()
    }

    @Test("takes only what is durable in the log")
    func onlyDurable() async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        try await namespace.create(Fixture.name("a"))
        fixture.log.setMode(.held)
        let before = fixture.log.lastNumber
        let tasks = ["b", "c"].map { name in Task { try await namespace.create(Fixture.name(name)) } }
        while fixture.log.pendingCount < 2 { await Task.yield() }
        try await namespace.applyNow()
        #expect(fixture.log.appliedNumber == before)
        fixture.log.makeDurable(1)
        try await namespace.applyNow()
        #expect(fixture.log.appliedNumber == before.next)
        fixture.log.setMode(.atOnce)
        for task in tasks { _ = try await task.value }
        await namespace.close()
        #expect(fixture.log.appliedNumber == before.next.next)
    }

    @Test("holds bodies up only when very much waits", arguments: [true, false])
    func backPressure(byCount: Bool) async throws {
        let fixture = try Fixture()
        var bounds = Backlog.Bounds()
        if byCount { bounds.waitingRecords = 10 } else { bounds.waitingBytes = 3000 }
        let namespace = try fixture.open(bounds: bounds)
        let gate = Gate()
        let pause = Task { try await namespace.withMirrors { _ in gate.pass() } }
        await gate.waitForArrival()
        // Until the bounds are passed bodies go on.
        for index in 0..<10 { try await namespace.create(Fixture.name("\(index)")) }
        let mayRun = Flag()
        let ranEarly = Flag()
        let late = Task {
            try await namespace.read { _ throws(NamespaceError) in if !mayRun.isSet { ranEarly.set() } }
        }
        for _ in 0..<10_000 { await Task.yield() }
        mayRun.set()
        gate.open()
        try await pause.value
        try await late.value
        #expect(!ranEarly.isSet)
        #expect(fixture.log.appliedNumber > LogNumber(rawValue: 1))
        for index in 0..<30 { try await namespace.create(Fixture.name("more \(index)")) }
        await namespace.close()
    }

    @Test("a failure lets go of bodies that wait for room")
    func failureWhileWaiting() async throws {
        let fixture = try Fixture()
        var bounds = Backlog.Bounds()
        bounds.waitingRecords = 3
        let namespace = try fixture.open(bounds: bounds)
        fixture.log.setMode(.held)
        let tasks = (0..<8).map { index in Task { try await namespace.create(Fixture.name("\(index)")) } }
        while fixture.log.pendingCount < 4 { await Task.yield() }
        fixture.log.fail()
        fixture.log.setMode(.atOnce)
        for task in tasks { await #expect(throws: NamespaceError.self) { try await task.value } }
        await namespace.close()
    }

    @Test("a body reads from a mirror that is free while others are written to", arguments: [0, 1, 2])
    func readers(held: Int) async throws {
        let fixture = try Fixture(mirrors: 3)
        let namespace = try fixture.open(cacheLimit: 2)
        try await namespace.create(Fixture.name("a"))
        try await namespace.applyNow()
        try await namespace.create(Fixture.name("b"))
        let gate = Gate()
        fixture.disk.before(.sync, under: "/v\(held)/") { gate.pass() }
        let apply = Task { try await namespace.applyNow() }
        await gate.waitForArrival()
        // Would never end, had it to wait for the mirror that is held.
        #expect(try await namespace.names() == ["a", "b"])
        try await namespace.create(Fixture.name("c"))
        #expect(try await namespace.names() == ["a", "b", "c"])
        gate.open()
        fixture.disk.removeHooks()
        try await apply.value
        await namespace.close()
    }

    @Test("bodies go on while a mirror is added")
    func addingMeanwhile() async throws {
        let fixture = try Fixture(mirrors: 3)
        let namespace = try fixture.open(Array(fixture.mirrors[..<2]))
        try await namespace.create(Fixture.name("a"))
        try await namespace.applyNow()
        let gate = Gate()
        let add = Task {
            try await namespace.addMirror(fixture.mirrors[2]) { _ in
                gate.pass()
                return true
            }
        }
        await gate.waitForArrival()
        try await namespace.create(Fixture.name("b"))
        #expect(try await namespace.names() == ["a", "b"])
        gate.open()
        try await add.value
        try await namespace.applyNow()
        try await namespace.create(Fixture.name("c"))
        await namespace.close()
        #expect(fixture.inspect(2) == fixture.inspect(0))
        let alone = try fixture.open([fixture.mirrors[2]], epoch: 2)
        #expect(try await alone.names() == ["a", "b", "c"])
        await alone.close()
    }

    @Test("what was recovered is there at once, also for reading only, which writes nothing")
    func recovered() async throws {
        var fixture = try Fixture()
        let namespace = try fixture.open()
        try await namespace.create(Fixture.name("a"))
        try await namespace.applyNow()
        try await namespace.create(Fixture.name("b"))
        try await namespace.remove(Fixture.name("a"))
        fixture.crash(seed: 3)
        await namespace.close()
        let files = { (disk: SimulatedFileSystem) throws in
            try (0..<2).flatMap { index in
                try disk.list("/v\(index)").sorted().map { disk.content(of: "/v\(index)/\($0)") }
            }
        }
        let before = try files(fixture.disk)
        let reading = try Namespace.open(
            fixture.mirrors, records: fixture.log.records, lastNumber: fixture.log.lastNumber,
            fileSystem: fixture.disk, storeID: Fixture.storeID, epoch: Epoch(rawValue: 1), log: nil,
            logger: Fixture.quiet, onMirrorFailure: { _, _ in false })
        #expect(try await reading.names() == ["b"])
        reading.tick()
        await reading.close()
        #expect(try files(fixture.disk) == before)
        let again = try fixture.open(epoch: 2)
        #expect(try await again.names() == ["b"])
        // Applied without being asked for.
        let last = fixture.log.lastNumber
        #expect(try await applied(fixture, again) >= LogNumber(rawValue: last.rawValue - 1))
        await again.close()
        #expect(fixture.log.records.isEmpty)
    }

    @Test("a large directory of which no mirror knows yet is listed in pages", arguments: 0..<3 as Range<UInt64>)
    func largeDirectory(seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let count = 6000
        let applied = [0, count / 2, count][Int(seed) % 3]
        var names: [String] = []
        for start in stride(from: 0, to: count, by: 1000) {
            if start == applied { try await namespace.applyNow() }
            names += try await namespace.perform { transaction throws(NamespaceError) in
                try (start..<start + 1000).map { index throws(NamespaceError) in
                    try transaction.create(Fixture.name("\(index)"))
                    return "\(index)"
                }
            }
        }
        if applied == count { try await namespace.applyNow() }
        // Many that the mirrors have are gone, in a row and here and there.
        let kept = names.enumerated().filter { index, _ in
            index > 4500 && Bool.random(using: &random) || index % 997 == 0
        }.map(\.element)
        let removed = Set(names).subtracting(kept)
        try await namespace.perform { transaction throws(NamespaceError) in
            for name in removed { try transaction.mutate(.removeEntry(directory: .root, name: Fixture.name(name))) }
        }
        for limit in [1, 7, 100, 5000] {
            var listed: [String] = []
            var cookie: UInt64 = 0
            while true {
                let from = cookie
                let page = try await namespace.read { transaction throws(NamespaceError) in
                    try transaction.entries(.root, after: from, limit: limit)
                }
                guard let last = page.last else { break }
                #expect(page.count <= limit)
                listed += page.map(\.name.description)
                cookie = last.cookie
            }
            #expect(listed == kept)
        }
        await namespace.close()
    }

    @Test("sorted keys are those of a set", arguments: 0..<20 as Range<UInt64>)
    func sortedKeys(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var keys = SortedKeys<Int>()
        var model: Set<Int> = []
        let bound = seed % 2 == 0 ? 50 : 100_000
        for step in 0..<4000 {
            let key = seed % 3 == 0 ? step : Int.random(in: 0..<bound, using: &random)
            if Int.random(in: 0..<5, using: &random) > 0 {
                keys.insert(key)
                model.insert(key)
            } else {
                keys.remove(key)
                model.remove(key)
            }
            if step % 1500 == 1499 {
                #expect(keys.removeAll(from: key) == model.filter { $0 >= key }.sorted())
                model = model.filter { $0 < key }
            }
            guard step % 100 == 0 else { continue }
            let place = Int.random(in: -1...bound, using: &random)
            #expect(keys.last(atMost: place) == model.filter { $0 <= place }.max())
            var found: [Int] = []
            keys.forEach(from: place) {
                found.append($0)
                return found.count < 600
            }
            #expect(found == Array(model.filter { $0 >= place }.sorted().prefix(600)))
            #expect(keys.isEmpty == model.isEmpty)
        }
    }
}
