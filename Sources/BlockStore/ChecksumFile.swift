// The content of a block's checksum file, as HDFS writes it (BlockMetadataHeader, DataChecksum), all
// numbers big-endian:
//
//     version             2   1
//     type                1   2, CRC32C
//     bytes per checksum  4   512
//     CRC32C              4   of each 512 bytes of the block, the last chunk may be shorter

internal import ErasureCoding
internal import Model

enum ChecksumFile {
    static let header: [UInt8] = [0, 1, 2, 0, 0, UInt8(Limits.bytesPerChecksum >> 8), 0]
    static let checksumBytes = 4

    /// How many chunks `length` bytes of a block have.
    static func chunks(_ length: Int) -> Int { (length + Limits.bytesPerChecksum - 1) / Limits.bytesPerChecksum }

    /// Where the checksum of the chunk at `offset` is in the file.
    static func position(ofChunkAt offset: UInt64) -> UInt64 {
        UInt64(header.count) + offset / UInt64(Limits.bytesPerChecksum) * UInt64(checksumBytes)
    }

    /// The checksums of `bytes`, as they are in the file, after `prefix`.
    static func checksums(of bytes: UnsafeRawBufferPointer, after prefix: [UInt8] = []) -> [UInt8] {
        let count = prefix.count + chunks(bytes.count) * checksumBytes
        return [UInt8](unsafeUninitializedCapacity: count) { memory, initialized in
            _ = memory.initialize(fromContentsOf: prefix)
            let output = UnsafeMutableRawBufferPointer(memory)
            var position = prefix.count
            for start in stride(from: 0, to: bytes.count, by: Limits.bytesPerChecksum) {
                let end = min(start + Limits.bytesPerChecksum, bytes.count)
                let checksum = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
                output.storeBytes(of: checksum.bigEndian, toByteOffset: position, as: UInt32.self)
                position += checksumBytes
            }
            initialized = count
        }
    }

    /// The offset in `bytes` of the first chunk that doesn't have its checksum.
    /// - Precondition: `checksums` has one for each chunk.
    static func firstMismatch(_ bytes: UnsafeRawBufferPointer, checksums: UnsafeRawBufferPointer) -> Int? {
        precondition(checksums.count >= chunks(bytes.count) * checksumBytes)
        var position = 0
        for start in stride(from: 0, to: bytes.count, by: Limits.bytesPerChecksum) {
            let end = min(start + Limits.bytesPerChecksum, bytes.count)
            let stored = checksums.loadUnaligned(fromByteOffset: position, as: UInt32.self)
            guard CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[start..<end])).bigEndian == stored else {
                return start
            }
            position += checksumBytes
        }
        return nil
    }
}
