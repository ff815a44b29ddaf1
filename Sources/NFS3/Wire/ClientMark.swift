// Tells calls of different machines apart where the protocol has only a number that each client makes up.

internal import FileService
internal import NIOCore

extension CallContext {
    /// A hash of the client's address without its port, which changes when it reconnects; 0 without an address.
    var clientMark: UInt64 {
        guard let bits = clientAddress.flatMap(ClientNetwork.bits) else { return 0 }
        // The key is no secret: who can choose his address can be another client anyway.
        return withUnsafeBytes(of: bits.bigEndian) { SipHash.hash($0, k0: 0, k1: 0) }
    }
}
