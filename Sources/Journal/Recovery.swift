// What of the log is there at a start, and whether it can be believed.
//
// The superblocks say which volumes hold all that was answered in the latest generation; at least one of them must be there
// and be readable, and vouches for where the log ends. What may be on the other volumes:
//
//   * less than there was: a replica that missed the last groups. Groups are merged, so it can't win.
//   * more than was answered: a group that was being written when its replica was dropped. Nothing was answered by it, and
//     the next generation wrote the same numbers again: what an older epoch says of a number at or beyond the beginning of
//     a newer one, or of a later segment, is void.
//   * segments that were freed, also with groups that check out: the latest group says what is the oldest that is needed.
//
// A group is written when the one before is durable on all replicas. So the only group that may be torn is the last one;
// where something is behind it, what is missing was answered, and nothing is believed.

internal import Model
internal import Platform

/// What a start goes on with.
final class RecoveredState: Sendable {
    let generation: JournalGeneration
    let storeID: StoreID
    let directories: [JournalDirectory]
    /// Those that are needed, in order.
    let segments: [Segment]
    /// Slots that hold nothing live.
    let spareSlots: [Slot]
    /// Above all that were ever used, as far as is to be seen.
    let nextSegment: UInt64

    init(
        generation: JournalGeneration, storeID: StoreID, directories: [JournalDirectory], segments: [Segment],
        spareSlots: [Slot], nextSegment: UInt64
    ) {
        self.generation = generation
        self.storeID = storeID
        self.directories = directories
        self.segments = segments
        self.spareSlots = spareSlots
        self.nextSegment = nextSegment
    }
}

/// One recovery. Blocks on the disks, changes nothing.
struct Recovery {
    let generation: JournalGeneration
    let storeID: StoreID
    private var directories: [JournalDirectory] = []
    /// Volumes of which everything was seen that could be the journal's.
    private var witnesses: Set<VolumeID> = []
    private var slots: [(slot: Slot, header: SegmentHeader?)] = []
    private var nextSegment: UInt64 = 1

    init(
        _ volumes: [JournalVolume], generation: JournalGeneration, storeID: StoreID, fileSystem: FileSystem
    ) throws(JournalRefusal) {
        self.generation = generation
        self.storeID = storeID
        for volume in volumes { try look(JournalDirectory(volume, fileSystem)) }
    }

    // MARK: What is there

    private mutating func look(_ directory: JournalDirectory) throws(JournalRefusal) {
        directories.append(directory)
        do throws(IOError) {
            var isReadable = true
            for slot in try directory.openSlots() {
                do throws(IOError) {
                    let header = try SegmentReader(slot, storeID).header()
                    if let header { nextSegment = max(nextSegment, header.identity.number &+ 1) }
                    slots.append((slot, header))
                } catch {
                    if error.isShortage { throw error }
                    directory.volume.onFailure(error)
                    isReadable = false
                }
            }
            if isReadable { witnesses.insert(directory.id) }
        } catch {
            // A lack of descriptors is no reason to do without a volume.
            if error.isShortage { throw JournalRefusal("the journal can't be read: \(error)") }
            directory.volume.onFailure(error)
        }
    }

    // MARK: Which segments count

