// Bringing the replicas of the last segment level after a recovery.
//
// What was recovered may include a group that was never answered, of which only one replica has heard, or pages that no
// sync has covered. Before anybody sees an effect of it, it must be as durable as what was answered.

internal import Model
internal import Platform

struct Leveling {
    let state: RecoveredState

    func run() throws(JournalRefusal) {
        guard let segment = state.segments.last else { return }
        let holders = Set(segment.replicas.map(\.slot.directory.id))
        var isLevel = false
        for replica in segment.replicas where replica.slot.directory.isUsable {
            isLevel = level(replica.slot, segment) || isLevel
        }
        // Volumes that the generation relies on, and to which the segment had not come.
        for directory in state.directories
        where state.generation.volumes.contains(directory.id) && !holders.contains(directory.id) && directory.isUsable {
            isLevel = copy(segment, to: directory) || isLevel
        }
        guard isLevel else { throw JournalRefusal("no volume can be written with the end of the journal") }
    }

    private func level(_ slot: Slot, _ segment: Segment) -> Bool {
        do throws(IOError) {
            let isWhole = try SegmentWriting.complete(slot, from: segment)
            segment.setComplete(slot, isWhole)
            return isWhole
        } catch {
            return leaveOut(slot.directory, segment, error)
        }
    }

    private func copy(_ segment: Segment, to directory: JournalDirectory) -> Bool {
        do throws(IOError) {
            let spare = state.spareSlots.first { $0.directory === directory && $0.size == segment.slotBytes }
            // Taken although little room is left: this is what other things are freed by.
            let slot: Slot
            if let spare { slot = spare } else { slot = try directory.makeSlot(bytes: segment.slotBytes, leaving: 0) }
            let isWhole = try SegmentWriting.complete(slot, from: segment)
            if isWhole { segment.add(slot) }
            return isWhole
        } catch {
            return leaveOut(directory, segment, error)
        }
    }

    private func leaveOut(_ directory: JournalDirectory, _ segment: Segment, _ error: IOError) -> Bool {
        for replica in segment.replicas where replica.slot.directory === directory {
            segment.setComplete(replica.slot, false)
        }
        // Copied to it, or to another volume, later.
        if !error.isShortage, !error.isOutOfSpace { _ = directory.drop(after: error, hangs: false) }
        return false
    }
}

enum SegmentWriting {
    /// Writes to a slot what it lacks of a segment, and syncs it. The header comes last: a slot that has it holds
    /// everything. Returns false when no replica gives all of it. Blocks.
    static func complete(_ slot: Slot, from segment: Segment) throws(IOError) -> Bool {
        let source = MergedReader(segment)
        let target = SegmentReader(slot, segment.storeID)
        let end = segment.end
        var position = UInt64(SegmentFormat.unit)
        var expected = segment.header.firstNumber
        while position < end {
            guard let (header, bytes) = source.group(at: position, first: expected) else { return false }
            var isThere = false
            switch target.group(at: position, segment.identity) {
            case .valid(let found, _): isThere = found == header
            case .absent: break
            case .unreadable(let error): throw error
            }
            if !isThere { try slot.file.write(bytes, at: position) }
            position += UInt64(header.byteCount)
            expected = header.nextNumber
        }
        try slot.file.sync()
        let block = AlignedBuffer(count: SegmentFormat.unit)
        segment.header.encode(segment.storeID, to: block.bytes)
        if let found = try target.bytes(at: 0, count: SegmentFormat.unit),
            SegmentHeader(found, segment.storeID) == segment.header
        {
            return true
        }
        try slot.file.write(UnsafeRawBufferPointer(block.bytes), at: 0)
        try slot.file.sync()
        return true
    }
}
