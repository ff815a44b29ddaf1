// What a program answers to a call; the server turns it into a reply message (RFC 5531 §9).

public import NIOCore
public import Platform

/// The results of a successful call, encoded.
public struct RPCReplyBody: Sendable {
    public let header: ByteBuffer
    public let payload: Payload?
    /// The reply asks the client to send the call again: a copy is carried out, not answered with this.
    public var asksToTryAgain = false
    /// The caller was not admitted, and nothing was done: nothing is remembered of the call, so that strangers leave no
    /// trace. A copy is looked at anew.
    public var isRefusal = false

    /// - Parameters:
    ///   - header: XDR; with a payload it ends with the payload's count.
    ///   - payload: the bytes of a last `opaque<>`, sent without being copied; the server pads them.
    /// - Precondition: the header is a multiple of 4 bytes, and together they are less than 2 GiB.
    public init(_ header: ByteBuffer, payload: Payload? = nil) {
        precondition(header.readableBytes % 4 == 0, "a header that is not XDR")
        precondition(header.readableBytes + (payload?.count ?? 0) < Int(Int32.max) - 64, "longer than a fragment")
        self.header = header
        self.payload = payload
    }
}

/// How a program disposes of a call (RFC 5531 §9, `accept_stat`, and `auth_stat` for a rejected one).
public enum RPCOutcome: Sendable {
    case success(RPCReplyBody)
    /// PROC_UNAVAIL: the program has no such procedure.
    case procedureUnavailable
    /// GARBAGE_ARGS: the arguments can't be decoded.
    case garbageArguments
    /// SYSTEM_ERR: out of memory and the like.
    case systemError
    case authenticationError(RPCAuthenticationStatus)
}

/// Why a credential or verifier is rejected; RFC 5531 §9 `auth_stat` with its numbers.
public enum RPCAuthenticationStatus: UInt32, Hashable, Sendable {
    /// AUTH_BADCRED: the credential can't be decoded.
    case badCredential = 1
    /// AUTH_REJECTEDCRED: begin a new session; also for a flavor that isn't known here.
    case rejectedCredential = 2
    /// AUTH_BADVERF: the verifier can't be decoded.
    case badVerifier = 3
    /// AUTH_REJECTEDVERF: expired or replayed.
    case rejectedVerifier = 4
    /// AUTH_TOOWEAK: the flavor is known but not enough for what is asked.
    case tooWeak = 5
}
