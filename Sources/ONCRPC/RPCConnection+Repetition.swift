// Calls that a client sends again: what a connection does about what the duplicate request cache says, and how it
// gives way to a younger one.

internal import NIOCore
internal import Synchronization

extension RPCConnection {
    /// Whether to carry a call out. A copy of an earlier one is dealt with here. The call is in `load` already.
    func isFirst(_ call: RPCCall, _ key: DuplicateRequestCache.Key, charge: Int) -> Bool {
        switch parts.duplicateRequests.begin(key, on: number) {
        case .start:
            return true
        case .drop:
            RPCCounterCells.increment(counters.duplicatesInProgress)
            load.drop(calls: 1, charge: charge)
        case .await(let gaveUp):
            RPCCounterCells.increment(counters.duplicatesInProgress)
            // The call's arguments are held by the first copy.
            load.drop(calls: 0, charge: charge)
            awaitedAnswers += 1
            parts.registry.connection(gaveUp)?.giveUp()
        case .replay(let body, let gaveUp):
            RPCCounterCells.increment(counters.replays)
            if let gaveUp { parts.registry.connection(gaveUp)?.giveUp() }
            reply(.success(body), xid: call.xid, charge: charge)
        case .leftOver:
            RPCCounterCells.increment(counters.leftOverCalls)
            load.drop(calls: 1, charge: charge)
            isGivenUp.store(true, ordering: .releasing)
            giveWay()
        }
        return false
    }

    /// The call has ended; whether this connection is the one to answer it. If not, the other one is told.
    func answersHere(_ key: DuplicateRequestCache.Key, _ message: ReplyMessage, xid: UInt32) -> Bool {
        let answered = parts.duplicateRequests.end(key, reply: message.bodyToRepeat)
        if answered == number { return true }
        // If that one is gone too, the client asks again.
        parts.registry.connection(answered)?.deliver(message, xid: xid)
        return false
    }

    /// On the event loop: nothing more is started, and calls in flight end.
    private func giveWay() {
        // Their answers go to a younger connection, or to nobody if all are dropped by then.
        load.drop(calls: awaitedAnswers, charge: 0)
        awaitedAnswers = 0
        RPCCounterCells.increment(counters.connectionsGivenUp)
        startDraining()
        proceed()
    }
}

extension RPCConnection: RegisteredConnection {
    var isStalled: Bool { hasStalled.load(ordering: .relaxed) }
    func drain() { eventLoop.execute { self.startDraining() } }
    func abort() { eventLoop.execute { self.close() } }

    func giveUp() {
        guard !isGivenUp.exchange(true, ordering: .acquiringAndReleasing) else { return }
        eventLoop.execute {
            if self.phase != .closed { self.giveWay() }
        }
    }

    func deliver(_ message: ReplyMessage, xid: UInt32) {
        eventLoop.execute {
            guard self.phase != .closed, self.awaitedAnswers > 0 else { return }
            self.awaitedAnswers -= 1
            self.reply(message, xid: xid, charge: 0)
        }
    }
}

extension ReplyMessage {
    init(_ outcome: RPCOutcome) {
        self =
            switch outcome {
            case .success(let body): .success(body)
            case .procedureUnavailable: .procedureUnavailable
            case .garbageArguments: .garbageArguments
            case .systemError: .systemError
            case .authenticationError(let status): .authenticationError(status)
            }
    }

    /// What later copies of the call get; nil when the call had no effect and may have one the next time.
    fileprivate var bodyToRepeat: RPCReplyBody? {
        if case .success(let body) = self, !body.asksToTryAgain, !body.isRefusal { return body }
        return nil
    }
}
