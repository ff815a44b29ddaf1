// HDFS's striped layout: cell c of a group's byte stream is in internal block c mod k, at cell row
// c div k. In a partial last stripe the parity cells are as long as the longest data cell, which is
// always the first; data cells that hold nothing are not written (HDFS: StripedBlockUtil).

/// Maps a block group's byte stream to its internal blocks.
public struct StripeLayout: Hashable, Sendable {
    public let policy: ErasureCodingPolicy

    public init(_ policy: ErasureCodingPolicy) { self.policy = policy }

    /// The length of internal block `index` of a group that holds `groupLength` bytes.
    public func internalBlockLength(index: Int, groupLength: UInt64) -> UInt64 {
        precondition(index >= 0 && index < policy.totalUnits)
        let cell = UInt64(policy.cellSizeBytes)
        let stripe = UInt64(policy.stripeSizeBytes)
        let rest = groupLength % stripe
        let before = index < policy.dataUnits ? UInt64(index) * cell : 0
        let last = rest > before ? min(cell, rest - before) : 0
        return groupLength / stripe * cell + last
    }

    /// A piece of a group's byte stream inside one cell.
    public struct CellPiece: Hashable, Sendable {
        /// Index of the data block, 0 ..< k.
        public let index: Int
        /// Stripe number, which is the cell row in the block.
        public let stripe: UInt64
        /// Where the piece is in its internal block.
        public let blockRange: ByteRange
        /// Where the piece is in the group's byte stream.
        public let groupRange: ByteRange
    }

    /// The cell pieces of a range of the group's byte stream, in order.
    public func cellPieces(_ range: ByteRange) -> [CellPiece] {
        var pieces: [CellPiece] = []
        let cellSize = UInt64(policy.cellSizeBytes)
        var offset = range.lowerBound
        while offset < range.upperBound {
            let cell = offset / cellSize
            let end = min(range.upperBound, (cell + 1) * cellSize)
            let stripe = cell / UInt64(policy.dataUnits)
            let inBlock = stripe * cellSize + offset % cellSize
            pieces.append(
                CellPiece(
                    index: Int(cell % UInt64(policy.dataUnits)), stripe: stripe,
                    blockRange: ByteRange(offset: inBlock, count: end - offset),
                    groupRange: ByteRange(offset, end)))
            offset = end
        }
        return pieces
    }

    /// The most bytes a group may hold: each internal block at most `Limits.maxInternalBlockBytes`.
    public var maxGroupLength: UInt64 {
        UInt64(Limits.maxInternalBlockBytes / policy.cellSizeBytes) * UInt64(policy.stripeSizeBytes)
    }
}
