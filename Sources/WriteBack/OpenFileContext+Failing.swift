// What becomes of a file when a turn of its write-back task fails.
//
// What the journal has is promised and stays pending, whatever fails; all else is given up, and whoever sent it is told, by
// an error or by the write verifier. A turn that only had journaled bytes loses nothing: nobody is told, and it is tried again
// later.

internal import LockFree
internal import Model
internal import Synchronization

extension OpenFileContext {
    /// Ends a turn that failed, first half: new writes are refused from here on, the pending bytes that are not in the
    /// journal are given up. Returns whether some of them had been acknowledged.
    func beginFailure(_ error: WriteBackError) -> Bool {
        state.withLock { state in
            if !state.isRemoved { state.failure = error }
            refusesWrites.store(true, ordering: .relaxed)
            state.isLosing = true
            state.failureCount += 1
            state.lastFailure = error
            var lost: [OffsetMap.Finding] = []
            map.forEach(through: state.sequence) { finding in
                if !finding.pending.isJournaled { lost.append(finding) }
                return true
            }
            // Their memory is freed by the second half, as the turn is still out.
            let trimmed = map.trim(lost)
            _ = state.take(trimmed)
            state.places.becameDurable(through: state.sequence)
            state.hasDeadEntries = true
            state.demand = .none
            return !state.isRemoved && trimmed.bytes > 0 && state.lastUnstable > state.durableThrough
        }
    }

    /// Between the halves: the file is again what the store has of it, and with that its journaled bytes.
    public func revert(size: UInt64, usedBytes: UInt64) {
        state.withLock { state in
            var end = size
            map.forEach(through: state.sequence) { finding in
                end = max(end, finding.range.upperBound)
                return true
            }
            state.attributes.size = end
            state.attributes.usedBytes = usedBytes
            state.drained = DrainedRanges(upTo: size)
        }
    }

    /// Second half, after the write verifier changed and the file was reverted: whoever waited is told. An
    /// error that somebody was told is not sticky any more, unless the file could not be reverted. The loss of what was
    /// dumped is told by the verifier. Returns the bytes freed, and whether the file must be queued again.
    func endFailure(
        _ cause: WriteBackError, isReverted: Bool, turn: consuming DrainTurn
    ) -> (freedBytes: Int, mustSchedule: Bool) {
        precondition(turn.file == fileID)
        let isToldByVerifier = cause == .dumpLost && isReverted
        // Asking again is of no use where nobody knows what there is.
        let error = cause == .dumpLost && !isReverted ? .inputOutput : cause
        let (end, waiters) = state.withLock { state in
            state.isLosing = false
            state.hasOpenOutput = false
            state.durableThrough = state.sequence
            state.isNotReverted = !isReverted
            if !isReverted {
                if !state.isRemoved { state.failure = error }
                state.lastFailure = error
                state.wasLastingFailureTold = !state.waiters.isEmpty
            } else if !state.waiters.isEmpty || isToldByVerifier {
                state.failure = nil
            }
            defer { state.waiters = [] }
            let waiters = state.waiters
            return (state.endTurn(map), waiters)
        }
        epochs.collectAll()
        for waiter in waiters {
            waiter.continuation.resume(returning: isToldByVerifier && waiter.isCommit ? nil : error)
        }
        return end
    }

    /// Ends a turn that failed and had nothing to lose: all is as before, and nothing that is journaled is taken until so many
    /// ticks have passed. Returns the bytes freed and whether the file must be queued again.
    func endInVain(
        _ turn: consuming DrainTurn, hasOpenOutput: Bool, heldOffTicks: Int = 1
    ) -> (freedBytes: Int, mustSchedule: Bool) {
        precondition(turn.file == fileID && turn.plan.losesNothing)
        let (isSettling, through) = (turn.plan.rests, turn.plan.sequence)
        return state.withLock { state in
            state.heldOffTicks = heldOffTicks
            if isSettling { state.settle(through) }
            state.hasOpenOutput = hasOpenOutput
            // Whoever waits does so for other bytes.
            if !state.waiters.isEmpty { state.demand = max(state.demand, .everything) }
            return state.endTurn(map)
        }
    }

    /// A tick has passed.
    func holdOffLess() { state.withLock { $0.heldOffTicks = max(0, $0.heldOffTicks - 1) } }

    /// There will be no other time.
    func tryAgain() { state.withLock { $0.heldOffTicks = 0 } }
}