    /// The segments that may hold something valid, in order, and what is void of them: the number at or beyond `limits`.
    private func chain() -> (segments: [Segment], limits: [LogNumber?]) {
        var byNumber: [UInt64: [(slot: Slot, header: SegmentHeader)]] = [:]
        for case (let slot, let header?) in slots {
            byNumber[header.identity.number, default: []].append((slot, header))
        }
        var segments: [Segment] = []
        var highest = Epoch(rawValue: 0)
        for (_, found) in byNumber.sorted(by: { $0.key < $1.key }) {
            // One number under several epochs: what was begun under the older one was never answered.
            guard let header = found.map(\.header).max(by: { $0.identity.epoch < $1.identity.epoch }),
                header.identity.epoch >= highest,
                header.identity.epoch == generation.epoch || header.firstNumber <= generation.firstNumber
            else { continue }
            highest = header.identity.epoch
            let slots = found.filter { $0.header.identity == header.identity }.map(\.slot)
            segments.append(
                Segment(
                    header, storeID, slotBytes: slots.map(\.size).max() ?? 0,
                    replicas: slots.map { Segment.Replica(slot: $0, isComplete: true) }))
        }
        var limit: LogNumber?
        var chain: [Segment] = []
        var limits: [LogNumber?] = []
        for segment in segments.reversed() {
            if segment.identity.epoch < generation.epoch {
                limit = min(limit ?? generation.firstNumber, generation.firstNumber)
            }
            if let limit, segment.header.firstNumber > limit { continue }
            chain.append(segment)
            limits.append(limit)
            limit = min(limit ?? segment.header.firstNumber, segment.header.firstNumber)
        }
        return (chain.reversed(), limits.reversed())
    }

    // MARK: The whole of it

    func run(_ visit: (RecoveredEntry) -> Void) throws(JournalRefusal) -> RecoveredJournal {
        guard !generation.volumes.isEmpty else { return result(segments: []) }
        guard generation.volumes.contains(where: witnesses.contains) else {
            throw refusal("none of them is there and can be read")
        }
        for case (let slot, let header?) in slots where header.identity.epoch > generation.epoch {
            // Superblocks come first: what they say was not seen here.
            throw refusal("\(slot.path) is of epoch \(header.identity.epoch), of which the superblocks don't know")
        }
        var (segments, limits) = chain()
        guard let newest = segments.last else {
            // The generation's first segment was never made. That nothing was answered before it either is sure if it began
            // with the first number, or if nothing can have been missed.
            guard
                generation.firstNumber <= LogNumber.ofFormat.next || generation.volumes.allSatisfy(witnesses.contains)
            else {
                throw refusal("nothing of the log is there")
            }
            return result(segments: [])
        }
        var oldestLive = newest.header.oldestLive
        _ = try walk(newest, limit: limits.last ?? nil, isNewest: true) { header, _ in
            oldestLive = max(oldestLive, header.oldestLive)
        }
        guard let oldest = segments.firstIndex(where: { $0.number == oldestLive }) else {
            throw refusal("segment \(oldestLive), from which on the log is needed, is missing")
        }
        segments.removeFirst(oldest)
        limits.removeFirst(oldest)

        var expected = segments[0].header.firstNumber
        for (index, segment) in segments.enumerated() {
            guard segment.header.firstNumber == expected else {
                throw refusal(missing: expected, before: segment.header.firstNumber)
            }
            let isNewest = index == segments.count - 1
            var damage: JournalRefusal?
            expected = try walk(segment, limit: limits[index], isNewest: isNewest) { header, bytes in
                segment.extend(by: header)
                damage = damage ?? deliver(header, bytes, of: segment, before: limits[index], to: visit)
            }
            if let damage { throw damage }
            if let limit = limits[index] { segment.clip(to: limit) }
        }
        guard expected >= generation.firstNumber else {
            throw refusal(missing: expected, before: generation.firstNumber)
        }
        return result(segments: segments)
    }

    /// Goes through the groups of a segment, and demands what must be there. Returns the number behind it.
    private func walk(
        _ segment: Segment, limit: LogNumber?, isNewest: Bool,
        _ body: (GroupHeader, UnsafeRawBufferPointer) -> Void
    ) throws(JournalRefusal) -> LogNumber {
        let reader = MergedReader(segment)
        var position = UInt64(SegmentFormat.unit)
        var expected = segment.header.firstNumber
        var last: GroupHeader?
        while let (header, bytes) = reader.group(at: position, first: expected) {
            // A group without entries is no more than a note of what is needed, and true whenever it is read.
            if let limit, header.entryCount > 0, header.firstNumber >= limit { break }
            body(header, bytes)
            last = header
            position += UInt64(header.byteCount)
            expected = header.nextNumber
        }
        reader.judgeReplicas(lastGroup: last)
        if let limit {
            guard expected >= limit else { throw refusal(missing: expected, before: limit) }
            return limit
        }
        precondition(isNewest, "a later segment sets a limit")
        try checkEnd(of: segment, at: position, expected)
        return expected
    }

