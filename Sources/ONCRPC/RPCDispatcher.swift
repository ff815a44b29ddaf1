/// The programs behind a server.
public protocol RPCDispatcher: Sendable {
    /// The versions of a program that are served. nil answers PROG_UNAVAIL; a version outside of them
    /// PROG_MISMATCH with these bounds, without `handle` being called. Called on an event loop.
    func versions(ofProgram program: UInt32) -> ClosedRange<UInt32>?

    /// Whether carrying a call out twice would differ from once. Then a copy that a client sends is answered as
    /// the first was, without `handle` being called. Called on an event loop.
    func mustNotRepeat(_ call: RPCCall) -> Bool

    /// The most bytes that the reply to a call may have. Called on an event loop; the arguments may be garbage.
    func maxReplyBytes(_ call: RPCCall) -> Int

    /// Carries a call out. Starts on the connection's event loop, in the order in which the calls arrived there,
    /// and runs there up to its first suspension before the next call starts; it must not block. Replies go
    /// out in the order in which calls end.
    func handle(_ call: RPCCall) async -> RPCOutcome
}

extension RPCDispatcher {
    /// A program that only answers questions.
    public func mustNotRepeat(_ call: RPCCall) -> Bool { false }

    /// Most replies.
    public func maxReplyBytes(_ call: RPCCall) -> Int { 1024 }
}
