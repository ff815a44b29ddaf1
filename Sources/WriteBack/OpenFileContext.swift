// The state of one file that is being written (HDFS: OpenFileCtx): its live attributes, its pending writes,
// its one order of WRITE, truncate and remove, and the turns of its write-back task.
//
// A state machine without I/O behind one lock. Everything here returns at once; the `WriteBack` that
// drives it does what the answers say.
//
//   resting ──write──▶ dirty ──demand──▶ scheduled ──takeTurn──▶ draining ──finish──▶ resting, dirty or scheduled
//   any state ──failed drain──▶ failed (sticky: until a client was told) ──▶ resting
//   any state ──remove──▶ removed
//
// Invariants: times are set at arrival, never by a drain; ctime strictly increases; `drainedThrough` ≤
// `sequence`; everything written up to `drainedThrough` is durable; at most one turn is out.
//
// Lock order: `state` is taken last; nothing is called while it is held.

public import Model
internal import Platform
internal import Synchronization

/// One file's write state. May be used from any thread.
public final class OpenFileContext: Sendable {
    public let fileID: FileID
    private let state: Mutex<State>

    fileprivate struct State {
        var attributes: FileAttributes
        var pending = PendingWrites()
        /// Of the last WRITE or truncate that was given its place.
        var sequence: WriteSequence
        var drainedThrough: WriteSequence
        /// The last WRITE that is answered before it is durable.
        var lastUnstable = WriteSequence.zero
        var demand = DrainDemand.none
        var isScheduled = false
        /// The sizes that the file was truncated to while a drain is out: its bytes from there on are void.
        var drainClip: UInt64?
        var isDraining = false
        /// Whether the sink may hold something open for this file.
        var hasOpenOutput = false
        var failure: WriteBackError?
        /// Failures so far, and the last of them: for a write that waits after somebody else was told.
        var failureCount = 0
        var lastFailure: WriteBackError?
        /// After a failed drain the store could not say what it has of the file: the failure stays, told or not.
        var isNotReverted = false
        var wasLastingFailureTold = false
        var isRemoved = false
        var waiters: [Waiter] = []
        var lastArrival = Duration.zero
        /// Pending bytes at which it is worth looking for full stripes again.
        var nextStripeCheck = 0
        /// Where the next turn begins if there are more runs than a turn takes.
        var nextRunOffset: UInt64 = 0
        /// What the turn that is out leaves undone.
        var demandAfterTurn = DrainDemand.none
    }

    fileprivate struct Waiter {
        let sequence: WriteSequence
        let continuation: UnsafeContinuation<WriteBackError?, Never>
    }

    /// How much of the pending writes is wanted out.
    enum DrainDemand: Int, Comparable {
        case none, fullStripes, everything, rest
        static func < (left: DrainDemand, right: DrainDemand) -> Bool { left.rawValue < right.rawValue }
    }

    /// - Parameter sequence: the highest that the store knows of this file.
    public init(attributes: FileAttributes, sequence: WriteSequence) {
        fileID = attributes.fileID
        state = Mutex(State(attributes: attributes, sequence: sequence, drainedThrough: sequence))
    }

    // MARK: Attributes

    /// As readers see them: size and times include what is still pending.
    public var attributes: FileAttributes { state.withLock { $0.liveAttributes } }

    /// Applies a change that the store has recorded. `change` must not touch the size; see `truncate`.
    public func updateAttributes(_ change: (inout FileAttributes) -> Void) {
        state.withLock { state in
            let size = state.attributes.size
            change(&state.attributes)
            precondition(state.attributes.size == size)
        }
    }

    /// Whether the file is gone.
    public var isRemoved: Bool { state.withLock { $0.isRemoved } }

    /// The highest sequence given out.
    public var sequence: WriteSequence { state.withLock { $0.sequence } }

    // MARK: Writing

    /// What an accepted write leads to.
    public struct Acceptance: Sendable {
        public let sequence: WriteSequence
        public let change: (before: FileAttributes, after: FileAttributes)
        /// Bytes of memory that this file now holds more than before; less than the payload's where it
        /// covered older pending bytes.
        let addedBytes: Int
        let mustSchedule: Bool
        /// The file is in so many pieces that the writer must wait until it is drained.
        let hasTooManyPieces: Bool
        /// Failed drains before this write.
        let failureCount: Int
    }

