// Where in a file its pending writes are, so that a COMMIT of a few needs no look at all the others: those that are in the
// journal stay pending for long, and a program that syncs each of its writes would pay for all of them each time.
//
// Kept beside the map, under the context's lock, and only ever too much: what was drained, journaled or truncated away
// may still be counted until a turn has looked at everything. So it says where to look, never what is there.
//
// Invariant: every pending write that no turn has made durable is in `new`, unless `tooManyThrough` says that some up to there
// are not; every pending byte is in `all`, if that is known.

internal import Model

/// Value semantics.
struct PendingPlaces {
    /// New writes that are told apart; of more than these a turn looks at everything, which costs each of them little.
    private static let maxNew = 256
    /// 64 KiB, beside at least 1.2 MiB that so many writes in the journal are charged for.
    private static let maxRanges = 4096

    /// Writes that no turn has made durable, in the order of their arrival; those that go on where the last one ended are one
    /// with it, under the later sequence.
    private var new: [(range: ByteRange, sequence: WriteSequence)] = []
    private var tooManyThrough: WriteSequence?
    private var all: ByteRangeSet?

    /// - Parameter isEmpty: nothing is pending.
    init(isEmpty: Bool) { all = isEmpty ? ByteRangeSet() : nil }

    mutating func insert(_ range: ByteRange, _ sequence: WriteSequence) {
        all?.insert(range)
        if let count = all?.ranges.count, count > Self.maxRanges { all = nil }
        if tooManyThrough != nil {
            tooManyThrough = sequence
        } else if let last = new.last, last.range.upperBound == range.lowerBound {
            new[new.count - 1] = (ByteRange(last.range.lowerBound, range.upperBound), sequence)
        } else if new.count < Self.maxNew {
            new.append((range, sequence))
        } else {
            tooManyThrough = sequence
        }
    }

    /// All that was written up to this is durable, or void.
    mutating func becameDurable(through: WriteSequence) {
        new.removeAll { $0.sequence <= through }
        if let last = tooManyThrough, last <= through { tooManyThrough = nil }
    }

    /// A turn has looked at all that was pending with at most this sequence.
    mutating func found(_ runs: [ByteRange], through: WriteSequence) {
        guard tooManyThrough.map({ $0 <= through }) ?? true, runs.count <= Self.maxRanges else {
            all = nil
            return
        }
        var found = ByteRangeSet(runs)
        for write in new where write.sequence > through { found.insert(write.range) }
        all = found
    }

    /// Where all new writes are, in order, with a gap between any two; nil if that isn't known, or if one of them may be in a
    /// run of at least a stripe with what else is pending.
    func ofNew(stripeSizeBytes: Int) -> [ByteRange]? {
        guard tooManyThrough == nil, let all else { return nil }
        var places = ByteRangeSet()
        for write in new { places.insert(write.range) }
        let isShort = places.ranges.allSatisfy { all.run(with: $0).count < stripeSizeBytes }
        return isShort ? places.ranges : nil
    }

    /// So much a turn carries out where somebody waits for it, perhaps an event loop: copying it and its checksum take some
    /// 0.1 ms.
    private static let littleBytes: UInt64 = 256 << 10

    /// The same, if it is little.
    func ofLittleNew(stripeSizeBytes: Int) -> [ByteRange]? {
        guard let places = ofNew(stripeSizeBytes: stripeSizeBytes),
            places.reduce(0, { $0 + $1.count }) <= Self.littleBytes
        else { return nil }
        return places
    }
}
