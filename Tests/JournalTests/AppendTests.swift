// Groups, replicas, segments while all is well.

import FaultInjection
import Journal
import Model
import Platform
import Synchronization
import Testing

@Suite("Journal: appending")
struct AppendTests {
    @Test("what was appended is recovered, in order, with its payloads")
    func roundTrip() async throws {
        let store = TestStore()
        store.keepsClaims = true
        var random = SeededGenerator(seed: 1)
        try store.start()
        for _ in 0..<100 { #expect(await store.append(.random(&random, maxBytes: 5000)) == nil) }
        try await store.checkClaims()
        await store.crash()
        try store.start()
        #expect(store.recovered.count == 100)
        store.checkRecovered()
        try await store.checkClaims()
        await store.close()
        #expect(store.disk.openFileCount == 0)
    }

    @Test("an entry is answered when all replicas have synced it, not before")
    func allReplicas() async throws {
        let store = TestStore(replicas: 3)
        try store.start()
        await store.append("first")
        try await store.waitForSpares()
        let gate = Gate(count: 2)
        let isHeld = Flag()
        store.disk.before(.sync, under: "/v2/") {
            isHeld.raise()
            gate.arriveAndWait()
        }
        let isAnswered = Mutex(false)
        let syncs = (0..<3).map { store.disk.callCount(.sync, under: "/v\($0)/") }
        store.post(TestStore.entry("second")) { _ in isAnswered.withLock { $0 = true } }
        try await eventually("the others have synced") {
            store.disk.callCount(.sync, under: "/v0/") > syncs[0]
                && store.disk.callCount(.sync, under: "/v1/") > syncs[1]
        }
        isHeld.wait()
        #expect(isAnswered.withLock { !$0 })
        store.disk.removeHooks()
        gate.arriveAndWait()
        #expect(await store.barrier() == nil)
        #expect(isAnswered.withLock { $0 })
        await store.close()
    }

    @Test("what gathers during a sync shares the next one")
    func groupCommit() async throws {
        let store = TestStore()
        try store.start()
        await store.append("first")
        try await store.waitForSpares()
        let gate = Gate(count: 2)
        let isHeld = Flag()
        store.disk.before(.sync, under: "/v0/") {
            isHeld.raise()
            gate.arriveAndWait()
        }
        store.post(TestStore.entry("held up"))
        isHeld.wait()
        store.disk.removeHooks()
        let before = store.disk.callCount(.sync, under: "/v0/journal/")
        for index in 0..<100 { store.post(TestStore.entry("\(index)", bytes: 100)) }
        gate.arriveAndWait()
        #expect(await store.barrier() == nil)
        #expect(
            store.disk.callCount(.sync, under: "/v0/journal/") == before + 2,
            "the one that was held up, and one for all")
        #expect(store.journal?.usage.entries == 102)
        #expect(store.journal?.usage.groups == 3)
        await store.close()
    }

    @Test("a group changes no metadata of a file system")
    func plainWrites() async throws {
        let store = TestStore()
        try store.start()
        await store.append("first")
        try await store.waitForSpares()
        let operations = [FileOperation.open, .rename, .syncDirectory, .truncate]
        let before = operations.map { store.disk.callCount($0) }
        for index in 0..<10 { await store.append("\(index)") }
        #expect(operations.map { store.disk.callCount($0) } == before)
        await store.close()
    }

