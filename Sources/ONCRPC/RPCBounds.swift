// What clients may make the server hold, one by one and together.

internal import Model

/// Bounds on a connection and on shutdown. Parameters, so that tests can make them small.
public struct RPCBounds: Hashable, Sendable {
    /// The longest record; a longer one closes its connection (RFC 5531 §11 sets none).
    public var maxRecordBytes = Limits.maxRecordBytes
    /// Fragments of one record. libtirpc's clients send fragments of about 8 KiB: 129 for the longest record.
    public var maxFragmentsPerRecord = 1024
    /// Calls of a connection that were started and whose reply isn't in the kernel yet. Linux sends up to 388; the
    /// rest wait in the socket.
    public var maxCallsInFlight = 128
    /// Bytes of the records of those calls, of the longest replies that they may make, and of replies that the
    /// client doesn't take, per connection: 32 READs of 1 MiB. The call that reaches it is still started, so it may
    /// be exceeded by one.
    public var maxBytesInFlight = 32 << 20
    /// Bytes of replies that wait for the client to take them; above, no call is started and nothing read until
    /// half of them are gone. Calls in flight add theirs.
    public var maxUnsentReplyBytes = 4 << 20
    /// The longest reply: that of a READ of the most bytes, and its headers.
    public var maxReplyBytes = Limits.maxTransferBytes + (8 << 10)
    /// Records up to here are received without asking the budget for them first: 5,000 connections may hold 40 MiB.
    public var maxUnadmittedRecordBytes = 8 << 10
    /// All that connections may hold together: records being received, calls in flight, the longest replies that
    /// those may make, replies not taken. 256 MiB are eight connections at their own bound. Not in it: what the
    /// kernel's buffers hold, one read of at most 256 KiB per connection, and one small call per connection, which is
    /// always let in. At least a record and a reply.
    public var maxBytes = 256 << 20
    /// Connections at a time; above, the one that has been idle longest makes room.
    public var maxConnections = 4096
    /// How long a record that has begun may stay without another byte, and a reply without one being taken. It is
    /// looked at in intervals of this length, so it takes up to twice as long until the connection is closed.
    public var stallTimeout: Duration = .seconds(60)
    /// What the duplicate request cache holds.
    public var duplicateRequests = DuplicateRequestBounds()
    /// How long a closing connection, whose last reply is in the kernel, waits for the client to close too. It
    /// still reads, and throws away: closing with unread bytes would reset the connection and could take
    /// replies with it that are on their way.
    public var linger: Duration = .seconds(1)
    /// How long `shutdown` waits for calls in flight and for their replies to be taken.
    public var shutdownGrace: Duration = .seconds(30)

    public init() {}

    /// The budget, no smaller than the largest request to it.
    var budgetBytes: Int { max(maxBytes, maxRecordBytes + maxReplyBytes) }
}
