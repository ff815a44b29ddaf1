// A log in memory in front of the mirrors: durable at once, on a thread of its own, or on command; fails on command; and
// what is left of it after a crash.

import Journal
import Model
import Platform
import Synchronization
import Testing

@testable import Namespace

final class SimulatedLog: Sendable {
    enum Mode {
        /// Durable when `append` returns, and so completed by then.
        case atOnce
        /// Made durable by another thread, as many at a time as have gathered.
        case onThread
        /// Made durable by `makeDurable`.
        case held
    }

    private struct Step {
        let entry: JournalEntry?
        let complete: @Sendable (Result<[JournaledBytes], JournalError>) -> Void
    }

    private struct State {
        var mode = Mode.atOnce
        /// Those that are durable, without what was let go of.
        var entries: [JournalEntry] = []
        /// Appended and not durable, and barriers behind them.
        var steps: [Step] = []
        var last: LogNumber
        var durable: LogNumber
        var applied = LogNumber(rawValue: 0)
        var begun = LogNumber(rawValue: 0)
        /// As many more entries become durable.
        var entriesUntilFailure = Int.max
        var hasFailed = false
        var isDelivering = false
        var groups = 0
    }

    private let state: Mutex<State>
    private let thread = WorkThread(name: "log")
    /// Whether it lets go of what all mirrors have applied.
    let forgets: Bool

    init(after last: LogNumber = LogNumber(rawValue: 1), entries: [JournalEntry] = [], forgets: Bool = true) {
        self.forgets = forgets
        state = Mutex(State(entries: entries, last: last, durable: last))
    }

    deinit { thread.stop() }

    var log: MetadataLog {
        MetadataLog(
            append: { [self] entry, _, completion in append(entry, completion: completion) },
            barrier: { [self] in barrier($0) },
            noteApplied: { [self] in noteApplied($0) }, noteBegun: { [self] in noteBegun($0) })
    }

    /// What a start finds.
    var records: [MetadataRecord] {
        state.withLock { $0.entries }.map { entry in
            guard let record = try? MetadataRecord(decoding: entry.record), record.number == entry.number else {
                preconditionFailure("an entry is no record")
            }
            return record
        }
    }
    var payloads: [JournalPayload] { state.withLock { $0.entries.flatMap(\.payloads) } }
    var lastNumber: LogNumber { state.withLock { $0.durable } }
    var begunNumber: LogNumber { state.withLock { $0.begun } }
    var appliedNumber: LogNumber { state.withLock { $0.applied } }
    /// Entries that were appended and are not durable.
    var pendingCount: Int { state.withLock { $0.steps.count { $0.entry != nil } } }
    var groups: Int { state.withLock { $0.groups } }

    func setMode(_ mode: Mode) {
        state.withLock { $0.mode = mode }
        if case .held = mode { return }
        makeDurable()
    }

    /// Fails when so many more entries are durable.
    func fail(afterEntries count: Int = 0) { state.withLock { $0.entriesUntilFailure = count } }

    /// Makes so many entries durable (nil: all), one group, and completes them.
    func makeDurable(_ count: Int? = nil) {
        let group = state.withLock { state in
            var entries = 0
            var end = state.steps.count
            if let count {
                for (index, step) in state.steps.enumerated() where step.entry != nil {
                    if entries == count {
                        end = index
                        break
                    }
                    entries += 1
                }
            }
            defer { state.steps.removeFirst(end) }
            if end > 0 { state.groups += 1 }
            return state.steps.prefix(end).map { step in
                if let entry = step.entry {
                    if state.entriesUntilFailure == 0 { state.hasFailed = true }
                    if !state.hasFailed {
                        state.entriesUntilFailure -= 1
                        state.entries.append(entry)
                        state.durable = entry.number
                    }
                }
                return (step, state.hasFailed)
            }
        }
        for (step, hasFailed) in group {
            if hasFailed {
                step.complete(.failure(.failed("as it was told")))
            } else {
                step.complete(
                    .success(
                        (step.entry?.payloads ?? []).map {
                            JournaledBytes(
                                file: $0.file, offset: $0.offset, count: $0.bytes.count, sequence: $0.sequence)
                        }))
            }
        }
    }

    /// The log as a start after a crash finds it: what is durable, and so many of the entries that are not. Here all of
    /// these fail.
    func crash(keeping count: Int = 0) -> SimulatedLog {
        let (entries, last) = state.withLock { state in
            state.hasFailed = true
            let kept = state.entries + state.steps.compactMap(\.entry).prefix(count)
            return (kept, max(state.durable, kept.last?.number ?? state.durable))
        }
        setMode(.atOnce)
        return SimulatedLog(after: last, entries: entries, forgets: forgets)
    }

    /// The same log once more.
    func copy() -> SimulatedLog {
        let (entries, last) = state.withLock { ($0.entries, $0.durable) }
        return SimulatedLog(after: last, entries: entries, forgets: forgets)
    }

    private func append(
        _ entry: JournalEntry, completion: @escaping @Sendable (Result<[JournaledBytes], JournalError>) -> Void
    ) {
        add(Step(entry: entry, complete: completion))
    }

    private func barrier(_ completion: @escaping @Sendable (JournalError?) -> Void) {
        add(
            Step(entry: nil) { result in
                if case .failure(let error) = result { completion(error) } else { completion(nil) }
            })
    }

    private func add(_ step: Step) {
        let mode = state.withLock { state in
            if let entry = step.entry {
                #expect(entry.number == state.last.next, "entries are not numbered one after the other")
                #expect(entry.number <= state.begun, "\(entry.number) was not begun")
                state.last = entry.number
            }
            state.steps.append(step)
            return state.mode
        }
        switch mode {
        case .atOnce: makeDurable()
        case .onThread: thread.submit { [self] in makeDurable() }
        case .held: break
        }
    }

    private func noteBegun(_ number: LogNumber) { state.withLock { $0.begun = number } }

    private func noteApplied(_ number: LogNumber) {
        state.withLock { state in
            // What the log kept may be applied once more, after a start.
            #expect(number > state.applied || !forgets, "applied \(number) after \(state.applied)")
            #expect(number <= state.durable, "applied \(number), durable \(state.durable)")
            state.applied = number
            if forgets { state.entries.removeAll { $0.number <= number } }
        }
    }
}
