// What a connection has in flight, and whether that leaves room for another call. A call counts from its start
// until its reply is in the kernel; its record's bytes until its end, and its reply's bytes from there.

/// The accounts of one connection. Not synchronised.
struct ConnectionLoad {
    private let maxCalls: Int
    private let maxBytes: Int
    /// Calls that were started and whose reply isn't in the kernel yet.
    private(set) var calls = 0
    /// Bytes of records and of unsent replies.
    private(set) var bytes = 0
    /// Calls whose reply waits for the next flush, and the bytes of those replies.
    private(set) var unflushed = Batch()

    /// Replies that are flushed together.
    struct Batch {
        var calls = 0
        var bytes = 0
    }

    init(_ bounds: RPCBounds) {
        maxCalls = bounds.maxCallsInFlight
        maxBytes = bounds.maxBytesInFlight
    }

    var hasRoom: Bool { calls < maxCalls && bytes < maxBytes }

    mutating func begin(recordBytes: Int) {
        calls += 1
        bytes += recordBytes
    }

    /// Calls that get no reply here.
    mutating func drop(calls: Int, recordBytes: Int) {
        self.calls -= calls
        bytes -= recordBytes
        precondition(self.calls >= 0 && bytes >= 0)
    }

    mutating func reply(recordBytes: Int, replyBytes: Int) {
        bytes += replyBytes - recordBytes
        unflushed.calls += 1
        unflushed.bytes += replyBytes
    }

    /// The replies so far are being written.
    mutating func flush() -> Batch {
        defer { unflushed = Batch() }
        return unflushed
    }

    mutating func sent(_ batch: Batch) {
        calls -= batch.calls
        bytes -= batch.bytes
        precondition(calls >= 0 && bytes >= 0)
    }
}
