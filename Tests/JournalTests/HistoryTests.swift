// Random histories of a store: appends, failures of disks, power cuts at any call, also during recovery, volumes that are
// away and return, segments that are freed and used again. After each start all that was answered and is still needed is
// there, in order, and nothing else.
//
//   SLUICE_JOURNAL_HISTORIES=100000   so many, instead of what is quick
//   SLUICE_JOURNAL_HISTORY=4711       only this one
//
// A seed says what is done; which thread comes first in it is the machine's business, so a failing seed may need a few runs.

import FaultInjection
import Glibc
import Journal
import Model
import Platform
import Synchronization
import Testing

@Suite("Journal: histories", .timeLimit(.minutes(600)))
struct HistoryTests {
    private static func number(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }

    @Test("whatever happens, what was answered is there, and nothing that was never appended")
    func histories() async throws {
        let one = Self.number("SLUICE_JOURNAL_HISTORY")
        let seeds = one.map { $0..<$0 + 1 } ?? 0..<(Self.number("SLUICE_JOURNAL_HISTORIES") ?? 400)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for part in 0..<UInt64(4) {
                group.addTask {
                    for seed in seeds where seed % 4 == part { try await History(seed: seed).run() }
                }
            }
            try await group.waitForAll()
        }
    }
}

private final class History {
    private let seed: UInt64
    private var random: SeededGenerator
    private let store: TestStore
    private let replicas: Int
    private var applied: UInt64 = 0

    init(seed: UInt64) {
        self.seed = seed
        random = SeededGenerator(seed: seed)
        replicas = Int.random(in: 1...3, using: &random)
        store = TestStore(
            volumes: 2 * replicas - 1 + Int.random(in: 0...2, using: &random), replicas: replicas,
            segmentBytes: 32 << 10)
        store.keepsClaims = true
        store.bounds.capacityBytes = 12 * 32 << 10
    }

    func run() async throws {
        for _ in 0..<Int.random(in: 2...5, using: &random) {
            guard await start() else { return }
            try await work()
            await store.crash(seed: random.next())
        }
        store.away = []
        guard await start() else { return }
        try await store.checkClaims("seed \(seed)")
        await store.close()
        if store.disk.openFileCount != 0 { Issue.record("seed \(seed): \(store.disk.openFileCount) files are open") }
    }

    /// Starts, sometimes with power cuts on the way, sometimes without some volumes.
    private func start() async -> Bool {
        let held = Set(store.held)
        let (answered, epochBefore) = store.state.withLock { ($0.answered, $0.generation.epoch) }
        store.away =
            Bool.random(using: &random) ? [] : Set(store.ids.indices.shuffled(using: &random).prefix(replicas - 1))
        for _ in 0..<max(0, Int.random(in: -1...2, using: &random)) {
            store.disk.losePower(afterCalls: Int.random(in: 0...30, using: &random))
            do { try store.recover() } catch { isExpected(error) }
            await store.crash(seed: random.next())
        }
        var result: RecoveredJournal
        do {
            result = try store.recover()
        } catch {
            // Segments may still have been without copies.
            guard !store.away.isEmpty else {
                Issue.record("seed \(seed): refused with all volumes there: \(error)")
                return false
            }
            store.away = []
            do {
                result = try store.recover()
            } catch {
                Issue.record("seed \(seed): refused with all volumes there: \(error)")
                return false
            }
        }
        let missing = (applied + 1..<max(answered, applied) + 1).filter { store.recovered[$0] == nil }
        if !missing.isEmpty {
            Issue.record("seed \(seed): \(missing) were answered and are gone, epoch \(epochBefore)")
        }
        let lost = held.filter { store.recovered[$0] == nil && $0 <= answered }
        if !lost.isEmpty { Issue.record("seed \(seed): the bytes of \(lost) were claimed and are gone") }
        store.checkRecovered(from: answered + 1, "seed \(seed)")
        if result.lastNumber.rawValue < answered {
            Issue.record("seed \(seed): the log ends at \(result.lastNumber), \(answered) was answered")
        }
        store.dropClaims { !held.contains($0) && $0 <= answered }
        do {
            try store.go(on: result)
        } catch {
            Issue.record("seed \(seed): \(error)")
            return false
        }
        // What was recovered is as good as answered now.
        store.state.withLock { $0.answered = max($0.answered, result.lastNumber.rawValue) }
        return true
    }

    private func isExpected(_ error: any Error) {
        if !(error is JournalRefusal) { Issue.record("seed \(seed): \(error)") }
    }

    private func work() async throws {
        if Bool.random(using: &random) { store.disk.losePower(afterCalls: Int.random(in: 1...200, using: &random)) }
        for _ in 0..<Int.random(in: 3...25, using: &random) {
            let journal = store.journal!
            switch Int.random(in: 0..<16, using: &random) {
            case 0..<7:
                for _ in 0..<Int.random(in: 1...8, using: &random) {
                    store.post(.random(&random, maxBytes: Bool.random(using: &random) ? 300 : 12_000))
                }
                if Bool.random(using: &random) { _ = await store.barrier() }
            case 7:
                store.post(TestStore.entry("large", bytes: 70_000))
            case 8, 9:
                let answered = store.state.withLock { $0.answered }
                applied = max(applied, answered - UInt64.random(in: 0...min(answered, 6), using: &random))
                journal.noteApplied(through: LogNumber(rawValue: applied))
            case 10, 11:
                let share = UInt64.random(in: 1...3, using: &random)
                store.dropClaims { $0 % 3 < share }
            case 12:
                let volume = Int.random(in: 0..<store.ids.count, using: &random)
                let operations: [FileOperation?] = [.write, .sync, .open, .rename, nil]
                store.disk.inject(
                    Fault(
                        "/v\(volume)/", operations.randomElement(using: &random) ?? nil,
                        code: [EIO, ENOSPC].randomElement(using: &random)!,
                        afterCalls: Int.random(in: 0...20, using: &random),
                        count: [nil, 1].randomElement(using: &random) ?? nil,
                        writtenBytes: Int.random(in: 0...9000, using: &random)))
            case 13: _ = await store.barrier()
            default:
                store.clock.advance(seconds: 1)
                journal.tick()
            }
        }
        if Bool.random(using: &random) {
            _ = await store.barrier()
            try await loadSome()
        }
    }

    private func loadSome() async throws {
        guard store.disk.hasPower, !store.disk.hasFaults else { return }
        do {
            try await store.checkClaims("seed \(seed)")
        } catch {
            // The power may have gone meanwhile.
            if store.disk.hasPower { Issue.record("seed \(seed): \(error)") }
        }
    }
}

extension TestStore {
    /// The numbers of entries whose bytes are claimed.
    var held: [UInt64] { state.withLock { $0.claims.filter { !$0.value.isEmpty }.map(\.key) } }

    func dropClaims(_ isDropped: (UInt64) -> Bool) {
        // They end outside of the lock.
        let dropped = state.withLock { state in
            let dropped = state.claims.filter { isDropped($0.key) }
            for number in dropped.keys { state.claims[number] = nil }
            return dropped
        }
        _ = dropped
    }
}
