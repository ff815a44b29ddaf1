// The turns of a file's write-back task, and who waits for them.

internal import LockFree
internal import Model
internal import Synchronization

extension OpenFileContext {
    // MARK: Draining

    /// Asks for what `demand` says; true when the caller must queue the file for a drain.
    func request(_ demand: DrainDemand) -> Bool {
        state.withLock { state in
            if state.pendingBytes == 0 && !(demand == .rest && state.hasOpenOutput) { return false }
            state.demand = max(state.demand, demand)
            return state.schedule()
        }
    }

    /// Whether nothing arrived for `duration`, but something is pending or open.
    func isIdle(for duration: Duration, at elapsed: Duration) -> Bool {
        state.withLock { state in
            (state.pendingBytes > 0 || state.hasOpenOutput) && elapsed - state.lastArrival >= duration
        }
    }

    /// Neither pending bytes, nor a drain, nor anything open, nor an error that nobody was told.
    public var isClean: Bool {
        state.withLock { state in
            state.pendingBytes == 0 && state.task == .none && !state.hasOpenOutput
                && (state.failure == nil || state.wasLastingFailureTold)
        }
    }

    /// Memory that the pending writes keep.
    var heldBytes: Int { state.withLock { $0.heldBytes } }

    /// Whether a turn has been asked for or is out.
    var isTurnComing: Bool { state.withLock { $0.task != .none } }

    /// When the last WRITE arrived.
    var lastArrival: Duration { state.withLock { $0.lastArrival } }

    /// Asks for a drain if some of what is pending is in the dump; true when the caller must queue the file.
    func requestDrainOfDumped() -> Bool {
        state.withLock { state in
            guard state.mayBeDumped, state.pendingBytes > 0 else { return false }
            state.demand = max(state.demand, .everything)
            return state.schedule()
        }
    }

    /// Whether somebody waits for bytes to become durable.
    var hasWaiters: Bool { state.withLock { !$0.waiters.isEmpty } }

