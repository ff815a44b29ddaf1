// How a connection gets memory for a call from the budgets of all connections.
//
// A small record is received without asking; its call asks, before it starts, for its record and for the longest reply
// that it may make. A connection that holds nothing has one small call let in regardless, so that a client that asks for
// little is served whatever others do. A large record asks for itself and the longest reply of all before its body is
// received, and gives back what it didn't need when its call is known. A connection's first large record asks the
// newcomers' budget; its call asks the other one, like that of a small record, and gives back to the newcomers then.
//
// So nobody waits for a budget who holds bytes of it that only he can set free, except calls in flight, which end, and
// replies that are not taken, which time out. Who waits for the main budget may hold bytes of the newcomers'; never
// the other way round for a record, so there is no circle.

internal import NIOCore
internal import Synchronization

extension RPCConnection {
    /// Where large records are received.
    var recordBudget: ByteBudget.Account { isNewcomer ? newcomersBudget : load.budget }

    /// A large record has announced itself; whether it may be received now.
    func admitRecord() -> Bool {
        guard let wanted = reader.wantedBytes else { return false }
        let bytes = wanted + bounds.maxReplyBytes
        guard recordBudget.take(bytes) else {
            wait(for: bytes, recordBudget)
            return false
        }
        reservedBytes = bytes
        reader.admit(wanted)
        return true
    }

    /// Starts a call, or has it wait for its bytes.
    func admit(_ call: RPCCall, recordBytes: Int) {
        let charge = recordBytes + min(parts.dispatcher.maxReplyBytes(call), bounds.maxReplyBytes)
        if reservedBytes > 0, !isNewcomer {
            // `wantedBytes` was no less than the record, and no reply is charged with more than the longest.
            load.budget.give(reservedBytes - charge)
            reservedBytes = 0
        } else if load.bytes == 0, charge <= 2 * bounds.maxUnadmittedRecordBytes {
            load.budget.takeRegardless(charge)
        } else if !load.budget.take(charge) {
            waitingCall = (call, charge)
            return wait(for: charge, load.budget)
        }
        endNewcoming()
        start(call, charge: charge)
    }

    /// The first large record has arrived, and its call has its bytes.
    private func endNewcoming() {
        guard reservedBytes > 0 else { return }
        releaseReservation()
        isNewcomer = false
    }

    func releaseReservation() {
        recordBudget.give(reservedBytes)
        reservedBytes = 0
    }

    private func wait(for bytes: Int, _ budget: ByteBudget.Account) {
        RPCCounterCells.increment(counters.budgetWaits)
        awaitedBudget = budget
        budget.wait(for: bytes, self)
    }

    /// What it waits for is no longer wanted. If the bytes are granted already, `granted` gives them back.
    func leaveLine() {
        waitingCall = nil
        if awaitedBudget?.cancelWait() == true { awaitedBudget = nil }
    }
}

extension RPCConnection: ByteBudgetWaiter {
    func granted(_ bytes: Int) {
        eventLoop.execute {
            guard let budget = self.awaitedBudget.take() else { preconditionFailure("granted without waiting") }
            guard self.phase == .serving, !self.isGivenUp.load(ordering: .acquiring) else {
                return budget.give(bytes)
            }
            if let (call, charge) = self.waitingCall.take() {
                self.endNewcoming()
                guard self.endIdleness() else {
                    budget.give(bytes)
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
