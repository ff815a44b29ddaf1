// The records that not all mirrors have applied, in order: which of them are durable, and when they are to be applied.
//
// Lock order: `state` is a leaf.

internal import Model
internal import Platform

/// Thread-safe.
final class Backlog: Sendable {
    struct Bounds: Sendable {
        /// As many durable records are applied without waiting for more.
        var records = 4096
        /// The most that are applied in one transaction, but for records that are huge by themselves.
        var batchRecords = 8192
        var batchBytes = 16 << 20
        /// Beyond so many that were made since the start bodies wait for the applier.
        var waitingRecords = 65_536
        var waitingBytes = 64 << 20
    }

    private struct Item {
        let record: MetadataRecord
        let bytes: Int
    }

    private struct State {
        var items: [Item] = []
        var durable: LogNumber
        /// Of those that were made since the start.
        var waitingRecords = 0
        var waitingBytes = 0
        /// What was durable at the last tick.
        var seenAtTick: LogNumber
        /// Whether a batch has been asked for and not begun.
        var isScheduled = false
        /// Whether a body waits for room.
        var isAwaited = false
        /// Nobody waits any more.
        var isAbandoned = false
    }

    let bounds: Bounds
    private let state: Monitor<State>
    /// Those up to here were recovered.
    private let recovered: LogNumber

    /// - Parameters:
    ///   - records: durable ones, that not all mirrors have.
    ///   - number: of the last of them, or that before the next.
    init(_ records: [MetadataRecord], last number: LogNumber, bounds: Bounds = Bounds()) {
        self.bounds = bounds
        recovered = number
        let items = records.map { Item(record: $0, bytes: $0.mutations.count * Self.usualBytes) }
        state = Monitor(State(items: items, durable: number, seenAtTick: LogNumber(rawValue: 0)))
    }

    /// Of an encoded mutation; how long those were that were recovered isn't known any more.
    private static let usualBytes = 100

    /// Each time something may have to be applied by now: whether the caller is to see to it that it is.
    private static func mustSchedule(_ state: inout State, _ isDue: Bool) -> Bool {
        guard isDue, !state.isScheduled, !state.isAbandoned, let first = state.items.first,
            first.record.number <= state.durable
        else { return false }
        state.isScheduled = true
        return true
    }

    // MARK: On the namespace thread

    /// Before it is appended to the log.
    func append(_ record: MetadataRecord, bytes: Int) {
        state.withLock { state in
            state.items.append(Item(record: record, bytes: bytes))
            state.waitingRecords += 1
            state.waitingBytes += bytes
        }
    }

    private func isFull(_ state: State) -> Bool {
        !state.isAbandoned
            && (state.waitingRecords > bounds.waitingRecords || state.waitingBytes > bounds.waitingBytes)
    }

    /// Whether `waitForRoom` would not wait.
    var hasRoom: Bool { state.withLock { !isFull($0) } }

    /// Waits while too much is waiting. `schedule` is called when something is to be applied at once.
    func waitForRoom(_ schedule: () -> Void) {
        let isDue = state.withLock { state in
            guard isFull(state) else { return false }
            state.isAwaited = true
            return Self.mustSchedule(&state, true)
        }
        if isDue { schedule() }
        state.wait { [self] (state) -> Void? in
            guard !isFull(state) else { return nil }
            state.isAwaited = false
            return ()
        }
    }

    /// Whether all records that were made are durable.
    func isDurable(through number: LogNumber) -> Bool { state.withLock { $0.durable >= number } }

    // MARK: From any thread

    /// Returns whether a batch is to be applied.
    func noteDurable(_ number: LogNumber) -> Bool {
        state.withLock { state in
            state.durable = max(state.durable, number)
            guard let first = state.items.first?.record.number, first <= state.durable else { return false }
            let count = state.durable.rawValue - first.rawValue + 1
            return Self.mustSchedule(&state, count >= UInt64(bounds.records) || state.isAwaited)
        }
    }

    /// To be called once a second: returns whether the oldest has waited as long.
    func tick() -> Bool {
        state.withLock { state in
            defer { state.seenAtTick = state.durable }
            guard let first = state.items.first else { return false }
            return Self.mustSchedule(&state, first.record.number <= state.seenAtTick)
        }
    }

    /// Nobody is to wait for room any more.
    func abandon() { state.withLock { $0.isAbandoned = true } }

    var isEmpty: Bool { state.withLock { $0.items.isEmpty } }

    /// Whether so much waits that readers are not spared any more.
    var isHigh: Bool {
        state.withLock {
            $0.waitingRecords > bounds.waitingRecords / 2 || $0.waitingBytes > bounds.waitingBytes / 2
        }
    }

    // MARK: On the applier's thread

    /// The oldest durable records. They stay here until `removeApplied`.
    func nextBatch() -> [MetadataRecord] {
        state.withLock { state in
            state.isScheduled = false
            var batch: [MetadataRecord] = []
            var bytes = 0
            for item in state.items.prefix(bounds.batchRecords) {
                bytes += item.bytes
                guard item.record.number <= state.durable, bytes <= bounds.batchBytes || batch.isEmpty else { break }
                batch.append(item.record)
            }
            return batch
        }
    }

    /// Returns whether another batch is to be applied.
    func removeApplied(_ count: Int) -> Bool {
        state.withLock { state in
            for item in state.items.prefix(count) where item.record.number > recovered {
                state.waitingRecords -= 1
                state.waitingBytes -= item.bytes
            }
            state.items.removeFirst(count)
            guard let first = state.items.first?.record.number else { return false }
            let isDue =
                first <= recovered || state.isAwaited
                || state.durable.rawValue >= first.rawValue + UInt64(bounds.records) - 1
            return Self.mustSchedule(&state, isDue)
        }
    }
}
