// CRC32C (Castagnoli), which HDFS keeps for each 512 bytes of a block and Sluice for everything else
// that it stores. ISA-L's `crc32_iscsi` is the bare division: it neither inverts the start value nor the
// result, so both are done here (RFC 3720 appendix B.4 has test vectors).

internal import CISAL

/// A CRC32C, over one run of bytes or over several in a row.
public struct CRC32C: Sendable {
    private var remainder: UInt32 = ~0

    public init() {}

    /// Adds `bytes` at the end of what has been added so far.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard var position = bytes.baseAddress else { return }
        var rest = bytes.count
        while rest > 0 {
            // The length is a C int.
            let count = min(rest, 1 << 30)
            remainder = crc32_iscsi(
                UnsafeMutablePointer(mutating: position.assumingMemoryBound(to: UInt8.self)), Int32(count), remainder)
            position += count
            rest -= count
        }
    }

    /// Adds `bytes` at the end of what has been added so far.
    public mutating func update(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { update($0) }
    }

    /// The checksum of what has been added so far.
    public var value: UInt32 { ~remainder }

    /// The checksum of `bytes`.
    public static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(bytes)
        return checksum.value
    }

    /// The checksum of `bytes`.
    public static func checksum(_ bytes: [UInt8]) -> UInt32 {
        bytes.withUnsafeBytes { checksum($0) }
    }
}
