// The seam under the striped reader: what internal blocks are read from.

public import Model
public import Platform

public import struct NIOCore.ByteBuffer

/// Something that internal blocks are read from.
public protocol BlockSource: Sendable {
    /// Reads `range` of a block and verifies it against the block's checksums.
    ///
    /// - Parameters:
    ///   - range: not empty and within the expected length.
    ///   - expectedLength: what the block holds by the length of its group. It may hold more while it is
    ///     being written.
    /// - Returns: exactly the bytes asked for.
    func read(
        _ block: BlockID, generationStamp: GenerationStamp, range: ByteRange, expectedLength: UInt64
    ) async throws(BlockReadError) -> ByteBuffer
}

/// Why bytes of a block could not be had. To the reader all are the same: it decodes around.
public enum BlockReadError: Error, Hashable, Sendable, CustomStringConvertible {
    /// There is no such block, or not with this generation stamp.
    case missing
    /// Fewer bytes than expected.
    case tooShort(length: UInt64)
    /// The chunk at this offset of the block doesn't have its checksum.
    case corrupt(offset: UInt64)
    /// The checksum file is too short or not one.
    case damagedChecksums
    case inputOutput(IOError)

    public var description: String {
        switch self {
        case .missing: "missing"
        case .tooShort(let length): "only \(length) bytes long"
        case .corrupt(let offset): "corrupt at offset \(offset)"
        case .damagedChecksums: "its checksum file is damaged"
        case .inputOutput(let error): error.description
        }
    }
}
