// Taking entries out: trimming, which anybody may, and what only the maintainer does.

public import Model
internal import Synchronization

extension OffsetMap {
    /// What trimming took away.
    public struct Trimmed: Hashable, Sendable {
        public var bytes: UInt64 = 0
        /// Of the entries that died.
        public var charge = 0
        public var deadEntries = 0

        public init() {}

        public mutating func add(_ other: Trimmed) {
            bytes += other.bytes
            charge += other.charge
            deadEntries += other.deadEntries
        }
    }

    /// Takes the bytes of `range` out of all entries up to a sequence: they are durable, or void. Lock-free; may run beside
    /// anything. Entries that are published meanwhile with such a sequence may be missed, so the sequence must have been
    /// given out, under the lock that orders them, before the call.
    /// - Precondition: no entry up to that sequence reaches out of the range on both sides.
    public func trim(_ range: ByteRange, through: WriteSequence) -> Trimmed {
        var result = Trimmed()
        guard !range.isEmpty else { return result }
        domain.pinned { pin in
            visitEntries(range, pin) { entry in
                // Pairs with `publish`.
                let sequence = WriteSequence(rawValue: entry.pointee.sequence.load(ordering: .acquiring))
                guard sequence > .zero, sequence <= through else { return }
                let taken = entry.pointee.trim(range.lowerBound, range.upperBound)
                result.bytes += taken.bytes
                result.charge += taken.charge
                if taken.died { result.deadEntries += 1 }
            }
        }
        return result
    }

    /// Unlinks what is dead of the entries that may overlap the range. Returns how many they were. Maintainer only.
    @discardableResult
    public func unlinkDead(in range: ByteRange = ByteRange(0, 1 << 63)) -> Int {
        var count = 0
        domain.pinned { pin in
            // A page may go with its last entry, so the walk does not stand in one when that is given up: the tree is
            // changed only after `visitPages` has read what follows from a branch that can still be read while pinned.
            visitPages(
                range.lowerBound < RadixNode.pageBytes ? 0 : range.lowerBound / RadixNode.pageBytes - 1,
                range.isEmpty ? 0 : (range.upperBound - 1) / RadixNode.pageBytes, pin
            ) { page in
                var unlinked: UInt = 0
                for list in 0..<RadixNode.pageWords { unlinked += unlinkDead(RadixNode.words(page) + list, pin) }
                if unlinked > 0 { release(page, pin, unlinked) }
                count += Int(unlinked)
                return true
            }
        }
        return count
    }

    private func unlinkDead(_ head: UnsafeMutablePointer<Atomic<UInt>>, _ pin: borrowing EpochDomain.Pin) -> UInt {
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
            domain.retire(UnsafeMutableRawPointer(entry), pin)
            count += 1
            word = next
        }
        return count
    }

    /// Replaces the value of an entry. Returns how much of its charge is free now; nothing when the entry died meanwhile,
    /// since all of it was then given back by who made it dead. Maintainer only.
    public func replaceValue(of finding: Finding, by value: MapValue, charge: Int) -> Int {
        domain.pinned { pin in
            let entry = finding.entry
            let new = UInt(bitPattern: Unmanaged.passRetained(value).toOpaque())
            let old = entry.pointee.value.exchange(new, ordering: .acquiringAndReleasing)
            domain.countMade(1, pin)
            domain.retire(RetiredValue.make(old), pin)
            var charged = entry.pointee.charge.load(ordering: .relaxed)
            while charged != 0 {
                let result = entry.pointee.charge.weakCompareExchange(
                    expected: charged, desired: charge, ordering: .relaxed)
                if result.exchanged { return charged - charge }
                charged = result.original
            }
            return 0
        }
    }
}
