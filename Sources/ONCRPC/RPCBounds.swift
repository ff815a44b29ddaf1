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
    /// Records up to here are received without asking the budget for them first: 4,096 connections may hold 32 MiB.
    public var maxUnadmittedRecordBytes = 8 << 10
    /// All that connections may hold together: records being received, calls in flight, the longest replies that
    /// those may make, replies not taken. An eighth is for the first large record of each connection, so that
    /// clients that have yet to show that they finish what they begin can't keep it from those that have. ByteBudget
    /// has the rule by which it is shared. At least a record and a reply for each of the two parts.
    ///
    /// Not in it, and bounded by `maxConnections` (4,096): the beginnings of small records, 32 MiB; one call of up
    /// to 16 KiB per connection, which is always let in, 64 MiB; bytes received and not looked at, 64 MiB and 8 KiB
    /// per connection, 32 MiB; 512 bytes of the duplicate request cache for each call in flight, at most half of what
    /// those calls have of `maxBytes`. And two things that come and go with traffic and that only `maxConnections`
    /// bounds: what the kernel's buffers hold, and NIO's last receive buffer of each connection, at most 256 KiB, of
    /// which as much is resident as was once filled.
    public var maxBytes = 256 << 20
    /// Bytes received and not looked at, of connections that wait for room; above, reads are small.
    public var maxUnparsedBytes = 64 << 20
    /// Connections at a time; above, one makes room (ConnectionRegistry). Not more: each may hold 32 KiB that
    /// `maxBytes` doesn't count, see there, together 128 MiB, and a receive buffer and the kernel's.
    public var maxConnections = 4096
    /// How long a record that has begun may stay without another byte, and a reply without one being taken. Here and
    /// below it takes up to a quarter more until the connection is closed.
    public var stallTimeout: Duration = .seconds(60)
    /// The same while somebody waits for what the connection holds. In this time it has to move `minProgressBytes`, or
    /// what is left of the record or of the replies: a record of 1 MiB takes 85 s at most.
    public var contendedStallTimeout: Duration = .seconds(5)
    public var minProgressBytes = 64 << 10
    /// What the duplicate request cache holds.
    public var duplicateRequests = DuplicateRequestBounds()
    /// How long a closing connection, whose last reply is in the kernel, waits for the client to close too. It
    /// still reads, and throws away: closing with unread bytes would reset the connection and could take
    /// replies with it that are on their way.
    public var linger: Duration = .seconds(1)
    /// How long `shutdown` waits for calls in flight and for their replies to be taken.
    public var shutdownGrace: Duration = .seconds(30)

    public init() {}

    private var largestRequestBytes: Int { maxRecordBytes + maxReplyBytes }
    /// The two parts of `maxBytes`.
    var newcomersBudgetBytes: Int { max(maxBytes / 8, largestRequestBytes) }
    var budgetBytes: Int { max(maxBytes - newcomersBudgetBytes, largestRequestBytes) }
}