    /// Waits until everything written so far is durable. `schedule` is called when a drain must be queued.
    ///
    /// - Parameter failureCount: of the write that waits, if it is one: a drain that has failed since may have had
    ///   its bytes, even if somebody else was told of that.
    /// - Parameter isCommit: the caller answers with the verifier as it is then, so that a loss which changes the verifier,
    ///   and is nothing else to be told of, is no error.
    func waitUntilDurable(
        since failureCount: Int? = nil, isCommit: Bool = false, schedule: () -> Void
    ) async throws(WriteBackError) {
        let error: WriteBackError? = await withUnsafeContinuation { continuation in
            enum Answer { case now(WriteBackError?), later(mustSchedule: Bool) }
            let answer: Answer = state.withLock { state in
                if state.isRemoved { return .now(.removed) }
                if let failure = state.tellFailure() { return .now(failure) }
                if let failureCount, failureCount != state.failureCount { return .now(state.lastFailure) }
                if state.sequence <= state.drainedThrough { return .now(nil) }
                state.waiters.append(Waiter(sequence: state.sequence, isCommit: isCommit, continuation: continuation))
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

    /// What comes of a turn that was asked for.
    enum Turn: ~Copyable {
        case drain(DrainTurn)
        case dump(DumpTurn)
        /// There is nothing to drain; the bytes freed by the way, and whether the file must be queued again.
        case nothing(freedBytes: Int, mustSchedule: Bool)
    }

    /// Begins a turn: the plan and the right to carry it out.
    ///
    /// - Parameters:
    ///   - canDump: whether there is a dump that takes something. Asked when something is to be dumped, which it is if the
    ///     answer is yes.
    ///   - needsRelief: whether memory is short at this moment; it may not be any more since relief was asked for.
    func takeTurn(stripeSizeBytes: Int, limits: WriteBackLimits, canDump: () -> Bool, needsRelief: Bool = true) -> Turn
    {
        let (demand, through, from, nextOffset) = state.withLock { state in
            precondition(state.task == .scheduled, "one write-back task per file")
            state.task = .out(isSettling: state.demand == .rest)
            state.drainClip = nil
            if state.demand == .relief && !needsRelief && state.heldByWrites < limits.maxFileBytes {
                state.demand = .fullStripes
            }
            defer { state.demand = .none }
            return (state.demand, state.sequence, state.nextRunOffset, state.drained.nextOffset)
        }
        let planner = DrainPlanner(map, through: through)
        var choice = DrainPlanner.Choice()
        switch demand {
        case .none: break
        case .fullStripes:
            choice = planner.chooseInOrder(from: nextOffset, stripeSizeBytes, limits)
            // What is out of order waits for twice as much: its gaps may be filled.
            if choice.runs.isEmpty, planner.fullStripeBytes(stripeSizeBytes) >= 2 * limits.drainChunkBytes {
                choice = planner.chooseFullStripes(stripeSizeBytes, limits)
            }
        case .relief:
            // In this order: what is drained is done, what is dumped must be read again; and what can't be dumped goes out
            // as it is, so that memory stays bounded.
            choice = planner.chooseFullStripes(stripeSizeBytes, limits)
            if choice.runs.isEmpty {
                // What was written again and again is drained, which frees what lies below, too; a dump would take all of it.
                let findings = planner.isMostlyCovered ? [] : planner.chooseToDump(limits)
                if !findings.isEmpty && canDump() { return .dump(DumpTurn(file: fileID, findings: findings)) }
                choice = planner.chooseAll(from: from, limits, maxBytes: limits.maxDrainBytes)
            }
        case .everything, .rest: choice = planner.chooseAll(from: from, limits)
        }
        let plan = planner.plan(choice, through: through, rests: demand == .rest)
        let nothing: (freedBytes: Int, mustSchedule: Bool)? = state.withLock { state in
            // Bytes that somebody waits for may have been truncated away. Then an empty plan waits in their
            // place until what the truncate recorded is durable.
            let isNeeded =
                !plan.runs.isEmpty || (demand >= .everything && !state.waiters.isEmpty)
                || (demand == .rest && state.hasOpenOutput)
            if isNeeded {
                state.hasOpenOutput = true
                state.nextStripeCheck = 0
                if let next = plan.nextRunOffset {
                    state.nextRunOffset = next
                    // Relief is asked for again if this wasn't enough.
                    if demand >= .everything { state.demand = max(state.demand, demand) }
                }
                return nil
            }
            state.task = .none
            // A truncate may have come since the turn began; its memory is told now, as nobody else may come.
            state.unlinkLeftovers(map)
            return (-state.heldChange(map), state.schedule())
        }
        if let nothing { return .nothing(freedBytes: nothing.freedBytes, mustSchedule: nothing.mustSchedule) }
        return .drain(DrainTurn(file: fileID, plan: plan))
    }

    /// Ends a turn that dumped, or could not. Returns the bytes freed and whether the file must be queued again.
    /// - Parameter places: of the turn's payloads; nil: what is pending must be drained as it is.
    func finishDump(_ turn: consuming DumpTurn, _ places: [DumpPlace]?) -> (freedBytes: Int, mustSchedule: Bool) {
        precondition(turn.file == fileID)
        var freed = 0
        if let places {
            for (finding, place) in zip(turn.findings, places) {
                freed += map.replaceValue(
                    of: finding, by: PendingPayload(.dumped(place)), charge: PendingPayload.overheadBytes)
            }
        }
        let result = state.withLock { state in
            state.heldByWrites -= freed
            if places != nil { state.mayBeDumped = true }
            state.task = .none
            state.unlinkLeftovers(map)
            if places == nil && state.pendingBytes > 0 || !state.waiters.isEmpty {
                state.demand = max(state.demand, .everything)
            }
            return (-state.heldChange(map), state.schedule())
        }
        epochs.collectAll()
        return result
    }

    /// While a drain is out: its bytes from here on were truncated away meanwhile; nil when none were. To be
    /// asked where the extents are recorded, in order with truncates (on the namespace thread).
    public var drainClip: UInt64? { state.withLock { $0.drainClip } }

    /// Ends a turn that succeeded: what was published leaves memory, who waited for it is answered.
    /// Returns the bytes freed and whether the file must be queued again.
    /// - Parameter hasOpenOutput: whether the sink still holds something open for the file.
    func finishDrain(
        _ turn: consuming DrainTurn, hasOpenOutput: Bool
    ) -> (freedBytes: Int, mustSchedule: Bool) {
        precondition(turn.file == fileID)
        let plan = turn.plan
        precondition(!(plan.rests && hasOpenOutput), "nothing stays open for a file that rests")
        let trimmed = map.trim(plan.runs.map(\.range), through: plan.sequence)
        var unlinked = OffsetMap.Unlinked()
        if let first = plan.runs.first, let last = plan.runs.last {
            unlinked = map.unlinkDead(in: ByteRange(first.range.lowerBound, last.range.upperBound))
        }
        let (freed, ready, again) = state.withLock { state in
            _ = state.take(trimmed)
            state.unlinked(unlinked)
            state.task = .none
            state.unlinkLeftovers(map)
            for run in plan.runs {
                // What was truncated away meanwhile is not the file's.
                if let kept = run.range.intersection(ByteRange(0, state.drainClip ?? .max)) {
                    state.drained.insert(kept)
                }
            }
            state.hasOpenOutput = hasOpenOutput
            // It rests: gaps that nothing came into are holes from here on.
            if !hasOpenOutput && state.pendingBytes == 0 {
                state.drained = DrainedRanges(upTo: state.attributes.size)
            }
            state.drainedThrough = max(state.drainedThrough, plan.reaches)
            let reached = state.drainedThrough
            let ready = state.waiters.filter { $0.sequence <= reached }
            state.waiters.removeAll { $0.sequence <= reached }
            if !state.waiters.isEmpty { state.demand = max(state.demand, .everything) }
            return (-state.heldChange(map), ready, state.schedule())
        }
        epochs.collectAll()
        for waiter in ready { waiter.continuation.resume(returning: nil) }
        return (freed, again)
    }

    /// Ends a turn that failed, first half: new writes are refused from here on, the pending bytes are given
    /// up. Returns whether some of them had been acknowledged.
    func beginFailure(_ error: WriteBackError) -> Bool {
        state.withLock { state in
            if !state.isRemoved { state.failure = error }
            refusesWrites.store(true, ordering: .relaxed)
            state.failureCount += 1
            state.lastFailure = error
            let losesAcknowledged =
                !state.isRemoved && state.pendingBytes > 0 && state.lastUnstable > state.drainedThrough
            // Their memory is freed by the second half, as the turn is still out.
            _ = state.take(map.trim(ByteRange(0, Self.endOfAll), through: state.sequence))
            state.hasDeadEntries = true
            state.demand = .none
            return losesAcknowledged
        }
    }

    /// Between the halves: the file is again what the store has of it.
    public func revert(size: UInt64, usedBytes: UInt64) {
        state.withLock { state in
            state.attributes.size = size
            state.attributes.usedBytes = usedBytes
            state.drained = DrainedRanges(upTo: size)
        }
    }

    /// Second half, after the write verifier changed and the file was reverted: whoever waited is told. An
    /// error that somebody was told is not sticky any more, unless the file could not be reverted. The loss of what was
    /// dumped is told by the verifier. Returns the bytes freed.
    func endFailure(_ cause: WriteBackError, isReverted: Bool, turn: consuming DrainTurn) -> Int {
        precondition(turn.file == fileID)
        let isToldByVerifier = cause == .dumpLost && isReverted
        // Asking again is of no use where nobody knows what there is.
        let error = cause == .dumpLost && !isReverted ? .inputOutput : cause
        let (freed, waiters) = state.withLock { state in
            state.task = .none
            state.unlinkLeftovers(map)
            state.hasOpenOutput = false
            state.drainedThrough = state.sequence
            state.isNotReverted = !isReverted
            if !isReverted {
                if !state.isRemoved { state.failure = error }
                state.lastFailure = error
                state.wasLastingFailureTold = !state.waiters.isEmpty
            } else if !state.waiters.isEmpty || isToldByVerifier {
                state.failure = nil
            }
            defer { state.waiters = [] }
            return (-state.heldChange(map), state.waiters)
        }
        epochs.collectAll()
        for waiter in waiters {
            waiter.continuation.resume(returning: isToldByVerifier && waiter.isCommit ? nil : error)
        }
        return freed
    }
}
