// What no version of this program has ever written, although its checksum is right: bits that were flipped in memory
// before the checksum was made, a page of an older transaction, a mistake of ours. A row like that is damage of its
// mirror, as one with a wrong checksum is: another mirror may have it whole. Believed, it would make sums overflow, and
// so end the process, or show clients what never was.
//
// The bounds are what the types and the other layers' code can bear, and never tighter than what they write.

internal import Model

/// Counters that only go up, one at a time: at half of the range something else has set them.
private let highestCount = UInt64(Int64.max)

extension Inode {
    /// Throws if it can't be an inode of this store.
    func checkPlausibility() throws(CorruptMetadata) {
        guard id.rawValue >= FileID.root.rawValue, id.rawValue <= highestCount, mode <= 0o7777,
            // Not `Limits.maxLinks`: that limit came later.
            linkCount >= 1, linkCount <= UInt32(Int32.max),
            size <= Limits.maxFileBytes,
            // Bytes of extents, which don't overlap and end within the size.
            usedBytes <= size,
            nextCookie >= Self.firstCookie, nextCookie <= highestCount,
            // Each entry has had a cookie of its own.
            entryCount <= nextCookie - Self.firstCookie,
            type == .directory ? parent != nil : entryCount == 0,
            type != .symbolicLink || linkTarget != nil,
            writeSequence.rawValue <= highestCount,
            accessTime.isPlausible, modificationTime.isPlausible, changeTime.isPlausible
        else { throw .implausible }
    }
}

extension Timestamp {
    /// Within 34,000 years of 1970, so that it has a successor.
    fileprivate var isPlausible: Bool { seconds.magnitude < 1 << 40 }
}

extension EntryRow {
    /// Throws if it can't be an entry of this store.
    func checkPlausibility() throws(CorruptMetadata) {
        guard cookie >= Inode.firstCookie, cookie <= highestCount, child.rawValue > FileID.root.rawValue,
            child.rawValue <= highestCount
        else { throw .implausible }
    }
}

extension BlockGroupID {
    fileprivate var isPlausible: Bool { rawValue < 0 && self == BlockGroupID(ordinal: ordinal) }

    /// Ordinals are below this.
    fileprivate static let ordinalCount = UInt64(1) << 59
}

extension Extent {
    /// The longest block group of all policies.
    private static let maxGroupBytes = UInt64(Limits.maxInternalBlocks * Limits.maxInternalBlockBytes)

    /// Throws unless an extent may be made of this.
    static func checkPlausibility(
        offset: UInt64, count: UInt64, group: BlockGroupID, groupOffset: UInt64, sequence: WriteSequence
    ) throws(CorruptMetadata) {
        guard count > 0, offset <= Limits.maxFileBytes, count <= Limits.maxFileBytes - offset, group.isPlausible,
            groupOffset <= maxGroupBytes, count <= maxGroupBytes - groupOffset, sequence.rawValue <= highestCount
        else { throw .implausible }
    }
}

extension BlockGroup {
    /// Throws if it can't be a block group of this store.
    func checkPlausibility() throws(CorruptMetadata) {
        guard id.isPlausible, generationStamp >= .first, generationStamp.rawValue <= highestCount,
            length <= StripeLayout(policy).maxGroupLength,
            // Of extents that end within the length and don't overlap in the group.
            liveBytes <= length
        else { throw .implausible }
    }
}

extension StateKey {
    /// Throws if the number can't be this one.
    func checkPlausibility(of value: UInt64) throws(CorruptMetadata) {
        let isPlausible =
            switch self {
            case .epoch, .logNumber, .fileIDsReserved: value <= highestCount
            case .groupOrdinalsReserved: value < BlockGroupID.ordinalCount
            default: true
            }
        guard isPlausible else { throw .implausible }
    }
}

extension Inode {
    /// Why the extents of the file, as they are on one mirror, contradict its inode there; nil when they don't.
    ///
    /// - Parameter extents: all, in the order of their offsets.
    func contradiction(to extents: [Extent]) -> String? {
        var end: UInt64 = 0
        // No overflow: without overlaps the sum is at most `Limits.maxFileBytes`.
        var used: UInt64 = 0
        for extent in extents {
            guard extent.range.lowerBound >= end else { return "extents overlap at \(extent.range.lowerBound)" }
            guard extent.sequence <= writeSequence else { return "an extent is newer than the inode" }
            end = extent.range.upperBound
            used += extent.range.count
        }
        if end > size { return "extents end at \(end), beyond the size, \(size)" }
        // An extent's row that has vanished would read as a hole.
        if used != usedBytes { return "extents have \(used) bytes, the inode says \(usedBytes)" }
        return nil
    }
}
