// What is freed, what room there is, and what happens when nothing is appended. See JournalWriter.swift.
//
// Segments are freed oldest first. A freed one's slots hold what a start would still want to read until a durable group says
// that it isn't needed; then they are spare. No group may say so before the entries are durable with which it became so: the
// bytes of a file go when its removal has been begun, and if that is lost they are what was promised.

internal import Model
internal import Platform
internal import Synchronization

extension JournalWriter {
    /// Spare slots of each volume are so many at most; the others are removed.
    private static let maxSpares = 4

    func watch(_ segment: Segment) {
        segment.whenUnclaimed { [weak self] in self?.cleanSoon() }
    }

    /// Takes segments off the front that nobody needs.
    func freeSegments() {
        let applied = shared.withLock { $0.applied }
        var isChanged = false
        while let oldest = segments.first, oldest !== current?.segment, oldest.lastNumber <= applied.rawValue,
            !oldest.isClaimed
        {
            oldest.whenUnclaimed(nil)
            freed.append(Freed(segment: segments.removeFirst(), begun: begunNumber))
            isChanged = true
        }
        if isChanged { publish() }
    }

    private var begunNumber: LogNumber { LogNumber(rawValue: begun.load(ordering: .acquiring)) }

    /// The oldest segment that is needed where all entries before this one are durable; nil: none is.
    func oldestLive(before next: LogNumber) -> UInt64? {
        // What had been begun may have come to nothing: then it isn't waited for.
        let begun = begunNumber
        return freed.first { min($0.begun, begun) >= next }?.segment.number ?? segments.first?.number
    }

    /// A durable group says that segments before this one are not needed.
    func releaseFreed(before oldestLive: UInt64) {
        while let segment = freed.first?.segment, segment.number < oldestLive {
            freed.removeFirst()
            for replica in segment.replicas { release(replica.slot) }
        }
    }

    /// The slot holds nothing live.
    func release(_ slot: Slot) {
        slot.directory.release(slot, bytes: UInt64(bounds.segmentBytes), keep: Self.maxSpares)
    }

    /// Has the next segment's slots made ahead.
    func prepareSpares() {
        for id in generation.volumes {
            guard let directory = directory(id), directory.isUsable else { continue }
            directory.prepareSpare(bytes: UInt64(bounds.segmentBytes), leaving: bounds.minFreeBytes) {
                [self] error in
                thread.submit { [self] in
                    if !error.isOutOfSpace, !error.isShortage { drop(directory, error) }
                    publish()
                }
            }
        }
    }

    // MARK: Figures

    private static func bytes(_ segments: [Segment]) -> UInt64 { segments.reduce(0) { $0 + $1.slotBytes } }

    var isHalfFull: Bool { Self.bytes(segments) >= UInt64(bounds.capacityBytes) / 2 }

    func isShortOfReplicas(_ segment: Segment) -> Bool { Set(segment.volumes).count < replicaCount }

    /// Lets others see what there is.
    func publish() {
        var usage = JournalUsage()
        usage.segments = segments.count
        usage.bytes = Self.bytes(segments)
        usage.capacityBytes = UInt64(bounds.capacityBytes)
        usage.replicas = generation.volumes.filter { directory($0)?.isUsable == true }
        usage.segmentsShortOfReplicas = segments.filter(isShortOfReplicas).count
        let isShortOfSlots = generation.volumes.contains { directory($0)?.isFull == true }
        shared.withLock { shared in
            usage.appendedBytes = shared.usage.appendedBytes
            usage.groups = shared.usage.groups
            usage.entries = shared.usage.entries
            usage.failedReplicas = shared.usage.failedReplicas
            shared.usage = usage
            shared.segments = segments
            shared.isShortOfSlots = isShortOfSlots
        }
    }

    func hasRoom(forPayloadBytes count: Int) -> Bool {
        let (live, isShortOfSlots) = shared.withLock { ($0.usage.bytes + $0.queuedBytes, $0.isShortOfSlots) }
        let reserve = 2 * UInt64(bounds.segmentBytes)
        return !isShortOfSlots && live + UInt64(count) + reserve <= UInt64(bounds.capacityBytes)
    }

    func ownersOfOldestSegment(limit: Int) -> [FileID] {
        let segments = shared.withLock { $0.segments }
        guard Self.bytes(segments) >= UInt64(bounds.capacityBytes) / 2 else { return [] }
        // One without claims is only waiting for the mirrors.
        return segments.first(where: \.isClaimed)?.owners(limit: limit) ?? []
    }

    // MARK: Once a second

    func ticked() {
        for directory in directories {
            directory.giveUpReads(after: bounds.patience)
            if let error = directory.overdue(after: bounds.patience * 3) { drop(directory, error, hangs: true) }
        }
        giveUpHangingCopy()
        guard !isEnded else { return }
        dropHangingReplicas()
        freeSegments()
        publish()
        prepareSpares()
        copyWhatIsShort()
        // Nothing may ever be appended: what was freed is given back all the same, and a lost replica is replaced.
        guard flight == nil, !isEnded, !shared.withLock({ $0.isClosing || !$0.queue.isEmpty }), waiting.isEmpty else {
            return
        }
        let isReplicaLost = current != nil && !generation.volumes.allSatisfy { directory($0)?.isUsable == true }
        guard !freed.isEmpty || isReplicaLost else { return }
        buffer.fillEmpty(first: nextNumber)
        flight = Flight(items: [])
        place()
    }
}
