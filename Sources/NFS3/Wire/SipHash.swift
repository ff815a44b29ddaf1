// SipHash-2-4 (Aumasson and Bernstein 2012): a short keyed hash. It signs file handles: without the key
// a client cannot make up a handle that the server takes. The standard library's Hasher has a key per
// process that cannot be set, and its algorithm may change.

/// The keyed hash of a message.
struct SipHash {
    private var v0: UInt64
    private var v1: UInt64
    private var v2: UInt64
    private var v3: UInt64

    /// - Parameters:
    ///   - k0: The first eight bytes of the key, little-endian.
    ///   - k1: The last eight.
    static func hash(_ message: some Collection<UInt8>, k0: UInt64, k1: UInt64) -> UInt64 {
        var state = SipHash(k0: k0, k1: k1)
        var word: UInt64 = 0
        var shift: UInt64 = 0
        for byte in message {
            word |= UInt64(byte) << shift
            shift += 8
            if shift == 64 {
                state.compress(word)
                word = 0
                shift = 0
            }
        }
        // The last word carries the message's length, modulo 256, in its highest byte.
        state.compress(word | UInt64(truncatingIfNeeded: message.count) << 56)
        return state.finalize()
    }

    private init(k0: UInt64, k1: UInt64) {
        // "somepseudorandomlygeneratedbytes"
        v0 = k0 ^ 0x736f_6d65_7073_6575
        v1 = k1 ^ 0x646f_7261_6e64_6f6d
        v2 = k0 ^ 0x6c79_6765_6e65_7261
        v3 = k1 ^ 0x7465_6462_7974_6573
    }

    private mutating func compress(_ word: UInt64) {
        v3 ^= word
        round()
        round()
        v0 ^= word
    }

    private mutating func finalize() -> UInt64 {
        v2 ^= 0xff
        for _ in 0..<4 { round() }
        return v0 ^ v1 ^ v2 ^ v3
    }

    private mutating func round() {
        v0 &+= v1
        v1 = Self.rotate(v1, 13) ^ v0
        v0 = Self.rotate(v0, 32)
        v2 &+= v3
        v3 = Self.rotate(v3, 16) ^ v2
        v0 &+= v3
        v3 = Self.rotate(v3, 21) ^ v0
        v2 &+= v1
        v1 = Self.rotate(v1, 17) ^ v2
        v2 = Self.rotate(v2, 32)
    }

    private static func rotate(_ value: UInt64, _ bits: UInt64) -> UInt64 { value << bits | value >> (64 - bits) }
}
