// NLM, the network lock manager, versions 1 to 4 ("Protocols for Interworking: XNFS, Version 3W", the Open Group,
// chapters 10 and 14): there are no locks here, and this says so. A lock that nobody keeps must not be granted, and a
// client that gets no status, PROG_UNAVAIL included, doesn't take it for an answer: Linux then cancels the request, and
// asks every 30 s until that succeeds, while the program hangs.
//
// LCK_DENIED_NOLOCKS becomes ENOLCK in the program. CANCEL and UNLOCK must have an end, too: nothing was waiting,
// nothing is held. The replies are the same in all versions: the cookie of the call and the status.

internal import ONCRPC
internal import XDR

/// nlm_stats, those used here.
private enum LockStatus: UInt32 {
    case granted = 0
    case denied = 1
    case deniedNoLocks = 2
}

extension NFSPrograms {
    /// MAXNETOBJ_SZ.
    static var maxCookieBytes: Int { 1024 }

    /// Procedures that answer with a call of their own (…_MSG), and GRANTED, of servers to clients, are unavailable.
    func refuseLock(_ call: RPCCall) -> RPCOutcome {
        switch (call.procedure, call.version) {
        case (0, _): .success(.empty)  // NULL
        case (1, _), (2, _): lockReply(.deniedNoLocks, call)  // TEST, LOCK
        case (3, _): lockReply(.denied, call)  // CANCEL
        case (4, _): lockReply(.granted, call)  // UNLOCK
        case (20, 3...4): lockReply(.deniedNoLocks, call, hasSequence: true)  // SHARE
        case (21, 3...4): lockReply(.granted, call, hasSequence: true)  // UNSHARE
        case (22, 3...4): lockReply(.deniedNoLocks, call)  // NM_LOCK
        case (23, 3...4): .success(.empty)  // FREE_ALL
        default: .procedureUnavailable
        }
    }

    private func lockReply(_ status: LockStatus, _ call: RPCCall, hasSequence: Bool = false) -> RPCOutcome {
        do throws(XDRError) {
            let cookie = try call.decodeArguments { (decoder) throws(XDRError) in
                try decoder.opaque(maxCount: Self.maxCookieBytes)
            }
            var encoder = XDREncoder()
            encoder.opaque(cookie)
            encoder.uint32(status.rawValue)
            if hasSequence { encoder.uint32(0) }
            return .success(RPCReplyBody(encoder.finish()))
        } catch {
            counters.countGarbageArguments()
            return .garbageArguments
        }
    }
}
