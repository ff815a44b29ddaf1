// The unit of the log: what one operation changed. A record is applied as a whole or not at all.
//
// Layout: length of all (u32), format (u8), log number (u64), number of mutations (u32), mutations,
// CRC32C of everything before it (u32).

internal import ErasureCoding
public import Model

/// The mutations of one operation, in order.
public struct MetadataRecord: Hashable, Sendable {
    public let number: LogNumber
    public let mutations: [Mutation]

    public init(number: LogNumber, mutations: [Mutation]) {
        self.number = number
        self.mutations = mutations
    }

    /// The format that is written; no other has been yet.
    private static let format: UInt8 = 1
    /// Length, format, number, count and checksum.
    private static let frameBytes = 4 + 1 + 8 + 4 + 4

    public func encoded() -> [UInt8] {
        var encoder = ByteEncoder(capacity: Self.frameBytes + mutations.count * 128)
        encoder.put(UInt32(0))
        encoder.put(Self.format)
        encoder.put(number.rawValue)
        encoder.put(UInt32(mutations.count))
        for mutation in mutations { mutation.encode(to: &encoder) }
        encoder.replace(UInt32(encoder.bytes.count + 4), at: 0)
        encoder.put(encoder.bytes.withUnsafeBytes { CRC32C.checksum($0) })
        return encoder.bytes
    }

    /// Reads what `encoded` made, and nothing else.
    public init(decoding bytes: [UInt8]) throws(CorruptMetadata) {
        var decoder = ByteDecoder(bytes)
        guard bytes.count >= Self.frameBytes, Int(try decoder.integer(UInt32.self)) == bytes.count else {
            throw .wrongLength
        }
        var trailer = ByteDecoder(Array(bytes.suffix(4)))
        let checksum = bytes.withUnsafeBytes { CRC32C.checksum(UnsafeRawBufferPointer(rebasing: $0.dropLast(4))) }
        guard checksum == (try trailer.integer(UInt32.self)) else { throw .checksumMismatch }
        let format: UInt8 = try decoder.integer()
        guard format == Self.format else { throw .unsupportedVersion(format) }
        number = LogNumber(rawValue: try decoder.integer())
        let count: UInt32 = try decoder.integer()
        var mutations: [Mutation] = []
        for _ in 0..<count { mutations.append(try Mutation(from: &decoder)) }
        self.mutations = mutations
        _ = try decoder.integer(UInt32.self)
        try decoder.finish()
    }
}
