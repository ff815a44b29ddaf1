// The turns of a file's write-back task, and who waits for them.

internal import Journal
internal import LockFree
internal import Model
internal import Platform
internal import Synchronization

extension OpenFileContext {
    // MARK: Draining

    /// Asks for what `demand` says; true when the caller must queue the file for a drain.
    func request(_ demand: DrainDemand) -> Bool {
        state.withLock { state in
            if state.pendingBytes == 0 && !(demand == .rest && state.hasOpenOutput) { return false }
            // Its bytes are where they should be, until they are packed. Nor must this come in place of the relief that a turn
            // was asked for: the turn would find nothing to do, memory would still be short, and so on for ever.
            if demand == .rest && state.isSettled && !state.hasNew && !state.hasOpenOutput { return false }
            state.demand = max(state.demand, demand)
            return state.schedule()
        }
    }

    /// Whether nothing arrived for `duration`, but something is open, or pending and not in the journal.
    func isIdle(for duration: Duration, at elapsed: Duration) -> Bool {
        state.withLock { state in
            (state.pendingBytes > 0 || state.hasOpenOutput) && !state.isResting
                && elapsed - state.lastArrival >= duration
        }
    }

    /// Neither pending bytes, nor a drain, nor anything open, nor an error that nobody was told.
    public var isClean: Bool {
        state.withLock { state in
            state.pendingBytes == 0 && state.task == .none && !state.hasOpenOutput
                && (state.failure == nil || state.wasLastingFailureTold)
        }
    }

