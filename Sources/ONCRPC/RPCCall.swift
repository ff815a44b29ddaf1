// One call of RFC 5531 as a program sees it: the decoded header, and the arguments still in the buffers
// that they were received into.

public import Model
public import NIOCore
public import Platform
public import XDR

/// Who calls, by flavor (RFC 5531 §8.2).
public enum RPCCredential: Hashable, Sendable {
    /// AUTH_NONE (§10.1).
    case none
    /// AUTH_SYS (appendix A). The machine name, at most 255 bytes, is what the client says and proves nothing;
    /// it ends at its first NUL.
    case system(Credentials, machineName: [UInt8])
}

/// A call. Value semantics; holds on to the memory of its arguments.
public struct RPCCall: Sendable {
    public let xid: UInt32
    public let program: UInt32
    public let version: UInt32
    public let procedure: UInt32
    public let credential: RPCCredential
    /// nil when the peer was gone before it could be asked for.
    public let clientAddress: SocketAddress?
    /// The bytes that the arguments are in, from `argumentsStart` on.
    private let record: Payload
    private let argumentsStart: Int

    /// Arguments up to here are decodable, whatever their length; what comes later is payload.
    public static let maxDecodableBytes = 64 << 10

    /// A call with these arguments; for tests of programs.
    public init(
        xid: UInt32 = 0, program: UInt32, version: UInt32, procedure: UInt32, credential: RPCCredential = .none,
        clientAddress: SocketAddress? = nil, arguments: Payload
    ) {
        self.init(
            xid: xid, program: program, version: version, procedure: procedure, credential: credential,
            clientAddress: clientAddress, record: arguments, argumentsStart: 0)
    }

    init(
        xid: UInt32, program: UInt32, version: UInt32, procedure: UInt32, credential: RPCCredential,
        clientAddress: SocketAddress?, record: Payload, argumentsStart: Int
    ) {
        precondition(argumentsStart <= record.count)
        self.xid = xid
        self.program = program
        self.version = version
        self.procedure = procedure
        self.credential = credential
        self.clientAddress = clientAddress
        self.record = record
        self.argumentsStart = argumentsStart
    }

    /// Bytes of arguments, payload included.
    public var argumentsCount: Int { record.count - argumentsStart }

    /// Runs `body` on the arguments: all of them up to 64 KiB, else at least the first 64 KiB, where decoding
    /// further throws `truncated`. Positions of the decoder are those that `payload` takes. Copies nothing
    /// for a call from the server, and at most 64 KiB for one made of small pieces.
    public func decodeArguments<Value>(
        _ body: (inout XDRDecoder) throws(XDRError) -> Value
    ) throws(XDRError) -> Value {
        let wanted = min(argumentsCount, Self.maxDecodableBytes)
        guard let first = record.segments.first, first.readableBytes >= argumentsStart + wanted else {
            let head = record.slice(argumentsStart..<argumentsStart + wanted).bytes
            return try head.withUnsafeBytes { Self.decode($0, body) }.get()
        }
        return try first.withUnsafeReadableBytes { bytes in
            Self.decode(UnsafeRawBufferPointer(rebasing: bytes[argumentsStart...]), body)
        }.get()
    }

    /// The bytes at positions counted from the start of the arguments, as slices of the receive buffers.
    /// Throws `truncated` when they are not all in the record.
    public func payload(_ positions: Range<Int>) throws(XDRError) -> Payload {
        guard positions.lowerBound >= 0, positions.upperBound <= argumentsCount else { throw .truncated }
        return record.slice(argumentsStart + positions.lowerBound..<argumentsStart + positions.upperBound)
    }

    /// Runs `body` on the arguments, payload included, piece by piece. Copies nothing.
    func forEachArgumentsPiece(_ body: (UnsafeRawBufferPointer) -> Void) {
        var skipped = argumentsStart
        for segment in record.segments {
            segment.withUnsafeReadableBytes { bytes in
                if skipped < bytes.count { body(UnsafeRawBufferPointer(rebasing: bytes[skipped...])) }
            }
            skipped = max(0, skipped - segment.readableBytes)
        }
    }

    /// As a Result, since the closures of buffers can't throw a typed error.
    private static func decode<Value>(
        _ bytes: UnsafeRawBufferPointer, _ body: (inout XDRDecoder) throws(XDRError) -> Value
    ) -> Result<Value, XDRError> {
        var decoder = XDRDecoder(bytes)
        do throws(XDRError) {
            return .success(try body(&decoder))
        } catch {
            return .failure(error)
        }
    }
}
