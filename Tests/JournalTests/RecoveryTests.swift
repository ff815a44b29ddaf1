// What a start believes, and what it refuses.

import FaultInjection
import Glibc
import Journal
import Model
import Platform
import Synchronization
import Testing

@Suite("Journal: recovery")
struct RecoveryTests {
    /// Bytes of the newest segment's groups, one a unit each.
    private func store(entries: Int) async throws -> TestStore {
        let store = TestStore()
        try store.start()
        for index in 0..<entries { await store.append("entry \(index)") }
        await store.crash()
        return store
    }

    @Test("a start without anything, and crashes before the first segment")
    func empty() async throws {
        let store = TestStore()
        try store.start()
        await store.crash()
        for away in [[], [0], [1]] {
            store.away = Set(away)
            let result = try store.recover()
            #expect(result.lastNumber == LogNumber(rawValue: 0))
            #expect(result.firstNumber == nil)
        }
        store.away = []
        // Starts without an entry, before and after the first one.
        for _ in 0..<3 {
            try store.start()
            await store.crash()
        }
        try store.start()
        await store.append("one")
        await store.crash()
        for _ in 0..<3 {
            try store.start()
            #expect(store.recovered.count == 1)
            await store.crash()
        }
        try store.start()
        await store.append("two")
        await store.crash()
        try store.recover()
        #expect(store.recovered.count == 2)
        store.checkRecovered()
    }

    @Test("without a volume of the generation nothing is believed")
    func noneThere() async throws {
        let store = try await store(entries: 3)
        store.away = [0, 1]
        let refusal = #expect(throws: JournalRefusal.self) { try store.recover() }
        #expect(refusal?.description.contains(store.ids[0].description) == true)
        store.away = []
        // There, but not to be read.
        store.disk.inject(Fault("/v0/", .read, code: EIO))
        store.disk.inject(Fault("/v1/", .list, code: EIO))
        #expect(throws: JournalRefusal.self) { try store.recover() }
        store.disk.removeFaults()
        store.disk.inject(Fault("/v0/", .open, code: EMFILE))
        #expect(throws: JournalRefusal.self) { try store.recover() }
        store.disk.removeFaults()
        try store.recover()
        store.checkRecovered()
    }

    @Test("all combinations of two volumes of five may be away, when older segments are copied")
    func volumesAway() async throws {
        let store = TestStore(volumes: 5, replicas: 3, segmentBytes: 32 << 10)
        try store.start()
        for index in 0..<4 { await store.append("\(index)", bytes: 20_000) }
        store.disk.inject(Fault("/v1/", .sync, code: EIO, count: 1))
        for index in 4..<8 { await store.append("\(index)", bytes: 20_000) }
        try await eventually("copies") {
            store.journal!.tick()
            return store.journal!.usage.segmentsShortOfReplicas == 0
        }
        #expect(store.generation.volumes == [store.ids[0], store.ids[2], store.ids[3]])
        await store.crash()
        for first in 0..<5 {
            for second in first..<5 {
                store.away = [first, second]
                try store.recover(level: false)
                #expect(store.recovered.count == 8)
                store.checkRecovered()
            }
        }
        for away in [[0, 2, 3]] {
            store.away = Set(away)
            #expect(throws: JournalRefusal.self) { try store.recover(level: false) }
        }
    }

    @Test("a group that only one replica heard of is brought to all, and seen by every later start")
    func leveling() async throws {
        let store = TestStore()
        try store.start()
        await store.append("first")
        try await store.waitForSpares()
        store.state.withLock { $0.refusesGenerations = true }
        store.disk.inject(Fault("/v1/", .write, code: EIO))
        #expect(await store.append("second") != nil)
        // It is on the first volume alone.
        store.disk.removeFaults()
        store.state.withLock { $0.refusesGenerations = false }
        await store.crash()
        try store.recover()
        #expect(store.recovered.count == 2)
        for away in 0..<2 {
            store.away = [away]
            store.recovered = [:]
            try store.recover()
            #expect(store.recovered.count == 2)
        }
    }

