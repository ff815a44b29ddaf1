// Replicas that fail, hang or have no room.

import FaultInjection
import Glibc
import Journal
import Model
import Platform
import Synchronization
import Testing

@Suite("Journal: failures")
struct FailureTests {
    @Test(
        "a replica that fails is dropped, and a new epoch begins, before anything is answered",
        arguments: [FileOperation.write, .sync])
    func failingReplica(operation: FileOperation) async throws {
        let store = TestStore()
        store.keepsClaims = true
        try store.start()
        for index in 0..<5 { await store.append("\(index)", bytes: 1000) }
        try await store.waitForSpares()
        store.disk.inject(Fault("/v0/", operation, code: EIO, writtenBytes: 4096))
        let wasTold = Mutex(false)
        store.post(TestStore.entry("meanwhile", bytes: 1000)) { [store] _ in
            wasTold.withLock { $0 = store.failedVolumes == [0] && store.generation.epoch == Epoch(rawValue: 3) }
        }
        #expect(await store.barrier() == nil)
        #expect(wasTold.withLock { $0 })
        #expect(store.generation.volumes == [store.ids[1], store.ids[2]])
        #expect(store.generation.firstNumber == LogNumber(rawValue: 6))
        for index in 0..<5 { await store.append("after \(index)", bytes: 1000) }
        #expect(store.journal?.usage.failedReplicas == 1)
        #expect(store.journal?.usage.segmentsShortOfReplicas == 1)
        #expect(store.disk.callCount(operation, under: "/v0/") > 0)
        try await store.checkClaims()
        await store.crash()
        for away in [[], [0], [1], [2], [3]] {
            store.away = Set(away)
            if away == [1] {
                // The first segment was only there.
                #expect(throws: JournalRefusal.self) {
                    store.away = [0, 1]; try store.recover(level: false)
                }
                store.away = [1]
            }
            try store.recover(level: false)
            #expect(store.recovered.count == 11)
            store.checkRecovered()
        }
        await store.close()
    }

    @Test("a replica that hangs is dropped after a while, and what it writes later is void")
    func hangingReplica() async throws {
        let store = TestStore()
        try store.start()
        await store.append("first")
        try await store.waitForSpares()
        let gate = Gate(count: 2)
        let hangs = Flag()
        store.disk.before(.write, under: "/v0/") {
            hangs.raise()
            gate.arriveAndWait()
        }
        let isAnswered = Mutex(false)
        store.post(TestStore.entry("second")) { error in isAnswered.withLock { $0 = error == nil } }
        hangs.wait()
        store.journal!.tick()
        store.clock.advance(seconds: 9)
        store.journal!.tick()
        #expect(isAnswered.withLock { !$0 })
        store.clock.advance(seconds: 2)
        store.journal!.tick()
        #expect(await store.barrier() == nil)
        #expect(isAnswered.withLock { $0 })
        // The other one may not have been heard of in time either, as nothing says when its thread has come so far.
        #expect(store.failedVolumes.contains(0))
        await store.append("third")
        store.disk.removeHooks()
        gate.arriveAndWait()
        await store.append("fourth")
        await store.crash()
        try store.start()
        #expect(store.recovered.count == 4)
        store.checkRecovered()
        await store.close()
    }

    @Test("a volume without room gets no segment, which is no failure of it")
    func noRoomOnOne() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        store.disk.setCapacity(40_000, under: "/v0")
        try store.start()
        for index in 0..<4 { #expect(await store.append("\(index)", bytes: 20_000) == nil) }
        #expect(store.failedVolumes == [])
        #expect(store.generation.volumes == [store.ids[1], store.ids[2]])
        await store.crash()
        try store.start()
        #expect(store.recovered.count == 4)
        store.checkRecovered()
        await store.close()
    }

    @Test("without room anywhere the reserve is used, then the journal fails once and for all")
    func noRoomAtAll() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        store.bounds.minFreeBytes = 64 << 10
        store.bounds.capacityBytes = 1 << 20
        // Four segments and a little.
        for volume in 0..<4 { store.disk.setCapacity(150_000, under: "/v\(volume)") }
        try store.start()
        var answered = 0
        while answered < 20, await store.append("\(answered)", bytes: 20_000) == nil {
            answered += 1
            if answered == 4 {
                try await eventually("it is known that there is no room") {
                    store.journal!.tick()
                    return !store.journal!.hasRoom(forPayloadBytes: 1)
                }
            }
        }
        #expect(answered >= 7)
        #expect(answered < 20)
        #expect(store.failedVolumes == [])
        let failures = store.state.withLock { $0.journalFailures }
        #expect(failures.count == 1)
        #expect(await store.append("late") == failures.first)
        #expect(await store.barrier() == failures.first)
        await store.crash()
        for volume in 0..<4 { store.disk.setCapacity(nil, under: "/v\(volume)") }
        try store.start()
        #expect(store.recovered.count == answered)
        store.checkRecovered()
        await store.close()
    }

    @Test("if no epoch can be begun, or too few volumes are left, all who wait are told")
    func failsForGood() async throws {
        for tooFew in [true, false] {
            let store = TestStore()
            try store.start()
            await store.append("first")
            if tooFew {
                for volume in 0..<3 { store.disk.inject(Fault("/v\(volume)/", code: EIO)) }
            } else {
                store.disk.inject(Fault("/v0/", .sync, code: EIO))
                store.state.withLock { $0.refusesGenerations = true }
            }
            let errors = Mutex(0)
            for index in 0..<10 {
                store.post(TestStore.entry("\(index)")) { e in if e != nil { errors.withLock { $0 += 1 } } }
            }
            #expect(await store.barrier() != nil)
            #expect(errors.withLock { $0 } == 10)
            #expect(store.state.withLock { $0.journalFailures.count } == 1)
            store.disk.removeFaults()
            await store.crash()
            try store.start()
            store.checkRecovered()
            await store.close()
        }
    }

    @Test("segments that lost a replica are copied to another volume")
    func copies() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        store.keepsClaims = true
        try store.start()
        for index in 0..<6 { await store.append("\(index)", bytes: 20_000) }
        #expect(store.generation.volumes == [store.ids[0], store.ids[1]])
        store.disk.disappear("/v0/")
        await store.append("after", bytes: 20_000)
        let journal = store.journal!
        #expect(journal.usage.segmentsShortOfReplicas == 6)
        try await eventually("all are copied") {
            journal.tick()
            return journal.usage.segmentsShortOfReplicas == 0
        }
        try await store.checkClaims()
        // Also the second one may go now.
        store.disk.disappear("/v1/")
        await store.append("later", bytes: 20_000)
        try await store.checkClaims()
        await store.crash()
        store.away = [0, 1]
        try store.start()
        #expect(store.recovered.count == 8)
        store.checkRecovered()
        try await store.checkClaims()
        await store.close()
    }

    @Test("a replica is replaced although nothing is appended")
    func idleReplacement() async throws {
        let store = TestStore()
        try store.start()
        await store.append("first")
        store.state.withLock { _ = $0.unusable.insert(store.ids[1]) }
        store.journal!.tick()
        try await eventually("a new generation") { store.generation.volumes == [store.ids[0], store.ids[2]] }
        try await eventually("a copy") {
            store.journal!.tick()
            return store.journal!.usage.segmentsShortOfReplicas == 0
        }
        await store.crash()
        store.away = [0, 1]
        try store.start()
        #expect(store.recovered.count == 1)
        await store.close()
    }

    @Test("bytes that a replica has lost are read from another one, which is then copied")
    func damagedPayload() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        store.keepsClaims = true
        try store.start()
        await store.append("x", bytes: 20_000)
        await store.append("y", bytes: 20_000)
        store.disk.flipBits("/v0/journal/1.segment", at: 15_000)
        let syncs = store.disk.callCount(.sync)
        try await store.checkClaims()
        try await eventually("it is known") {
            store.journal!.tick()
            return store.journal!.usage.segmentsShortOfReplicas == 1 || store.disk.callCount(.sync) >= syncs + 2
        }
        try await eventually("a copy") {
            store.journal!.tick()
            return store.journal!.usage.segmentsShortOfReplicas == 0
        }
        store.disk.flipBits("/v1/journal/1.segment", at: 15_000)
        try await store.checkClaims()
        await store.close()
    }

    @Test("a read that hangs is answered by another replica")
    func hangingRead() async throws {
        let store = TestStore()
        store.keepsClaims = true
        try store.start()
        await store.append("x", bytes: 2000)
        let gate = Gate(count: 2)
        let hangs = Flag()
        store.disk.before(.read, under: "/v0/") {
            hangs.raise()
            gate.arriveAndWait()
        }
        async let check: Void = store.checkClaims()
        await withCheckedContinuation { continuation in
            let thread = ThreadGroup()
            thread.start {
                hangs.wait()
                continuation.resume()
            }
        }
        store.clock.advance(seconds: 20)
        store.journal!.tick()
        try await check
        store.disk.removeHooks()
        gate.arriveAndWait()
        await store.close()
    }
}
