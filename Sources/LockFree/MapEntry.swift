// An entry of an `OffsetMap`: one write, in raw memory.
//
//   inserted ──publish──▶ visible ──trims──▶ dead ──unlink──▶ retired
//       └──────────────abandon──────────────▶ dead
//
// Invariants: `base` never changes. The live part only shrinks. Only the maintainer of the map writes `next`, `value` and
// `charge` of a linked entry.

internal import Synchronization

/// What an entry refers to. A class of its own so that an entry holds one word.
open class MapValue: @unchecked Sendable {
    public init() {}
}

/// The live part of an entry as one word, so that it is always a whole one: the bytes from `front` up to, not including,
/// `end`, counted from the entry's base. Entries have at most `OffsetMap.maxEntryBytes`, so 32 bits are plenty.
struct LivePart: RawRepresentable {
    let rawValue: UInt64

    init(rawValue: UInt64) { self.rawValue = rawValue }

    init(front: UInt64, end: UInt64) { rawValue = end << 32 | front }

    var front: UInt64 { rawValue & 0xFFFF_FFFF }
    var end: UInt64 { rawValue >> 32 }
    var isEmpty: Bool { front >= end }
    var count: UInt64 { isEmpty ? 0 : end - front }

    /// Without the bytes from `low` up to `high`.
    /// - Precondition: they don't leave a part on either side.
    func without(_ low: UInt64, _ high: UInt64) -> LivePart {
        guard !isEmpty, low < end, high > front else { return self }
        if low <= front { return LivePart(front: min(high, end), end: end) }
        precondition(high >= end, "an entry can't be split")
        return LivePart(front: front, end: low)
    }
}

struct MapEntry: ~Copyable {
    var retired: Retired
    /// The next one of the same slot, 0 at the end.
    let next = Atomic<UInt>(0)
    /// Where in the file it begins.
    private(set) var base: UInt64
    /// 0 until it is published. Releasing there pairs with acquiring here by readers: who sees an entry published sees
    /// the rest of it.
    let sequence = Atomic<UInt64>(0)
    let live: Atomic<UInt64>
    /// An owned reference to a `MapValue`. Acquired by readers, since the dumper replaces it.
    let value: Atomic<UInt>
    /// What the budget was charged for it. The maintainer's, once the entry is linked.
    var charge: Int

    private init(_ value: MapValue, base: UInt64, count: Int, charge: Int) {
        retired = Retired(next: nil, dispose: MapEntry.dispose)
        self.base = base
        live = Atomic(LivePart(front: 0, end: UInt64(count)).rawValue)
        self.value = Atomic(UInt(bitPattern: Unmanaged.passRetained(value).toOpaque()))
        self.charge = charge
    }

    static func make(
        _ value: MapValue, base: UInt64, count: Int, charge: Int
    ) -> UnsafeMutablePointer<MapEntry> {
        let entry = UnsafeMutablePointer<MapEntry>.allocate(capacity: 1)
        entry.initialize(to: MapEntry(value, base: base, count: count, charge: charge))
        return entry
    }

    static let dispose: @convention(c) (UnsafeMutableRawPointer) -> Void = { block in
        let entry = block.assumingMemoryBound(to: MapEntry.self)
        // Who looks too late gets an overflow, not somebody else's bytes; and the thread sanitizer, which doesn't see what is
        // given back to the allocator, sees a write. First of all, since counting references orders threads in its eyes.
        entry.pointee.base = .max
        release(entry.pointee.value.load(ordering: .relaxed))
        entry.deinitialize(count: 1)
        entry.deallocate()
    }

    static func release(_ value: UInt) {
        guard let reference = UnsafeRawPointer(bitPattern: value) else { return }
        Unmanaged<MapValue>.fromOpaque(reference).release()
    }

    /// The value, retained for the caller.
    borrowing func loadValue(_ pin: borrowing EpochDomain.Pin) -> MapValue {
        // Pairs with the exchange in `OffsetMap.replaceValue`.
        let reference = UnsafeRawPointer(bitPattern: value.load(ordering: .acquiring))!
        return Unmanaged<MapValue>.fromOpaque(reference).takeUnretainedValue()
    }

    /// Takes bytes out of the live part. Returns how many they were, and whether none is left by this. Pinned, since from
    /// the moment when none is left the maintainer may retire the entry.
    borrowing func trim(_ low: UInt64, _ high: UInt64, _ pin: borrowing EpochDomain.Pin) -> (bytes: UInt64, died: Bool)
    {
        var old = LivePart(rawValue: live.load(ordering: .relaxed))
        while true {
            let new = old.without(max(low, base) - base, max(high, base) - base)
            if new.rawValue == old.rawValue { return (0, false) }
            // Releasing pairs with the acquiring of the maintainer, who frees what is dead.
            let result = live.weakCompareExchange(
                expected: old.rawValue, desired: new.rawValue, successOrdering: .acquiringAndReleasing,
                failureOrdering: .relaxed)
            if result.exchanged { return (old.count - new.count, new.isEmpty) }
            old = LivePart(rawValue: result.original)
        }
    }
}

/// A value that was replaced, until nobody can be about to retain it.
struct RetiredValue {
    var retired: Retired
    let value: UInt

    static func make(_ value: UInt) -> UnsafeMutableRawPointer {
        let block = UnsafeMutablePointer<RetiredValue>.allocate(capacity: 1)
        block.initialize(to: RetiredValue(retired: Retired(next: nil, dispose: dispose), value: value))
        return UnsafeMutableRawPointer(block)
    }

    private static let dispose: @convention(c) (UnsafeMutableRawPointer) -> Void = { block in
        let value = block.assumingMemoryBound(to: RetiredValue.self)
        MapEntry.release(value.pointee.value)
        value.deinitialize(count: 1)
        value.deallocate()
    }
}
