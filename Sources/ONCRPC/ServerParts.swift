// What the connections of a server share.

internal import Logging

/// Thread-safe, each part for itself.
struct ServerParts<Dispatcher: RPCDispatcher>: Sendable {
    let dispatcher: Dispatcher
    let bounds: RPCBounds
    let counters = RPCCounterCells()
    let acceptOrder = AcceptOrder()
    let registry: ConnectionRegistry
    let duplicateRequests: DuplicateRequests
    let budget: ByteBudget
    /// For the first large record of each connection.
    let newcomersBudget: ByteBudget
    let unparsed = UnparsedInput()
    let complaints: ComplaintLog
    let logger: Logger

    init(dispatcher: Dispatcher, bounds: RPCBounds, logger: Logger) {
        self.dispatcher = dispatcher
        self.bounds = bounds
        self.logger = logger
        registry = ConnectionRegistry(maxConnections: bounds.maxConnections)
        duplicateRequests = DuplicateRequests(bounds.duplicateRequests)
        budget = ByteBudget(capacity: bounds.budgetBytes)
        newcomersBudget = ByteBudget(capacity: bounds.newcomersBudgetBytes)
        complaints = ComplaintLog(logger)
    }
}