    /// Gives the write its place in the file's order and makes it visible. `now` becomes the time of the file.
    ///
    /// Throws the sticky error of an earlier write-back, which is told by this, or `removed`.
    /// - Precondition: the payload ends at or below `Limits.maxFileBytes`.
    func write(
        _ payload: Payload, at offset: UInt64, isStable: Bool, now: Timestamp, elapsed: Duration,
        clearingModeBits mask: UInt32,
        limits: WriteBackLimits, stripeSizeBytes: Int
    ) throws(WriteBackError) -> Acceptance {
        let result: Result<Acceptance, WriteBackError> = state.withLock { state in
            if state.isRemoved { return .failure(.removed) }
            if let failure = state.tellFailure() { return .failure(failure) }
            let before = state.liveAttributes
            if payload.isEmpty {
                return .success(
                    Acceptance(
                        sequence: state.sequence, change: (before, before), addedBytes: 0, mustSchedule: false,
                        hasTooManyPieces: false, failureCount: state.failureCount))
            }
            let heldBefore = state.pending.heldBytes
            state.sequence = state.sequence.next
            state.pending.insert(payload, at: offset, sequence: state.sequence)
            if !isStable { state.lastUnstable = state.sequence }
            state.attributes.size = max(state.attributes.size, offset + UInt64(payload.count))
            state.attributes.mode &= ~mask
            state.attributes.touch(now)
            state.lastArrival = elapsed
            if state.pending.byteCount >= max(limits.drainChunkBytes, state.nextStripeCheck) {
                let ready = state.pending.fullStripeBytes(stripeSizeBytes)
                if ready >= limits.drainChunkBytes {
                    state.demand = max(state.demand, .fullStripes)
                    state.nextStripeCheck = 0
                } else {
                    // Looking costs a walk over the pieces: do it once a quarter chunk, not at each write.
                    state.nextStripeCheck = state.pending.byteCount + limits.drainChunkBytes / 4
                }
            }
            let pieces = state.pending.pieces.count
            if pieces >= limits.maxPieces / 2 { state.demand = max(state.demand, .everything) }
            return .success(
                Acceptance(
                    sequence: state.sequence, change: (before, state.liveAttributes),
                    addedBytes: state.pending.heldBytes - heldBefore, mustSchedule: state.schedule(),
                    hasTooManyPieces: pieces >= limits.maxPieces, failureCount: state.failureCount))
        }
        return try result.get()
    }

    /// A truncate takes its place in the order, at the moment when the store records it (on the namespace
    /// thread): pending bytes beyond `size` go, also those that a drain has in hand. Returns the bytes freed.
    public func truncate(to size: UInt64, change: (inout FileAttributes) -> Void) -> (
        sequence: WriteSequence, freedBytes: Int
    ) {
        state.withLock { state in
            let heldBefore = state.pending.heldBytes
            state.sequence = state.sequence.next
            state.pending.truncate(to: size)
            if state.isDraining { state.drainClip = min(state.drainClip ?? size, size) }
            state.attributes.size = size
            change(&state.attributes)
            return (state.sequence, heldBefore - state.pending.heldBytes)
        }
    }

    /// The record of the truncate with this sequence is durable: a COMMIT that finds nothing written since
    /// has nothing to wait for.
    public func truncateIsDurable(_ sequence: WriteSequence) {
        state.withLock { state in
            if state.sequence == sequence, state.pending.isEmpty, !state.isDraining {
                state.drainedThrough = sequence
            }
        }
    }

    /// The file is gone. Returns the pending bytes that were freed; whoever waits for them is told.
    public func remove() -> Int {
        let (freed, waiters) = state.withLock { state in
            state.isRemoved = true
            // Nobody can ask for it any more.
            state.failure = nil
            let freed = state.pending.heldBytes
            state.pending.removeAll()
            if state.isDraining { state.drainClip = 0 }
            defer { state.waiters = [] }
            return (freed, state.waiters)
        }
        for waiter in waiters { waiter.continuation.resume(returning: .removed) }
        return freed
    }

    // MARK: Reading

    /// The pending bytes in `range` and the attributes at the same moment.
    ///
    /// Take this first and the store's extents second: a byte leaves the pending writes only after its
    /// extent was published, so it is in one of the two, and pending bytes are newer than any extent that
    /// was there at this moment.
    /// Throws while the bytes of a failed drain are gone and the size still counts them.
    /// - Parameter limit: of pieces; from the last one on there may be more.
    public func snapshot(
        _ range: ByteRange, limit: Int = .max
    ) throws(WriteBackError) -> (pending: [PendingWrite], attributes: FileAttributes) {
        let result: Result<([PendingWrite], FileAttributes), WriteBackError> = state.withLock { state in
            if let failure = state.failure, state.isDraining || state.isNotReverted { return .failure(failure) }
            return .success((state.pending.overlapping(range, limit: limit), state.liveAttributes))
        }
        return try result.get()
    }

    // MARK: Draining

