// Where a file's published bytes are: file ranges mapped to ranges of block groups.
//
// Invariants: ordered by offset, no two overlap, none is empty. What lies in no extent is a hole. Extents
// are published in the order of their sequences (one drain of a file at a time), so a new one simply covers
// what lies under it. Extents of different sequences are never merged: an extent's sequence holds for each
// of its bytes.

internal import Model
internal import Namespace

/// The extents of one file. Not synchronised.
struct ExtentMap: Sendable {
    private(set) var extents: [Extent] = []

    init() {}

    /// - Precondition: ordered and without overlaps, as the namespace keeps them.
    init(_ extents: [Extent]) {
        self.extents = extents
    }

    /// What an edit did, for the namespace's record and for the groups' live bytes.
    struct Edit {
        /// Extents that are no more, by what they were.
        var removed: [Extent] = []
        /// Extents that are new, also the rests of removed ones, by their offset.
        var added: [UInt64: Extent] = [:]

        /// Live bytes that each group gained or lost.
        var liveByteChanges: [BlockGroupID: Int64] {
            var changes: [BlockGroupID: Int64] = [:]
            for extent in removed { changes[extent.group, default: 0] -= Int64(extent.range.count) }
            for extent in added.values { changes[extent.group, default: 0] += Int64(extent.range.count) }
            return changes
        }

        /// Adds what a later edit of the same map did. An extent that came with the one and went with the other
        /// has never been.
        mutating func append(_ later: Edit) {
            for extent in later.removed {
                let offset = extent.range.lowerBound
                if added[offset] == extent { added[offset] = nil } else { removed.append(extent) }
            }
            added.merge(later.added) { $1 }
        }

        var byteChange: Int64 { liveByteChanges.values.reduce(0, +) }
    }

    /// Puts extents on top of what is there, in one pass over what lies between the first and the last of them.
    /// - Precondition: they are in order and don't overlap.
    mutating func insert(_ new: [Extent]) -> Edit {
        var edit = Edit()
        guard let lowest = new.first, let highest = new.last else { return edit }
        let first = indexOfFirst(endingAfter: lowest.range.lowerBound)
        var index = first
        var merged: [Extent] = []
        var rest = new[...]
        while index < extents.count, extents[index].range.lowerBound < highest.range.upperBound {
            let old = extents[index]
            index += 1
            while let next = rest.first, next.range.upperBound <= old.range.lowerBound {
                merged.append(next)
                rest.removeFirst()
            }
            guard rest.first?.range.overlaps(old.range) == true else {
                merged.append(old)
                continue
            }
            edit.removed.append(old)
            var left = old.range
            while let next = rest.first, next.range.overlaps(old.range) {
                if left.lowerBound < next.range.lowerBound {
                    let part = old.part(ByteRange(left.lowerBound, next.range.lowerBound))
                    edit.added[part.range.lowerBound] = part
                    merged.append(part)
                }
                left = ByteRange(min(next.range.upperBound, left.upperBound), left.upperBound)
                // One that goes on behind this old one comes before what is next.
                if next.range.upperBound > old.range.upperBound { break }
                merged.append(next)
                rest.removeFirst()
            }
            if !left.isEmpty {
                let part = old.part(left)
                edit.added[part.range.lowerBound] = part
                merged.append(part)
            }
        }
        merged += rest
        for extent in new { edit.added[extent.range.lowerBound] = extent }
        extents.replaceSubrange(first..<index, with: merged)
        return edit
    }

    /// Takes away everything from `size` on.
    mutating func truncate(to size: UInt64) -> Edit {
        guard let last = extents.last, last.range.upperBound > size else { return Edit() }
        return cut(ByteRange(size, last.range.upperBound))
    }

    /// The parts of extents that overlap `range`, in order; the first `limit` of them.
    func overlapping(_ range: ByteRange, limit: Int = .max) -> [Extent] {
        var result: [Extent] = []
        var index = indexOfFirst(endingAfter: range.lowerBound)
        while result.count < limit, index < extents.count, let part = extents[index].range.intersection(range) {
            result.append(extents[index].part(part))
            index += 1
        }
        return result
    }

    private mutating func cut(_ range: ByteRange) -> Edit {
        var edit = Edit()
        var rests: [Extent] = []
        let first = indexOfFirst(endingAfter: range.lowerBound)
        var index = first
        while index < extents.count, extents[index].range.overlaps(range) {
            let extent = extents[index]
            edit.removed.append(extent)
            rests += extent.range.subtracting(range).map(extent.part)
            index += 1
        }
        for rest in rests { edit.added[rest.range.lowerBound] = rest }
        extents.replaceSubrange(first..<index, with: rests)
        return edit
    }

    private func indexOfFirst(endingAfter offset: UInt64) -> Int {
        var low = 0
        var high = extents.count
        while low < high {
            let middle = (low + high) / 2
            if extents[middle].range.upperBound > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

extension Extent {
    /// - Precondition: `part` is inside `range`.
    func part(_ part: ByteRange) -> Extent {
        precondition(range.contains(part))
        return Extent(
            range: part, group: group, groupOffset: groupOffset + (part.lowerBound - range.lowerBound),
            sequence: sequence)
    }
}
