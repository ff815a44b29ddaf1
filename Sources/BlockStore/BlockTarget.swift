// The seam under the striped output stream: what internal blocks are written to. The same for a
// directory, a storage node and an HDFS DataNode, so there is no write at an offset: a block is appended
// to, synced and finalized, or given up. Generic, without existentials: a stream is made for one kind.

public import Model
public import Platform

/// Something that internal blocks are written to.
public protocol BlockTarget: Sendable {
    associatedtype Writer: BlockWriter

    /// Begins a new block. What goes wrong is told with the first packet; a block that is given no bytes
    /// leaves nothing behind.
    func open(_ block: BlockID, generationStamp: GenerationStamp) -> Writer
}

/// Writes one internal block, strictly in order.
///
/// Calls return at once; completions come in the order of the calls, on a thread of the target's that
/// must not be blocked. After an error all later calls fail with the same one. The caller bounds what is
/// under way.
public protocol BlockWriter: AnyObject, Sendable {
    typealias Completion = @Sendable (Result<BlockAcknowledgement, BlockWriteError>) -> Void

    /// Appends a packet; nil for none, to sync only. With `sync` everything appended so far is durable,
    /// names too, when it is acknowledged. The packet's buffer belongs to the writer, and must stay as it
    /// is, until then.
    ///
    /// - Precondition: all packets but a block's last are multiples of `Limits.bytesPerChecksum`.
    func append(_ packet: BlockPacket?, sync: Bool, completion: @escaping Completion)

    /// Makes the block durable and ends it. Only `abort` may follow, without effect.
    func finalize(completion: @escaping Completion)

    /// Ends the block without a word about what is durable. Bytes that were synced stay; whoever has not
    /// published them deletes the block.
    func abort()
}

/// The first `count` bytes of a buffer.
public struct BlockPacket: Sendable {
    public let buffer: AlignedBuffer
    public let count: Int

    /// - Precondition: `count` is positive and within the buffer.
    public init(buffer: AlignedBuffer, count: Int) {
        precondition(count > 0 && count <= buffer.bytes.count)
        self.buffer = buffer
        self.count = count
    }
}

/// What a target has of a block.
public struct BlockAcknowledgement: Hashable, Sendable {
    /// Bytes appended.
    public let length: UInt64
    /// Bytes that are durable.
    public let durableLength: UInt64

    public init(length: UInt64, durableLength: UInt64) {
        self.length = length
        self.durableLength = durableLength
    }
}

/// Why a block could not be written.
public enum BlockWriteError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The target has no room, or the process no descriptors or memory for it. It is healthy otherwise.
    case noSpace(IOError)
    /// There is such a block already.
    case alreadyExists(BlockID)
    /// The target takes no writes any more.
    case targetFailed(VolumeFailure)

    public var description: String {
        switch self {
        case .noSpace(let error): error.description
        case .alreadyExists(let block): "\(block) is there already"
        case .targetFailed(let failure): failure.description
        }
    }
}