    /// Whether the store doesn't know what it has of the file, and who had to be told was: nothing more comes of it.
    var isFailingForEver: Bool {
        state.withLock { $0.isNotReverted && $0.wasLastingFailureTold && $0.task == .none && !$0.hasOpenOutput }
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
            guard state.mayBeDumped, state.hasNew else { return false }
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
                if state.sequence <= state.durableThrough { return .now(nil) }
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

    /// Begins the turn that was asked for, if it takes no more than a look at a few places, and a little place in the journal;
    /// if not, that stays asked for.
    func takeLittleTurn(
        stripeSizeBytes: Int, limits: WriteBackLimits, journalHasRoom: (Int) -> Bool
    ) -> DrainTurn? {
        let found: (through: WriteSequence, places: [ByteRange])? = state.withLock { state in
            precondition(state.task == .scheduled, "one write-back task per file")
            guard state.demand == .everything,
                let places = state.places.ofLittleNew(stripeSizeBytes: stripeSizeBytes)
            else { return nil }
            state.task = .out(isSettling: false)
            state.drainClip = nil
            state.demand = .none
            return (state.sequence, places)
        }
        guard let found else { return nil }
        if let turn = journal(found.places, through: found.through, limits: limits, journalHasRoom: journalHasRoom) {
            return turn
        }
        state.withLock { state in
            state.task = .scheduled
            state.demand = max(state.demand, .everything)
        }
        return nil
    }

    /// What comes of a turn that was asked for.
    enum Turn: ~Copyable {
        case drain(DrainTurn)
        case dump(DumpTurn)
        /// There is nothing to be carried out; the bytes freed by the way, and whether the file must be queued again.
        case nothing(freedBytes: Int, mustSchedule: Bool)
    }

    /// Begins a turn: the plan and the right to carry it out.
    ///
    /// - Parameters:
    ///   - journalHasRoom: for so many bytes.
    ///   - canDump: whether there is a dump that takes something. Asked when something is to be dumped, which it is if the
    ///     answer is yes.
    ///   - needsRelief: whether memory is short at this moment; it may not be any more since relief was asked for.
    func takeTurn(
        stripeSizeBytes: Int, limits: WriteBackLimits, journalHasRoom: (Int) -> Bool, canDump: () -> Bool,
        needsRelief: Bool = true
    ) -> Turn {
        let (demand, through, from, nextOffset, isHeldOff, new) = state.withLock { state in
            precondition(state.task == .scheduled, "one write-back task per file")
            if state.isHeldOff && state.demand == .unjournal { state.demand = .rest }
            state.task = .out(isSettling: state.demand >= .rest)
            state.drainClip = nil
            if state.demand == .relief && !needsRelief && state.heldByWrites < limits.maxFileBytes {
                state.demand = .fullStripes
            }
            defer { state.demand = .none }
            let new = state.demand == .everything ? state.places.ofNew(stripeSizeBytes: stripeSizeBytes) : nil
            return (state.demand, state.sequence, state.nextRunOffset, state.drained.nextOffset, state.isHeldOff, new)
        }
        if let new, let turn = journal(new, through: through, limits: limits, journalHasRoom: journalHasRoom) {
            return .drain(turn)
        }
        // A COMMIT needs nothing of what is journaled, unless it makes full stripes with what is new.
        let planner = DrainPlanner(map, through: through, onlyNew: demand == .everything || isHeldOff)
        state.withLock { $0.places.found(planner.allRanges, through: through) }
        let place = DrainPlanner.Place(through: through, rests: demand >= .rest)
        var choice = DrainPlanner.Choice()
        var durable: DrainPlanner.Planned?
        switch demand {
        case .none: break
        case .fullStripes:
            choice = planner.chooseInOrder(from: nextOffset, stripeSizeBytes, limits)
            // What is out of order waits for twice as much: its gaps may be filled.
            if choice.parts.isEmpty, planner.fullStripeBytes(stripeSizeBytes) >= 2 * limits.drainChunkBytes {
                choice = planner.chooseFullStripes(stripeSizeBytes, limits)
            }
        case .relief:
            // In this order: what is drained is done, what is let go or dumped must be read again; and what can't be dumped
            // goes out as it is, so that memory stays bounded.
            choice = planner.chooseFullStripes(stripeSizeBytes, limits)
            if choice.parts.isEmpty {
                if let nothing = release(planner, through: through) { return nothing }
                // What was written again and again is drained, which frees what lies below, too; a dump would take all of it.
                let findings = planner.isMostlyCovered ? [] : planner.chooseToDump(limits)
                if !findings.isEmpty && canDump() { return .dump(DumpTurn(file: fileID, findings: findings)) }
                choice = planner.chooseAll(from: from, stripeSizeBytes, limits, maxBytes: limits.maxDrainBytes)
            }
        case .everything, .rest:
            durable = planner.planDurable(place, from: from, stripeSizeBytes, limits, journalHasRoom: journalHasRoom)
        case .unjournal: choice = planner.chooseAll(from: from, stripeSizeBytes, limits)
        }
        let planned = durable ?? planner.plan(choice, place)
        let plan = planned.plan
        let nothing: (freedBytes: Int, mustSchedule: Bool)? = state.withLock { state in
            // Bytes that somebody waits for may have been truncated away. Then an empty plan waits in their
            // place until what the truncate recorded is durable.
            let isNeeded =
                !plan.runs.isEmpty || !plan.journaling.isEmpty || (demand >= .everything && !state.waiters.isEmpty)
                || (demand >= .rest && (state.hasOpenOutput || state.hasNew))
            if isNeeded {
                state.hasOpenOutput = true
                if !plan.runs.isEmpty { state.nextStripeCheck = 0 }
                if let next = plan.nextRunOffset {
                    state.nextRunOffset = next
                    // Relief is asked for again if this wasn't enough.
                    if demand >= .everything { state.demand = max(state.demand, demand) }
                }
                return nil
            }
            if demand >= .rest { state.settle(through) }
            return state.endTurn(map)
        }
        if let nothing { return .nothing(freedBytes: nothing.freedBytes, mustSchedule: nothing.mustSchedule) }
        return .drain(
            DrainTurn(
                file: fileID, planned, journaledCount: planner.journaledCount, maxJournaledCount: limits.maxRunsPerTurn)
        )
    }

    /// A turn that journals all new writes, of which none makes a stripe with what is beside it: no more is looked at than
    /// where they are. nil if it can't be done so.
    private func journal(
        _ places: [ByteRange], through: WriteSequence, limits: WriteBackLimits, journalHasRoom: (Int) -> Bool
    ) -> DrainTurn? {
        let planner = DrainPlanner(map, through: through, in: places)
        let planned = planner.planJournal(through)
        let count = planned.plan.journalingByteCount
        guard count > 0, count <= limits.maxJournaledBytes, planned.journaling.count <= limits.maxRunsPerTurn,
            journalHasRoom(count)
        else { return nil }
        let turn = DrainTurn(
            file: fileID, planned, journaledCount: state.withLock { $0.journaledCount },
            maxJournaledCount: limits.maxRunsPerTurn)
        // Perhaps: a look at everything counts them.
        if turn.hasTooManyPieces { return nil }
        state.withLock { $0.hasOpenOutput = true }
        return turn
    }

    /// Lets what is journaled go from memory, if there is such; or if all is in the journal, and nothing in memory, says so.
    /// Either ends the turn. nil: there are others to be freed.
    private func release(_ planner: DrainPlanner, through: WriteSequence) -> Turn? {
        let findings = planner.chooseToRelease()
        if findings.isEmpty && planner.hasNew { return nil }
        var freed = 0
        for finding in findings {
            guard case .journaled(let claim, _) = finding.pending.content else {
                preconditionFailure("only what is journaled is let go")
            }
            let value = PendingPayload(.journaled(claim, nil))
            freed += map.replaceValue(of: finding, by: value, charge: value.heldBytes)
        }
        let end = state.withLock { state in
            state.heldByWrites -= freed
            state.isBare = !planner.hasNew && state.lastWrite <= through
            return state.endTurn(map)
        }
        epochs.collectAll()
        return .nothing(freedBytes: end.freedBytes, mustSchedule: end.mustSchedule)
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
            if places == nil && state.hasNew || !state.waiters.isEmpty {
                state.demand = max(state.demand, .everything)
            }
            return state.endTurn(map)
        }
        epochs.collectAll()
        return result
    }