    /// That the log ends here must be vouched for: nothing is behind it, and a volume that had to have the next group if it
    /// had been answered could be read and has none.
    private func checkEnd(of segment: Segment, at position: UInt64, _ expected: LogNumber) throws(JournalRefusal) {
        var vouching = witnesses.intersection(generation.volumes)
        for replica in segment.replicas {
            let reader = SegmentReader(replica.slot, storeID)
            var isMore = false
            do throws(IOError) {
                if case .unreadable(let error) = reader.group(at: position, segment.identity) { throw error }
                isMore = try reader.hasGroup(behind: position, segment.identity)
            } catch {
                replica.slot.directory.volume.onFailure(error)
                vouching.remove(replica.slot.directory.id)
            }
            if isMore {
                throw refusal(
                    "entries from \(expected) on are damaged in \(segment.identity), and there are later ones")
            }
        }
        guard !vouching.isEmpty else {
            throw refusal("\(segment.identity) can't be read from entry \(expected) on")
        }
    }

    /// Hands over the entries of a group; returns what is wrong with it.
    private func deliver(
        _ header: GroupHeader, _ bytes: UnsafeRawBufferPointer, of segment: Segment, before limit: LogNumber?,
        to visit: (RecoveredEntry) -> Void
    ) -> JournalRefusal? {
        let start = SegmentFormat.groupHeaderBytes
        var reader = RawReader(UnsafeRawBufferPointer(rebasing: bytes[start..<start + header.bodyLength]))
        var expected = header.firstNumber
        while expected < header.nextNumber {
            guard let entry = EntryCoding.decode(&reader, bodyStart: start), entry.number == expected else {
                return refusal("entry \(expected) in \(segment.identity) makes no sense")
            }
            if let limit, expected >= limit { return nil }
            visit(
                RecoveredEntry(
                    number: entry.number, record: [UInt8](entry.record),
                    payloads: entry.payloads.map { segment.claim($0, groupAt: header.position) }))
            expected = expected.next
        }
        return reader.isAtEnd ? nil : refusal("a group at \(header.position) in \(segment.identity) makes no sense")
    }

    private func result(segments: [Segment]) -> RecoveredJournal {
        let live = Set(segments.flatMap(\.replicas).map { ObjectIdentifier($0.slot) })
        let state = RecoveredState(
            generation: generation, storeID: storeID, directories: directories, segments: segments,
            spareSlots: slots.map(\.slot).filter { !live.contains(ObjectIdentifier($0)) }, nextSegment: nextSegment)
        let before = LogNumber(rawValue: generation.firstNumber.rawValue &- 1)
        let first = segments.first { $0.lastNumber >= $0.header.firstNumber.rawValue }?.header.firstNumber
        return RecoveredJournal(
            lastNumber: segments.last.map { LogNumber(rawValue: $0.lastNumber) } ?? before, firstNumber: first,
            state: state)
    }

    // MARK: Refusing

    private func refusal(_ reason: String) -> JournalRefusal {
        let present = Set(directories.map(\.id))
        let volumes = generation.volumes.map { id in
            "\(id)\(witnesses.contains(id) ? "" : present.contains(id) ? " (unreadable)" : " (not there)")"
        }
        return JournalRefusal(
            "the journal of epoch \(generation.epoch) is on volumes \(volumes.joined(separator: ", ")): \(reason)")
    }

    private func refusal(missing: LogNumber, before: LogNumber) -> JournalRefusal {
        refusal("entries \(missing) to \(before.rawValue &- 1) are missing")
    }
}
