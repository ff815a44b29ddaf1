/// A snapshot of what a server has counted since its start.
public struct RPCCounters: Hashable, Sendable {
    /// Connections that were accepted.
    public var connectionsAccepted = 0
    /// Connections that are open now.
    public var connectionsOpen = 0
    /// Calls that a program has been given.
    public var calls = 0
    /// Calls that a program has been given and has not answered yet.
    public var callsInFlight = 0
    /// Connections closed for a record that is too long or in too many fragments.
    public var badRecords = 0
    /// Connections closed for a record that isn't a message of RFC 5531.
    public var badMessages = 0
    /// Reply messages, which a server has no use for; ignored.
    public var unexpectedReplies = 0
    /// RPC_MISMATCH.
    public var rpcMismatches = 0
    /// AUTH_ERROR.
    public var authenticationErrors = 0
    /// PROG_UNAVAIL.
    public var programsUnavailable = 0
    /// PROG_MISMATCH.
    public var programMismatches = 0
    /// PROC_UNAVAIL.
    public var proceduresUnavailable = 0
    /// GARBAGE_ARGS.
    public var garbageArguments = 0
    /// SYSTEM_ERR.
    public var systemErrors = 0
    /// Times that reading from a connection stopped because of `RPCBounds` or a slow reader.
    public var readingPauses = 0
    /// Copies of calls in progress, for which the answer was on its way already.
    public var duplicatesInProgress = 0
    /// Copies of finished calls, answered with the stored reply.
    public var replays = 0
    /// Copies that came by a connection which its client had given up, and were not carried out.
    public var leftOverCalls = 0
    /// Connections whose client sent a call again by another one.
    public var connectionsGivenUp = 0
    /// Calls that the duplicate request cache knows now.
    public var duplicateRequestEntries = 0
    /// Finished calls that it has forgotten to keep its bounds.
    public var duplicateRequestEvictions = 0
    /// Connections that were closed for new ones.
    public var connectionsEvicted = 0
    /// Connections refused because there were too many and none that could be closed for them.
    public var connectionsRefused = 0
    /// Times that accepting a connection failed, for want of descriptors or memory.
    public var acceptFailures = 0
    /// Connections closed because a record stopped arriving.
    public var stalledRecords = 0
    /// Connections closed because their replies were not taken.
    public var stalledReplies = 0
    /// Times that a connection had to wait for the budget of all.
    public var budgetWaits = 0
    /// Connections that wait for it now.
    public var connectionsWaiting = 0
    /// Bytes of `RPCBounds.maxBytes` that are in use now.
    public var bytesInUse = 0
    /// Memory of bytes that were received and wait for room.
    public var unparsedBytes = 0

    public init() {}
}