    @Test("also a segment that had not come to all replicas")
    func levelingNewSegment() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        try store.start()
        await store.append("first", bytes: 20_000)
        try await store.waitForSpares()
        store.state.withLock { $0.refusesGenerations = true }
        store.disk.inject(Fault("/v1/", .write, code: EIO))
        #expect(await store.append("second", bytes: 20_000) != nil)
        store.disk.removeFaults()
        store.state.withLock { $0.refusesGenerations = false }
        await store.crash()
        try store.recover()
        #expect(store.recovered.count == 2)
        store.away = [0]
        try store.recover()
        #expect(store.recovered.count == 2)
        store.checkRecovered()
    }

    /// Volume 0 has heard of an entry 2 that was never answered; the others have begun a new epoch with another entry 2.
    private func staleStore(bytes: Int = 0) async throws -> TestStore {
        let store = TestStore(segmentBytes: 32 << 10)
        try store.start()
        await store.append("first", bytes: bytes)
        try await store.waitForSpares()
        store.disk.inject(Fault("/v1/", .write, code: EIO))
        store.state.withLock { $0.refusesGenerations = true }
        #expect(await store.append("old second", bytes: bytes) != nil)
        store.disk.removeFaults()
        store.state.withLock { $0.refusesGenerations = false }
        await store.crash()
        store.away = [0]
        try store.start()
        #expect(store.recovered.count == 1)
        return store
    }

    @Test("what a volume that was away says of numbers that others have given again is void", arguments: [0, 20_000])
    func staleTail(bytes: Int) async throws {
        let store = try await staleStore(bytes: bytes)
        #expect(await store.append("new second", bytes: bytes) == nil)
        await store.crash()
        for away in [[], [2], [1]] {
            // With 20 000 bytes the segment that it has not answered has the same number as the new one.
            store.away = Set(away)
            try store.recover(level: false)
            #expect(store.recovered.count == 2)
            store.checkRecovered()
        }
        // Its own generation is over.
        store.away = [1, 2]
        #expect(throws: JournalRefusal.self) { try store.recover(level: false) }
        store.away = []
        try store.start()
        for index in 0..<10 { await store.append("more \(index)", bytes: bytes) }
        await store.crash()
        try store.recover()
        #expect(store.recovered.count == 12)
        store.checkRecovered()
    }

    @Test("nor is it believed when the new epoch has written nothing")
    func staleTailWithoutSuccessor() async throws {
        let store = try await staleStore()
        await store.crash()
        store.away = []
        try store.recover()
        #expect(store.recovered.count == 1)
        store.checkRecovered()
    }

    @Test("a segment of an epoch that the superblocks don't know is refused")
    func unknownEpoch() async throws {
        let store = try await store(entries: 2)
        store.state.withLock { s in
            s.generation = JournalGeneration(
                epoch: Epoch(rawValue: 1), volumes: s.generation.volumes, firstNumber: LogNumber(rawValue: 1))
        }
        #expect(throws: JournalRefusal.self) { try store.recover() }
    }

    @Test("missing older segments are named")
    func missingSegment() async throws {
        let store = TestStore(segmentBytes: 32 << 10)
        try store.start()
        for index in 0..<4 { await store.append("\(index)", bytes: 20_000) }
        await store.crash()
        try store.disk.remove("/v0/journal/2.segment")
        try store.recover(level: false)
        try store.disk.remove("/v1/journal/2.segment")
        let refusal = #expect(throws: JournalRefusal.self) { try store.recover(level: false) }
        #expect(refusal?.description.contains("entries 2 to 2 are missing") == true)
        try store.disk.remove("/v0/journal/1.segment")
        try store.disk.remove("/v1/journal/1.segment")
        #expect(throws: JournalRefusal.self) { try store.recover(level: false) }
    }

    @Test("damage of the only replica: all is found or refused, whatever byte it is")
    func damage() async throws {
        let store = try await store(entries: 6)
        store.away = [1]
        let path = "/v0/journal/1.segment"
        // The last group can't be told from one that was never finished.
        var offset = 0
        while offset < 4096 * 6 {
            store.disk.flipBits(path, at: offset)
            var isRefused = false
            do { try store.recover(level: false) } catch { isRefused = error is JournalRefusal }
            if !isRefused {
                #expect(store.recovered.count == 6, "at \(offset)")
                store.checkRecovered(from: 1, "at \(offset)")
            }
            let isUsed = (offset % 4096) < 130
            if offset >= 4096, offset % 4096 < 84 { #expect(isRefused, "at \(offset)") }
            store.disk.flipBits(path, at: offset)
            offset += isUsed ? 1 : 397
        }
        // With the other replica nothing of it matters.
        store.away = []
        for offset in stride(from: 0, to: 4096 * 7, by: 161) {
            store.disk.flipBits(path, at: offset)
            try store.recover(level: false)
            #expect(store.recovered.count == 6, "at \(offset)")
            store.disk.flipBits(path, at: offset)
        }
    }

    @Test("a replica that has lost writes behind its back is repaired by leveling")
    func lostWrites() async throws {
        let store = try await store(entries: 6)
        store.disk.overwrite("/v0/journal/1.segment", at: 3 * 4096, with: Array(repeating: 0, count: 3 * 4096))
        try store.recover()
        store.checkRecovered()
        store.away = [1]
        try store.recover()
        #expect(store.recovered.count == 6)
        store.checkRecovered()
    }

    @Test("a read error where the log may end is not its end")
    func unreadableEnd() async throws {
        let store = try await store(entries: 3)
        store.away = [1]
        // Files are read in large pieces: the first read of each start is the header's.
        store.disk.inject(Fault("/v0/journal/1.segment", isWholePath: true, .read, code: EIO, afterCalls: 1))
        #expect(throws: JournalRefusal.self) { try store.recover(level: false) }
        store.disk.removeFaults()
        store.away = []
        store.disk.inject(Fault("/v0/journal/1.segment", isWholePath: true, .read, code: EIO, afterCalls: 1))
        try store.recover(level: false)
        #expect(store.recovered.count == 3)
        #expect(store.failedVolumes == [0])
    }

    @Test("random bytes, cut files and mixed-up sectors are never a trap", arguments: 0..<40)
    func garbage(seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let store = TestStore(segmentBytes: 32 << 10)
        try store.start()
        for _ in 0..<12 { await store.append(.random(&random, maxBytes: 6000)) }
        await store.crash()
        for _ in 0..<10 {
            for path in try store.segmentFiles {
                guard let content = store.disk.content(of: path), !content.isEmpty else { continue }
                switch Int.random(in: 0..<5, using: &random) {
                case 0: store.disk.truncate(path, to: Int.random(in: 0...content.count, using: &random))
                case 1:
                    store.disk.overwrite(
                        path, at: Int.random(in: 0..<content.count, using: &random),
                        with: [UInt8(truncatingIfNeeded: random.next())])
                case 2:
                    let sector = Int.random(in: 0..<max(1, content.count / 512), using: &random) * 512
                    let piece = Array(content[sector..<min(content.count, sector + 512)])
                    let target = Int.random(in: 0..<max(1, content.count / 512), using: &random) * 512
                    if target + piece.count <= content.count { store.disk.overwrite(path, at: target, with: piece) }
                case 3: store.disk.overwrite(path, at: 0, with: random.bytes(min(content.count, 600)))
                default: break
                }
            }
            do {
                try store.recover(level: false)
                for (number, entry) in store.recovered
                where entry.record != store.state.withLock({ $0.appended[number]?.record }) {
                    Issue.record("seed \(seed): \(number) was never appended")
                }
            } catch is JournalRefusal {
            }
        }
    }
}
