// The counters of a server, shared by its connections.

internal import Synchronization

/// What `RPCCounters` is a snapshot of. Relaxed: a counter orders nothing.
final class RPCCounterCells: Sendable {
    let connectionsAccepted = Atomic<Int>(0)
    let connectionsOpen = Atomic<Int>(0)
    let calls = Atomic<Int>(0)
    let callsInFlight = Atomic<Int>(0)
    let badRecords = Atomic<Int>(0)
    let badMessages = Atomic<Int>(0)
    let unexpectedReplies = Atomic<Int>(0)
    let rpcMismatches = Atomic<Int>(0)
    let authenticationErrors = Atomic<Int>(0)
    let programsUnavailable = Atomic<Int>(0)
    let programMismatches = Atomic<Int>(0)
    let proceduresUnavailable = Atomic<Int>(0)
    let garbageArguments = Atomic<Int>(0)
    let systemErrors = Atomic<Int>(0)
    let readingPauses = Atomic<Int>(0)
    let connectionsEvicted = Atomic<Int>(0)
    let connectionsRefused = Atomic<Int>(0)
    let acceptFailures = Atomic<Int>(0)
    let stalledRecords = Atomic<Int>(0)
    let stalledReplies = Atomic<Int>(0)
    let budgetWaits = Atomic<Int>(0)
    let duplicatesInProgress = Atomic<Int>(0)
    let replays = Atomic<Int>(0)
    let leftOverCalls = Atomic<Int>(0)
    let connectionsGivenUp = Atomic<Int>(0)

    func count(_ reply: ReplyMessage) {
        switch reply {
        case .success: break
        case .programUnavailable: Self.increment(programsUnavailable)
        case .programMismatch: Self.increment(programMismatches)
        case .procedureUnavailable: Self.increment(proceduresUnavailable)
        case .garbageArguments: Self.increment(garbageArguments)
        case .systemError: Self.increment(systemErrors)
        case .rpcMismatch: Self.increment(rpcMismatches)
        case .authenticationError: Self.increment(authenticationErrors)
        }
    }

    static func increment(_ cell: borrowing Atomic<Int>) { cell.wrappingAdd(1, ordering: .relaxed) }
    static func decrement(_ cell: borrowing Atomic<Int>) { cell.wrappingSubtract(1, ordering: .relaxed) }

    var snapshot: RPCCounters {
        var counters = RPCCounters()
        counters.connectionsAccepted = connectionsAccepted.load(ordering: .relaxed)
        counters.connectionsOpen = connectionsOpen.load(ordering: .relaxed)
        counters.calls = calls.load(ordering: .relaxed)
        counters.callsInFlight = callsInFlight.load(ordering: .relaxed)
        counters.badRecords = badRecords.load(ordering: .relaxed)
        counters.badMessages = badMessages.load(ordering: .relaxed)
        counters.unexpectedReplies = unexpectedReplies.load(ordering: .relaxed)
        counters.rpcMismatches = rpcMismatches.load(ordering: .relaxed)
        counters.authenticationErrors = authenticationErrors.load(ordering: .relaxed)
        counters.programsUnavailable = programsUnavailable.load(ordering: .relaxed)
        counters.programMismatches = programMismatches.load(ordering: .relaxed)
        counters.proceduresUnavailable = proceduresUnavailable.load(ordering: .relaxed)
        counters.garbageArguments = garbageArguments.load(ordering: .relaxed)
        counters.systemErrors = systemErrors.load(ordering: .relaxed)
        counters.readingPauses = readingPauses.load(ordering: .relaxed)
        counters.duplicatesInProgress = duplicatesInProgress.load(ordering: .relaxed)
        counters.replays = replays.load(ordering: .relaxed)
        counters.leftOverCalls = leftOverCalls.load(ordering: .relaxed)
        counters.connectionsGivenUp = connectionsGivenUp.load(ordering: .relaxed)
        counters.connectionsEvicted = connectionsEvicted.load(ordering: .relaxed)
        counters.connectionsRefused = connectionsRefused.load(ordering: .relaxed)
        counters.acceptFailures = acceptFailures.load(ordering: .relaxed)
        counters.stalledRecords = stalledRecords.load(ordering: .relaxed)
        counters.stalledReplies = stalledReplies.load(ordering: .relaxed)
        counters.budgetWaits = budgetWaits.load(ordering: .relaxed)
        return counters
    }
}