    /// Asks for what `demand` says; true when the caller must queue the file for a drain.
    func request(_ demand: DrainDemand) -> Bool {
        state.withLock { state in
            if state.pending.isEmpty && !(demand == .rest && state.hasOpenOutput) { return false }
            state.demand = max(state.demand, demand)
            return state.schedule()
        }
    }

    /// Whether nothing arrived for `duration`, but something is pending or open.
    func isIdle(for duration: Duration, at elapsed: Duration) -> Bool {
        state.withLock { state in
            (!state.pending.isEmpty || state.hasOpenOutput) && elapsed - state.lastArrival >= duration
        }
    }

    /// Neither pending bytes, nor a drain, nor anything open, nor an error that nobody was told.
    public var isClean: Bool {
        state.withLock { state in
            state.pending.isEmpty && !state.isDraining && !state.isScheduled && !state.hasOpenOutput
                && (state.failure == nil || state.wasLastingFailureTold)
        }
    }

    /// Memory that the pending writes keep.
    var heldBytes: Int { state.withLock { $0.pending.heldBytes } }

    /// Waits until everything written so far is durable. `schedule` is called when a drain must be queued.
    ///
    /// - Parameter failureCount: of the write that waits, if it is one: a drain that has failed since may have had
    ///   its bytes, even if somebody else was told of that.
    func waitUntilDurable(since failureCount: Int? = nil, schedule: () -> Void) async throws(WriteBackError) {
        let error: WriteBackError? = await withUnsafeContinuation { continuation in
            enum Answer { case now(WriteBackError?), later(mustSchedule: Bool) }
            let answer: Answer = state.withLock { state in
                if state.isRemoved { return .now(.removed) }
                if let failure = state.tellFailure() { return .now(failure) }
                if let failureCount, failureCount != state.failureCount { return .now(state.lastFailure) }
                if state.sequence <= state.drainedThrough { return .now(nil) }
                state.waiters.append(Waiter(sequence: state.sequence, continuation: continuation))
                state.demand = max(state.demand, .everything)
                return .later(mustSchedule: state.schedule())
            }
            switch answer {
            case .now(let error): continuation.resume(returning: error)
            case .later(let mustSchedule): if mustSchedule { schedule() }
            }
        }
        if let error { throw error }
    }

    /// Begins a turn: the plan and the right to carry it out; nil when there is nothing to do.
    func takeTurn(stripeSizeBytes: Int, limits: WriteBackLimits) -> DrainTurn? {
        state.withLock { state in
            precondition(state.isScheduled && !state.isDraining, "one write-back task per file")
            state.isScheduled = false
            let demand = state.demand
            state.demand = .none
            let rests = demand == .rest
            if demand == .none { return nil }
            // Bytes that somebody waits for may have been truncated away. Then an empty plan waits in their
            // place until what the truncate recorded is durable.
            if state.pending.isEmpty && state.waiters.isEmpty && !(rests && state.hasOpenOutput) { return nil }

            var ranges: [ByteRange] = []
            let runs = state.pending.runs()
            state.demandAfterTurn = .none
            if demand == .fullStripes {
                var room = UInt64(limits.maxDrainBytes)
                let stripe = UInt64(stripeSizeBytes)
                for run in runs {
                    let count = min(run.count, max(room, stripe)) / stripe * stripe
                    guard count > 0 else { continue }
                    ranges.append(ByteRange(offset: run.lowerBound, count: count))
                    room = room > count ? room - count : 0
                    if room == 0 { break }
                }
                if ranges.isEmpty { return nil }
            } else if runs.count <= limits.maxRunsPerTurn {
                ranges = runs
            } else {
                // Round and round by offset, so that none waits for ever while others arrive.
                let first = runs.firstIndex { $0.lowerBound >= state.nextRunOffset } ?? 0
                ranges = Array(runs[first...].prefix(limits.maxRunsPerTurn))
                state.nextRunOffset = ranges.last?.upperBound ?? 0
                state.demandAfterTurn = demand
            }
            let planned = ranges.reduce(UInt64(0)) { $0 + $1.count }
            let drainRuns = ranges.map { range in
                var payload = Payload()
                for piece in state.pending.overlapping(range) { payload.append(piece.payload) }
                return DrainRun(range: range, payload: payload)
            }
            state.isDraining = true
            state.drainClip = nil
            state.hasOpenOutput = true
            let plan = DrainPlan(
                runs: drainRuns, sequence: state.sequence, coversEverything: planned == UInt64(state.pending.byteCount),
                rests: rests)
            return DrainTurn(file: fileID, plan: plan)
        }
    }

    /// While a drain is out: its bytes from here on were truncated away meanwhile; nil when none were. To be
    /// asked where the extents are recorded, in order with truncates (on the namespace thread).
    public var drainClip: UInt64? { state.withLock { $0.drainClip } }