    @Test("a full segment is followed by another one of the same epoch; large entries get one to themselves")
    func rolling() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        store.keepsClaims = true
        try store.start()
        for index in 0..<20 {
            #expect(await store.append("\(index)", bytes: index % 7 == 3 ? 100_000 : 9_000) == nil)
        }
        #expect(store.journal!.usage.segments > 5)
        #expect(store.state.withLock { $0.beganGenerations } == 0)
        try await store.checkClaims()
        await store.crash()
        try store.start()
        #expect(store.recovered.count == 20)
        store.checkRecovered()
        try await store.checkClaims()
        await store.close()
    }

    @Test("segments are freed in order, when applied and not claimed, and used again after a durable group says so")
    func freeing() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        store.keepsClaims = true
        try store.start()
        for index in 0..<8 { await store.append("\(index)", bytes: 20_000) }
        let journal = store.journal!
        #expect(journal.usage.segments == 8)
        // Not applied.
        store.state.withLock { $0.claims[1] = nil }
        #expect(await store.barrier() == nil)
        #expect(journal.usage.segments == 8)
        // The first is claimed no more, the third is applied and unclaimed, but the second is not.
        journal.noteApplied(through: LogNumber(rawValue: 5))
        store.state.withLock { $0.claims[3] = nil }
        try await eventually("the first is freed") { journal.usage.segments == 7 }
        let slots = { (1...3).map { store.disk.content(of: "/v0/journal/\($0).segment") } }
        let before = slots()
        #expect(before.allSatisfy { $0 != nil })
        // The third only after the second.
        store.state.withLock { $0.claims[2] = nil }
        try await eventually("three are freed") { journal.usage.segments == 5 }
        let isUntouched = slots() == before
        #expect(isUntouched)
        // Claimed no more, but not applied.
        store.state.withLock { $0.claims[6] = nil }
        let files = try store.segmentFiles.count
        for index in 0..<3 { await store.append("again \(index)", bytes: 20_000) }
        #expect(journal.usage.segments == 8)
        #expect(try store.segmentFiles.count <= files)
        let isUsedAgain = slots() != before
        #expect(isUsedAgain)
        try await store.checkClaims()
        await store.crash()
        try store.recover()
        #expect(store.recovered.keys.min() == 4)
        store.checkRecovered(from: 4)
        await store.close()
    }

    /// What the next entry comes to.
    enum Fate: CaseIterable {
        case isLost, isDurable, isDurableTwice, neverComes
    }

    @Test(
        "what was let go of for an entry that had been begun is needed until that is durable",
        arguments: Fate.allCases, [0, 20_000])
    func begun(fate: Fate, bytes: Int) async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        store.keepsClaims = true
        try store.start()
        // A segment each, to be followed by a group in the last one, or by another segment.
        for index in 0..<3 { await store.append("\(index)", bytes: index == 2 && bytes == 0 ? 1 : 20_000) }
        let journal = store.journal!
        #expect(journal.usage.segments == (bytes == 0 ? 2 : 3))
        journal.noteApplied(through: LogNumber(rawValue: 3))
        // Of 4 and 5 one is why the first is claimed no more, who knows which.
        journal.noteBegun(through: LogNumber(rawValue: 5))
        store.state.withLock { $0.claims[1] = nil }
        try await eventually("the first is freed") { journal.usage.segments == (bytes == 0 ? 1 : 2) }
        if fate == .neverComes { journal.noteBegun(through: LogNumber(rawValue: 4)) }
        await store.append("3", bytes: bytes)
        if fate == .isDurable { await store.append("4") }
        if fate == .isDurableTwice {
            await store.append("4")
            await store.append("5")
        }
        let isNeeded = fate == .isLost
        await store.crash()
        try store.start()
        #expect(store.recovered.keys.min() == (isNeeded ? 1 : 2))
        store.checkRecovered(from: isNeeded ? 1 : 2)
        try await store.checkClaims()
        await store.close()
    }

    @Test("a new segment whose first group is torn takes nothing away", arguments: [true, false])
    func begunWithTornGroup(isTorn: Bool) async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        store.keepsClaims = true
        try store.start()
        for index in 0..<2 { await store.append("\(index)", bytes: 20_000) }
        let journal = store.journal!
        journal.noteApplied(through: LogNumber(rawValue: 2))
        journal.noteBegun(through: LogNumber(rawValue: 3))
        store.state.withLock { $0.claims[1] = nil }
        try await eventually("the first is freed") { journal.usage.segments == 1 }
        await store.append("2", bytes: 20_000)
        await store.crash()
        // What a power cut before the sync may leave: the segment's header, and not all of the group that it came with.
        let bytes = Array(repeating: UInt8(ascii: "2"), count: 1000)
        var replicas = 0
        for path in try store.segmentFiles {
            guard let content = store.disk.content(of: path),
                let place = content.indices.first(where: { content[$0...].starts(with: bytes) })
            else { continue }
            replicas += 1
            if isTorn { store.disk.flipBits(path, at: place) }
        }
        #expect(replicas == 2)
        try store.recover()
        #expect(store.recovered.keys.sorted() == (isTorn ? [1, 2] : [2, 3]))
        await store.close()
    }

    @Test("of many slots that are freed few are kept")
    func removing() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        try store.start()
        for index in 0..<14 { await store.append("\(index)", bytes: index == 5 ? 50_000 : 20_000) }
        #expect(try store.segmentFiles.count >= 28)
        store.journal!.noteApplied(through: LogNumber(rawValue: 14))
        try await eventually("the others are removed") {
            store.journal!.tick()
            return try store.segmentFiles.count <= 2 * 6
        }
        #expect(await store.append("next") == nil)
        await store.crash()
        try store.start()
        #expect(store.lastAppended == 15)
        await store.close()
    }

    @Test("what is freed is stated and given back though nothing is appended")
    func idleFreeing() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        try store.start()
        for index in 0..<10 { await store.append("\(index)", bytes: 20_000) }
        store.journal!.noteApplied(through: LogNumber(rawValue: 10))
        try await eventually("all but the last are freed") { store.journal!.usage.segments == 1 }
        let groups = store.journal!.usage.groups
        store.journal!.tick()
        try await eventually("a group says so") { store.journal!.usage.groups == groups + 1 }
        // It may have been the first of another segment.
        await store.crash()
        try store.start()
        #expect(store.recovered.keys.sorted().allSatisfy { $0 == 10 })
        #expect(store.lastAppended == 10)
        await store.append("next")
        await store.crash()
        try store.start()
        #expect(store.recovered[11] != nil)
        await store.close()
    }

    @Test("pressure at half of the capacity, no room before the reserve; records are taken always")
    func pressure() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        store.keepsClaims = true
        try store.start()
        let journal = store.journal!
        #expect(journal.ownersOfOldestSegment(limit: 10).isEmpty)
        for index in 0..<7 { await store.append("\(index)", bytes: 20_000) }
        #expect(store.state.withLock { $0.pressures } == 0)
        #expect(journal.hasRoom(forPayloadBytes: 20_000))
        await store.append("half", bytes: 20_000)
        #expect(await store.barrier() == nil)
        #expect(store.state.withLock { $0.pressures } == 1)
        #expect(journal.ownersOfOldestSegment(limit: 10) == [FileID(rawValue: 2)])
        for index in 0..<6 { await store.append("\(index)", bytes: 20_000) }
        #expect(!journal.hasRoom(forPayloadBytes: 20_000))
        for index in 0..<20 { #expect(await store.append("\(index)") == nil) }
        #expect(await store.barrier() == nil)
        #expect(store.state.withLock { $0.pressures } == journal.usage.segments - 7)
        journal.noteApplied(through: LogNumber(rawValue: 40))
        store.state.withLock { $0.claims = [:] }
        try await eventually("there is room") { journal.hasRoom(forPayloadBytes: 20_000) }
        await store.close()
    }

    @Test("a barrier waits for what was appended before; after close nothing is taken")
    func barriers() async throws {
        let store = TestStore()
        try store.start()
        #expect(await store.barrier() == nil)
        let answered = Mutex<[String]>([])
        for index in 0..<3 {
            store.post(TestStore.entry("\(index)")) { _ in answered.withLock { $0.append("\(index)") } }
            store.journal!.barrier { _ in answered.withLock { $0.append("barrier \(index)") } }
        }
        #expect(await store.barrier() == nil)
        #expect(answered.withLock { $0 } == ["0", "barrier 0", "1", "barrier 1", "2", "barrier 2"])
        let journal = store.journal!
        await journal.close()
        #expect(await store.barrier() == .closed)
        #expect(await store.append("late") == .closed)
        await journal.close()
        store.journal = nil
    }
}
