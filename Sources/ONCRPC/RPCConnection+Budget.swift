// How a connection gets memory for a call from the budget of all connections.
//
// A small record is received without asking; its call asks, before it starts, for its record and for the longest reply
// that it may make. A connection that holds nothing has one small call let in regardless, so that a client that asks for
// little is served whatever others do. A large record asks for itself and the longest reply of all before its body is
// received, and gives back what it didn't need when its call is known. So nobody waits who holds bytes that only he can
// set free, except calls in flight, which end, and replies that are not taken, which time out.

internal import NIOCore
internal import Synchronization

extension RPCConnection {
    /// A large record has announced itself; whether it may be received now.
    func admitRecord() -> Bool {
        guard let wanted = reader.wantedBytes else { return false }
        let bytes = wanted + bounds.maxReplyBytes
        guard parts.budget.take(bytes) else {
            wait(for: bytes)
            return false
        }
        reservedBytes = bytes
        reader.admit(wanted)
        return true
    }

    /// Starts a call, or has it wait for its bytes.
    func admit(_ call: RPCCall, recordBytes: Int) {
        let charge = recordBytes + min(parts.dispatcher.maxReplyBytes(call), bounds.maxReplyBytes)
        if reservedBytes > 0 {
            // `wantedBytes` was no less than the record, and no reply is charged with more than the longest.
            parts.budget.give(reservedBytes - charge)
            reservedBytes = 0
        } else if load.bytes == 0, charge <= 2 * bounds.maxUnadmittedRecordBytes {
            parts.budget.takeRegardless(charge)
        } else if !parts.budget.take(charge) {
            waitingCall = (call, charge)
            return wait(for: charge)
        }
        start(call, charge: charge)
    }

    func releaseReservation() {
        parts.budget.give(reservedBytes)
        reservedBytes = 0
    }

    private func wait(for bytes: Int) {
        RPCCounterCells.increment(counters.budgetWaits)
        isWaitingForBudget = true
        parts.budget.wait(for: bytes, self)
    }
}

extension RPCConnection: ByteBudgetWaiter {
    func granted(_ bytes: Int) {
        eventLoop.execute {
            self.isWaitingForBudget = false
            guard self.phase == .serving, !self.isGivenUp.load(ordering: .acquiring) else {
                self.parts.budget.give(bytes)
                return
            }
            if let (call, charge) = self.waitingCall.take() {
                guard self.endIdleness() else {
                    self.parts.budget.give(bytes)
                    return self.close()
                }
                self.start(call, charge: charge)
            } else {
                self.reservedBytes = bytes
                self.reader.admit(bytes - self.bounds.maxReplyBytes)
            }
            self.proceed()
        }
    }
}
