// A set of bytes, as few ranges as can be.
//
// Invariant: the ranges are in order, not empty, and between any two of them is a gap.

internal import Model

/// Value semantics.
struct ByteRangeSet: Equatable {
    private(set) var ranges: [ByteRange] = []

    init() {}

    /// - Precondition: the ranges are as the invariant says.
    init(_ ranges: [ByteRange]) { self.ranges = ranges }

    mutating func insert(_ range: ByteRange) {
        guard !range.isEmpty else { return }
        // Those that overlap it or meet it become one with it.
        let first = indexOfFirst { $0.upperBound >= range.lowerBound }
        let end = indexOfFirst { $0.lowerBound > range.upperBound }
        guard first < end else { return ranges.insert(range, at: first) }
        ranges[first] = ByteRange(
            min(range.lowerBound, ranges[first].lowerBound), max(range.upperBound, ranges[end - 1].upperBound))
        ranges.removeSubrange(first + 1..<end)
    }

    /// What is at or behind `offset` goes.
    mutating func truncate(to offset: UInt64) {
        while let last = ranges.last, last.upperBound > offset {
            ranges.removeLast()
            if last.lowerBound < offset { ranges.append(ByteRange(last.lowerBound, offset)) }
        }
    }

    /// The range that would come of inserting this one.
    func run(with range: ByteRange) -> ByteRange {
        let first = indexOfFirst { $0.upperBound >= range.lowerBound }
        let end = indexOfFirst { $0.lowerBound > range.upperBound }
        guard first < end else { return range }
        return ByteRange(
            min(range.lowerBound, ranges[first].lowerBound), max(range.upperBound, ranges[end - 1].upperBound))
    }

    /// `isBehind` is false for the ranges up to some point, and true from there on.
    private func indexOfFirst(_ isBehind: (ByteRange) -> Bool) -> Int {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if isBehind(ranges[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