    /// Ends a turn that succeeded: what was published leaves memory, who waited for it is answered.
    /// Returns the bytes freed and whether the file must be queued again.
    func finishDrain(_ turn: consuming DrainTurn) -> (freedBytes: Int, mustSchedule: Bool) {
        precondition(turn.file == fileID)
        let plan = turn.plan
        let (freed, ready, again) = state.withLock { state in
            state.isDraining = false
            let heldBefore = state.pending.heldBytes
            state.pending.remove(plan.runs.map(\.range), through: plan.sequence)
            if plan.rests { state.hasOpenOutput = false }
            if plan.coversEverything {
                state.drainedThrough = max(state.drainedThrough, plan.sequence)
            } else if let oldest = state.pending.oldest {
                // Of a file in more pieces than a turn takes: what is older than all that is left is durable.
                let through = min(plan.sequence, WriteSequence(rawValue: oldest.rawValue - 1))
                state.drainedThrough = max(state.drainedThrough, through)
            }
            state.demand = max(state.demand, state.demandAfterTurn)
            let reached = state.drainedThrough
            let ready = state.waiters.filter { $0.sequence <= reached }
            state.waiters.removeAll { $0.sequence <= reached }
            if !state.waiters.isEmpty { state.demand = max(state.demand, .everything) }
            return (heldBefore - state.pending.heldBytes, ready, state.schedule())
        }
        for waiter in ready { waiter.continuation.resume(returning: nil) }
        return (freed, again)
    }

    /// Ends a turn that failed, first half: new writes are refused from here on, the pending bytes are given
    /// up. Returns the bytes freed, and whether some of them had been acknowledged.
    func beginFailure(_ error: WriteBackError) -> (freedBytes: Int, losesAcknowledged: Bool) {
        state.withLock { state in
            if !state.isRemoved { state.failure = error }
            state.failureCount += 1
            state.lastFailure = error
            let losesAcknowledged =
                !state.isRemoved && !state.pending.isEmpty && state.lastUnstable > state.drainedThrough
            let freed = state.pending.heldBytes
            state.pending.removeAll()
            state.demand = .none
            return (freed, losesAcknowledged)
        }
    }

    /// Between the halves: the file is again what the store has of it.
    public func revert(size: UInt64, usedBytes: UInt64) {
        state.withLock { state in
            state.attributes.size = size
            state.attributes.usedBytes = usedBytes
        }
    }

    /// Second half, after the write verifier changed and the file was reverted: whoever waited is told. An
    /// error that somebody was told is not sticky any more, unless the file could not be reverted.
    func endFailure(_ error: WriteBackError, isReverted: Bool, turn: consuming DrainTurn) {
        precondition(turn.file == fileID)
        let waiters = state.withLock { state in
            state.isDraining = false
            state.isScheduled = false
            state.hasOpenOutput = false
            state.drainedThrough = state.sequence
            state.isNotReverted = !isReverted
            if !state.waiters.isEmpty {
                if isReverted { state.failure = nil } else { state.wasLastingFailureTold = true }
            }
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.continuation.resume(returning: error) }
    }
}

extension OpenFileContext.State {
    /// With what is pending counted as used.
    fileprivate var liveAttributes: FileAttributes {
        var attributes = attributes
        attributes.usedBytes += UInt64(pending.byteCount)
        return attributes
    }

    /// Whether the caller must queue the file; it then counts as queued.
    fileprivate mutating func schedule() -> Bool {
        guard demand != .none, !isScheduled, !isDraining, failure == nil else { return false }
        isScheduled = true
        return true
    }

    /// The sticky error, which the caller promises to tell a client. While the failed drain is still being
    /// wound up the error stays: it must not be forgotten before the verifier changed.
    fileprivate mutating func tellFailure() -> WriteBackError? {
        guard let failure else { return nil }
        if isNotReverted {
            wasLastingFailureTold = true
        } else if !isDraining {
            self.failure = nil
        }
        return failure
    }
}

extension FileAttributes {
    /// Sets modification and change time; the change time strictly increases whatever the clock does.
    public mutating func touch(_ now: Timestamp) {
        modificationTime = now
        touchChangeTime(now)
    }

    /// Sets the change time, which strictly increases whatever the clock does.
    public mutating func touchChangeTime(_ now: Timestamp) {
        changeTime = max(now, changeTime.successor)
    }
}

extension PendingWrites {
    /// Bytes that lie in full stripes of runs.
    func fullStripeBytes(_ stripeSizeBytes: Int) -> Int {
        runs().reduce(0) { $0 + Int($1.count) / stripeSizeBytes * stripeSizeBytes }
    }
}
