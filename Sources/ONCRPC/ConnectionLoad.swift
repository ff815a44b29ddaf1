// What a connection has in flight, whether that leaves room for another call, and its part of the server's budget. A
// call counts from its start until its reply is in the kernel. It is charged with its record and the longest reply
// that it may make until its end, and with its reply from there.
//
// Invariant: `bytes` are taken from the budget: charges of calls whose handler runs, and `unsentBytes`.

/// The accounts of one connection. Not synchronised.
struct ConnectionLoad {
    private let maxCalls: Int
    private let maxBytes: Int
    let budget: ByteBudget.Account
    /// Calls that were started and whose reply isn't in the kernel yet.
    private(set) var calls = 0
    /// Charges of calls and bytes of unsent replies.
    private(set) var bytes = 0
    private(set) var unsentBytes = 0
    /// Calls whose reply waits for the next flush, and the bytes of those replies.
    private(set) var unflushed = Batch()

    /// Replies that are flushed together.
    struct Batch {
        var calls = 0
        var bytes = 0
    }

    init(_ bounds: RPCBounds, budget: ByteBudget.Account) {
        maxCalls = bounds.maxCallsInFlight
        maxBytes = bounds.maxBytesInFlight
        self.budget = budget
    }

    var hasRoom: Bool { calls < maxCalls && bytes < maxBytes }

    /// - Parameter charge: has been taken from the budget.
    mutating func begin(charge: Int) {
        calls += 1
        bytes += charge
    }

    /// Calls that get no reply here.
    mutating func drop(calls: Int, charge: Int) {
        self.calls -= calls
        release(charge)
        precondition(self.calls >= 0)
    }

    mutating func reply(charge: Int, replyBytes: Int) {
        budget.takeRegardless(replyBytes)
        bytes += replyBytes
        unsentBytes += replyBytes
        unflushed.calls += 1
        unflushed.bytes += replyBytes
        release(charge)
    }

    /// The replies so far are being written.
    mutating func flush() -> Batch {
        defer { unflushed = Batch() }
        return unflushed
    }

    mutating func sent(_ batch: Batch) {
        calls -= batch.calls
        unsentBytes -= batch.bytes
        release(batch.bytes)
        precondition(calls >= 0 && unsentBytes >= 0)
    }

    /// Unsent replies are gone with their connection. Nothing is `sent` afterwards.
    mutating func discardUnsent() {
        release(unsentBytes)
        unsentBytes = 0
        unflushed = Batch()
    }

    private mutating func release(_ count: Int) {
        bytes -= count
        precondition(bytes >= 0)
        budget.give(count)
    }
}