    /// While a drain is out: its bytes from here on were truncated away meanwhile; nil when none were. To be
    /// asked where the extents are recorded, in order with truncates (on the namespace thread).
    public var drainClip: UInt64? { state.withLock { $0.drainClip } }

    /// Ends a turn that succeeded: what was published leaves memory, who waited for it is answered.
    /// Returns the bytes freed and whether the file must be queued again.
    /// - Parameters:
    ///   - claims: on what was journaled, in the plan's order; nil for what was truncated away before it was.
    ///   - hasOpenOutput: whether the sink still holds something open for the file.
    func finishDrain(
        _ turn: consuming DrainTurn, claims: [JournaledBytes?] = [], hasOpenOutput: Bool
    ) -> (freedBytes: Int, mustSchedule: Bool) {
        precondition(turn.file == fileID)
        let plan = turn.plan
        precondition(!(plan.rests && hasOpenOutput), "nothing stays open for a file that rests")
        precondition(claims.count == plan.journaling.count, "a claim for each that was journaled")
        let trimmed = map.trim(plan.runs.map(\.range), through: plan.sequence)
        let covered = map.trim(turn.covered)
        var lessCharge = 0
        for (finding, (piece, claim)) in zip(turn.journaling, zip(plan.journaling, claims)) {
            // Otherwise there was a truncate, which has taken the bytes from the map already.
            guard let claim else { continue }
            let value = Self.journaled(finding, piece.range, claim)
            lessCharge += map.replaceValue(of: finding, by: value, charge: value.heldBytes)
        }
        interruption()
        let places = plan.runs.map(\.range) + turn.covered.map(\.range)
        let unlinked = unlinkDead(in: places)
        let (journaledCount, hasTooManyPieces) = (turn.journaledCount, turn.hasTooManyPieces)
        let (end, ready) = state.withLock { state in
            _ = state.take(trimmed)
            _ = state.take(covered)
            state.heldByWrites -= lessCharge
            state.unlinked(unlinked)
            for run in plan.runs {
                // What was truncated away meanwhile is not the file's.
                if let kept = run.range.intersection(ByteRange(0, state.drainClip ?? .max)) {
                    state.drained.insert(kept)
                }
            }
            if !plan.runs.isEmpty { state.heldOffTicks = 0 }
            if !plan.journaling.isEmpty { state.isBare = false }
            state.hasOpenOutput = hasOpenOutput
            // It rests: gaps that nothing came into are holes from here on.
            if !hasOpenOutput && state.pendingBytes == 0 {
                state.drained = DrainedRanges(upTo: state.attributes.size)
            }
            state.durableThrough = max(state.durableThrough, plan.reaches)
            state.places.becameDurable(through: state.durableThrough)
            state.journaledCount = journaledCount
            if plan.rests { state.settle(plan.sequence) }
            let reached = state.durableThrough
            let ready = state.waiters.filter { $0.sequence <= reached }
            state.waiters.removeAll { $0.sequence <= reached }
            if !state.waiters.isEmpty { state.demand = max(state.demand, .everything) }
            if hasTooManyPieces { state.demand = max(state.demand, .unjournal) }
            return (state.endTurn(map), ready)
        }
        epochs.collectAll()
        for waiter in ready { waiter.continuation.resume(returning: nil) }
        return end
    }

    /// What lies between the ranges is looked at only where they are many.
    private func unlinkDead(in ranges: [ByteRange]) -> OffsetMap.Unlinked {
        var unlinked = OffsetMap.Unlinked()
        if ranges.count <= 16 {
            for range in ranges {
                let more = map.unlinkDead(in: range)
                unlinked.entries += more.entries
                unlinked.charge += more.charge
            }
        } else if let low = ranges.map(\.lowerBound).min(), let high = ranges.map(\.upperBound).max() {
            unlinked = map.unlinkDead(in: ByteRange(low, high))
        }
        return unlinked
    }

    /// What takes the place of a pending write that was journaled, from where the claim begins.
    private static func journaled(
        _ finding: OffsetMap.Finding, _ range: ByteRange, _ claim: JournaledBytes
    ) -> PendingPayload {
        precondition(
            claim.offset == range.lowerBound && claim.count <= Int(range.count) && claim.sequence == finding.sequence,
            "a claim on other bytes than were to be journaled")
        var kept: Payload?
        if case .memory(let payload) = finding.pending.content {
            let start = Int(range.lowerBound - finding.base)
            kept = payload.slice(start..<start + claim.count)
        }
        return PendingPayload(.journaled(claim, kept))
    }
}
