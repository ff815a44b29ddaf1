// What one client may make the server hold. The budget of the whole process is not kept here.

internal import Model

/// Bounds on a connection and on shutdown. Parameters, so that tests can make them small.
public struct RPCBounds: Hashable, Sendable {
    /// The longest record; a longer one closes its connection (RFC 5531 §11 sets none).
    public var maxRecordBytes = Limits.maxRecordBytes
    /// Fragments of one record. libtirpc's clients send fragments of about 8 KiB: 129 for the longest record.
    public var maxFragmentsPerRecord = 1024
    /// Calls of a connection that were started and whose reply isn't in the kernel yet. Each may be a READ that
    /// makes a reply of 1 MiB: 128 MiB. Linux sends up to 388; the rest wait in the socket.
    public var maxCallsInFlight = 128
    /// Bytes of the records of those calls, and of replies that the client doesn't take, per connection. The
    /// call that reaches it is still started, so it may be exceeded by one record.
    public var maxBytesInFlight = 64 << 20
    /// Bytes of replies that wait for the client to take them; above, no call is started and nothing read until
    /// half of them are gone. Calls in flight add theirs.
    public var maxUnsentReplyBytes = 4 << 20
    /// What the duplicate request cache holds.
    public var duplicateRequests = DuplicateRequestBounds()
    /// How long a closing connection, whose last reply is in the kernel, waits for the client to close too. It
    /// still reads, and throws away: closing with unread bytes would reset the connection and could take
    /// replies with it that are on their way.
    public var linger: Duration = .seconds(1)
    /// How long `shutdown` waits for calls in flight and for their replies to be taken.
    public var shutdownGrace: Duration = .seconds(30)

    public init() {}
}
