// Taking entries out: trimming, which anybody may, and what only the maintainer does.

public import Model
internal import Synchronization

extension OffsetMap {
    /// What trimming took away.
    public struct Trimmed: Hashable, Sendable {
        public var bytes: UInt64 = 0
        public var deadEntries = 0

        public init() {}
    }

    /// What unlinking gives back.
    public struct Unlinked: Hashable, Sendable {
        /// Published ones.
        public var entries = 0
        /// Of those.
        public var charge = 0

        public init() {}
    }

    /// Takes the bytes of the ranges out of all entries up to a sequence: they are durable, or void. Lock-free; may run
    /// beside anything. One pass over the entries between the first range and the last. Entries that are published meanwhile
    /// with such a sequence may be missed, so the sequence must have been given out, under the lock that orders them, before
    /// the call.
    /// - Precondition: the ranges are in order and don't overlap; no entry up to that sequence reaches out of one of them on
    ///   both sides.
    public func trim(_ ranges: [ByteRange], through: WriteSequence) -> Trimmed {
        var result = Trimmed()
        guard let first = ranges.first, let last = ranges.last, first.lowerBound < last.upperBound else {
            return result
        }
        domain.pinned { pin in
            visitEntries(ByteRange(first.lowerBound, last.upperBound), pin) { entry in
                // Pairs with `publish`.
                let sequence = WriteSequence(rawValue: entry.pointee.sequence.load(ordering: .acquiring))
                guard sequence > .zero, sequence <= through else { return }
                let live = LivePart(rawValue: entry.pointee.live.load(ordering: .relaxed))
                let base = entry.pointee.base
                var index = Self.indexOfFirst(ranges, endingAfter: base + live.front)
                while index < ranges.count, ranges[index].lowerBound < base + live.end {
                    let taken = entry.pointee.trim(ranges[index].lowerBound, ranges[index].upperBound, pin)
                    result.bytes += taken.bytes
                    if taken.died { result.deadEntries += 1 }
                    index += 1
                }
            }
        }
        return result
    }

    private static func indexOfFirst(_ ranges: [ByteRange], endingAfter offset: UInt64) -> Int {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// The same for one range.
    public func trim(_ range: ByteRange, through: WriteSequence) -> Trimmed { trim([range], through: through) }

    /// Takes all bytes out of these entries: they are void, whatever else is there. For the maintainer, or under the lock
    /// without which nobody is one: the entries must not have been unlinked since they were found.
    public func trim(_ findings: [Finding]) -> Trimmed {
        var result = Trimmed()
        guard !findings.isEmpty else { return result }
        domain.pinned { pin in
            for finding in findings {
                let taken = finding.entry.pointee.trim(0, .max, pin)
                result.bytes += taken.bytes
                if taken.died { result.deadEntries += 1 }
            }
        }
        return result
    }

    /// Unlinks what is dead of the entries that may overlap the range. Until then they take memory. Maintainer only.
    @discardableResult
    public func unlinkDead(in range: ByteRange = ByteRange(0, 1 << 63)) -> Unlinked {
        var result = Unlinked()
        guard !range.isEmpty else { return result }
        domain.pinned { pin in
            // A page may go with its last entry. The walk goes on all the same: a node that was taken out can be read
            // while pinned, and branches above keep what else hangs in them.
            visitPages(
                range.lowerBound < RadixNode.pageBytes ? 0 : range.lowerBound / RadixNode.pageBytes - 1,
                (range.upperBound - 1) / RadixNode.pageBytes, pin
            ) { page in
                var unlinked: UInt = 0
                for list in 0..<RadixNode.pageWords {
                    unlinked += unlinkDead(RadixNode.words(page) + list, &result, pin)
                }
                if unlinked > 0 { release(page, pin, unlinked) }
                return true
            }
        }
        return result
    }

    /// Returns how many were unlinked, published or not.
    private func unlinkDead(
        _ head: UnsafeMutablePointer<Atomic<UInt>>, _ result: inout Unlinked, _ pin: borrowing EpochDomain.Pin
    ) -> UInt {
        var count: UInt = 0
        var previous: UnsafeMutablePointer<MapEntry>?
        var word = head.pointee.load(ordering: .acquiring)
        while let entry = UnsafeMutablePointer<MapEntry>(bitPattern: word) {
            let next = entry.pointee.next.load(ordering: .relaxed)
            // Pairs with the trim that made it dead.
            guard LivePart(rawValue: entry.pointee.live.load(ordering: .acquiring)).isEmpty else {
                previous = entry
                word = next
                continue
            }
            if let previous {
                previous.pointee.next.store(next, ordering: .releasing)
            } else if !head.pointee.compareExchange(
                expected: word, desired: next, successOrdering: .acquiringAndReleasing, failureOrdering: .relaxed
            ).exchanged {
                // Others were pushed before it: from the head again, as far as it.
                word = head.pointee.load(ordering: .acquiring)
                continue
            }
            if entry.pointee.sequence.load(ordering: .relaxed) > 0 {
                result.entries += 1
                result.charge += entry.pointee.charge
            }
            domain.retire(UnsafeMutableRawPointer(entry), pin)
            count += 1
            word = next
        }
        return count
    }

    /// Replaces the value of an entry, and what is charged for it. Returns how much less that is. Maintainer only.
    public func replaceValue(of finding: Finding, by value: MapValue, charge: Int) -> Int {
        domain.pinned { pin in
            let entry = finding.entry
            let new = UInt(bitPattern: Unmanaged.passRetained(value).toOpaque())
            let old = entry.pointee.value.exchange(new, ordering: .acquiringAndReleasing)
            domain.countMade(1, pin)
            domain.retire(RetiredValue.make(old), pin)
            defer { entry.pointee.charge = charge }
            return entry.pointee.charge - charge
        }
    }
}
