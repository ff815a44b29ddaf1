// Who a rule of an export is for: a network, one address, or everyone.
//
// Addresses are kept as 128 bits, IPv4 in its mapped form ::ffff:a.b.c.d (RFC 4291 §2.5.5.2): a client that a
// dual-stack socket shows as mapped is then the same client as one that an IPv4 socket shows.

internal import Glibc
public import NIOCore

/// A set of client addresses.
public struct ClientNetwork: Hashable, Sendable, CustomStringConvertible {
    /// Why a text is no network.
    public enum Refusal: Error, Hashable, Sendable, CustomStringConvertible {
        case notAnAddress
        case prefixTooLong(Int)
        case hostBitsSet

        public var description: String {
            switch self {
            case .notAnAddress: "is neither '*', an address nor ADDRESS/PREFIX"
            case .prefixTooLong(let most): "needs a prefix of 0 to \(most) bits"
            case .hostBitsSet: "has bits set beyond its prefix"
            }
        }
    }

    /// As it was written.
    public let description: String
    /// nil: everyone.
    private let prefix: (address: UInt128, mask: UInt128)?

    /// Every client.
    public static let everyone = ClientNetwork(description: "*", prefix: nil)

    private init(description: String, prefix: (address: UInt128, mask: UInt128)?) {
        self.description = description
        self.prefix = prefix
    }

    /// "*", an address, or ADDRESS/PREFIX with all bits beyond the prefix 0.
    public init(_ text: String) throws(Refusal) {
        if text == "*" {
            self = .everyone
            return
        }
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let host = Self.address(String(parts[0])) else { throw .notAnAddress }
        let width = host.isIPv4 ? 32 : 128
        var bits = width
        if parts.count == 2 {
            let digits = parts[1]
            guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(digits),
                number <= width
            else { throw .prefixTooLong(width) }
            bits = number
        }
        // The 96 bits before an IPv4 address belong to every prefix.
        let mask = UInt128.max << UInt128(width - bits)
        guard host.bits & ~mask == 0 else { throw .hostBitsSet }
        self.init(description: text, prefix: (host.bits, mask))
    }

    /// Whether a client is in it. A peer without an IP address is only in `everyone`. No IPv4 client is in a network
    /// of IPv6, not even in ::/0.
    public func contains(_ client: SocketAddress?) -> Bool {
        guard let prefix else { return true }
        guard let client, let bits = Self.bits(of: client) else { return false }
        return bits & prefix.mask == prefix.address && Self.isMapped(bits) == Self.isMapped(prefix.address)
    }

    private static func isMapped(_ bits: UInt128) -> Bool { bits >> 32 == 0xffff }

    public static func == (left: ClientNetwork, right: ClientNetwork) -> Bool {
        left.prefix?.address == right.prefix?.address && left.prefix?.mask == right.prefix?.mask
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(prefix?.address)
        hasher.combine(prefix?.mask)
    }

    /// The 128 bits of a client's address; nil for one that isn't IP.
    static func bits(of client: SocketAddress) -> UInt128? {
        switch client {
        case .v4:
            // sockaddr_in: family 2, port 2, address 4.
            client.withSockAddr { address, _ in
                mapped(UnsafeRawPointer(address).loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            }
        case .v6:
            // sockaddr_in6: family 2, port 2, flow 4, address 16.
            client.withSockAddr { address, _ in
                UInt128(bigEndian: UnsafeRawPointer(address).loadUnaligned(fromByteOffset: 8, as: UInt128.self))
            }
        case .unixDomainSocket: nil
        }
    }

    private static func address(_ text: String) -> (bits: UInt128, isIPv4: Bool)? {
        // C would stop reading there, and take the address for the whole text.
        guard !text.utf8.contains(0) else { return nil }
        var short: UInt32 = 0
        if inet_pton(AF_INET, text, &short) == 1 { return (mapped(short), true) }
        var long: UInt128 = 0
        if inet_pton(AF_INET6, text, &long) == 1 { return (UInt128(bigEndian: long), false) }
        return nil
    }

    /// - Parameter address: in network byte order.
    private static func mapped(_ address: UInt32) -> UInt128 { 0xffff << 32 | UInt128(UInt32(bigEndian: address)) }
}
