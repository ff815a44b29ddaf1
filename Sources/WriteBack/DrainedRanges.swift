// Which bytes of a file have been drained, since it rested last: what the order of its drains goes by.
//
// A file that rests is drained from end to end, its gaps being holes from then on. What is written behind a gap may be
// drained before what fills it (a COMMIT wants it, or memory does); so the drained bytes are a set of ranges, and the next
// offset, from which a file goes on in order, is derived from it: the end of the range that begins with the file.
//
// Nothing that was promised depends on this set: what is durable is in the store's extents. So it may be bounded: of too
// many gaps the lowest becomes a hole.

internal import Model

/// A set of byte ranges. Value semantics.
struct DrainedRanges: Equatable {
    /// The most ranges that are kept: 64 take 1 KiB, which is part of what a file with pending writes is charged for. More
    /// gaps than that are those of a program that writes here and there, for which there is no order to wait for.
    static let maxRanges = 64

    private var covered: ByteRangeSet

    /// Everything up to `size`: of a file that rests.
    init(upTo size: UInt64 = 0) { covered = ByteRangeSet(size > 0 ? [ByteRange(0, size)] : []) }

    /// In order; between any two is a gap.
    var ranges: [ByteRange] { covered.ranges }

    /// Up to here the file has been drained without a gap (HDFS: nextOffset).
    var nextOffset: UInt64 {
        guard let first = ranges.first, first.lowerBound == 0 else { return 0 }
        return first.upperBound
    }

    mutating func insert(_ range: ByteRange) {
        covered.insert(range)
        while ranges.count > Self.maxRanges {
            // The lowest gap.
            covered.insert(ByteRange(0, ranges[0].lowerBound > 0 ? ranges[0].upperBound : ranges[1].upperBound))
        }
    }

    /// What is at or behind `size` goes. A file that is made longer has a gap there.
    mutating func truncate(to size: UInt64) { covered.truncate(to: size) }
}
