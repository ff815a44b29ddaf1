// A client's address without its port: what stays the same when it reconnects.

internal import NIOCore

/// An IPv4 or IPv6 address.
struct ClientAddress: Hashable, Sendable {
    private let high: UInt64
    private let low: UInt64

    /// nil for an address of another family.
    init?(_ address: SocketAddress) {
        switch address {
        case .v4(let address):
            // sockaddr_in: family and port of 2 bytes each, the address.
            let bits = withUnsafeBytes(of: address.address) {
                UInt32(bigEndian: $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            }
            // As IPv6 maps it (RFC 4291 §2.5.5.2): a socket that takes both families shows it so.
            high = 0
            low = 0xffff_0000_0000 | UInt64(bits)
        case .v6(let address):
            // sockaddr_in6: family, port, flow information of 4 bytes, the address.
            (high, low) = withUnsafeBytes(of: address.address) {
                (
                    UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
                    UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
                )
            }
        case .unixDomainSocket:
            return nil
        }
    }
}
