// Where a file's bytes are.

public import Model

/// A range of a file and where its bytes are in a block group.
///
/// The extents of a file never overlap: whoever puts one first takes away what it shadows, in the same
/// body (`Transaction.cutExtents`).
public struct Extent: Hashable, Sendable {
    /// In the file; not empty, and within `Limits.maxFileBytes`.
    public let range: ByteRange
    public let group: BlockGroupID
    /// Where the range begins in the group's byte stream.
    public let groupOffset: UInt64
    /// The order of the write that made it.
    public let sequence: WriteSequence

    /// - Precondition: the range is not empty and ends within `Limits.maxFileBytes`.
    public init(range: ByteRange, group: BlockGroupID, groupOffset: UInt64, sequence: WriteSequence) {
        precondition(!range.isEmpty && range.upperBound <= Limits.maxFileBytes)
        precondition(groupOffset <= Limits.maxFileBytes)
        self.range = range
        self.group = group
        self.groupOffset = groupOffset
        self.sequence = sequence
    }

    /// The bytes in the group's byte stream.
    public var groupRange: ByteRange { ByteRange(offset: groupOffset, count: range.count) }

    /// The part of this extent that lies in `part`; nil when none does.
    public func clipped(to part: ByteRange) -> Extent? {
        guard let common = range.intersection(part) else { return nil }
        return Extent(
            range: common, group: group, groupOffset: groupOffset + (common.lowerBound - range.lowerBound),
            sequence: sequence)
    }
}

extension Extent {
    /// All but the offset in the file, which is the key.
    func encodeBody(to encoder: inout ByteEncoder) {
        encoder.put(range.count)
        encoder.put(group.rawValue)
        encoder.put(groupOffset)
        encoder.put(sequence.rawValue)
    }

    init(offset: UInt64, body decoder: inout ByteDecoder) throws(CorruptMetadata) {
        let count: UInt64 = try decoder.integer()
        let group = BlockGroupID(rawValue: try decoder.integer())
        let groupOffset: UInt64 = try decoder.integer()
        let sequence = WriteSequence(rawValue: try decoder.integer())
        try Self.checkPlausibility(
            offset: offset, count: count, group: group, groupOffset: groupOffset, sequence: sequence)
        self.init(
            range: ByteRange(offset: offset, count: count), group: group, groupOffset: groupOffset, sequence: sequence)
    }
}
