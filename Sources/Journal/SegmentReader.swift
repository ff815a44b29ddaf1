// Reading groups of a segment from its replicas. What doesn't check out is not there.

internal import ErasureCoding
internal import Model
internal import Platform

/// What is at a position of one replica.
enum FoundGroup {
    /// The bytes are those of the whole group, as long as nothing else is read.
    case valid(GroupHeader, UnsafeRawBufferPointer)
    /// Read, and no group of this segment.
    case absent
    case unreadable(IOError)
}

/// Reads one file, in large pieces. Not thread-safe.
final class SegmentReader {
    let slot: Slot
    private let storeID: StoreID
    private var window: AlignedBuffer
    private var windowStart: UInt64 = 0
    private var windowCount = 0

    private static let windowBytes = 1 << 20

    init(_ slot: Slot, _ storeID: StoreID) {
        self.slot = slot
        self.storeID = storeID
        window = AlignedBuffer(count: max(SegmentFormat.unit, Int(min(slot.size, UInt64(Self.windowBytes)))))
    }

    /// The bytes, valid until the next call; nil: the file ends before.
    func bytes(at offset: UInt64, count: Int) throws(IOError) -> UnsafeRawBufferPointer? {
        guard offset <= slot.size, UInt64(count) <= slot.size - offset else { return nil }
        let isThere = offset >= windowStart && offset + UInt64(count) <= windowStart + UInt64(windowCount)
        if !isThere {
            if window.bytes.count < count { window = AlignedBuffer(count: count) }
            windowCount = 0
            windowStart = offset
            windowCount = try slot.file.read(into: window.bytes, at: offset)
            guard windowCount >= count else { return nil }
        }
        let start = Int(offset - windowStart)
        return UnsafeRawBufferPointer(rebasing: window.bytes[start..<start + count])
    }

    /// What the file says it is: by its header or, if that is damaged, by its first group.
    func header() throws(IOError) -> SegmentHeader? {
        if let bytes = try bytes(at: 0, count: SegmentFormat.unit), let header = SegmentHeader(bytes, storeID) {
            return header
        }
        let first = UInt64(SegmentFormat.unit)
        guard let bytes = try bytes(at: first, count: SegmentFormat.groupHeaderBytes),
            let group = GroupHeader(bytes, storeID), group.position == first,
            case .valid = self.group(at: first, group.identity)
        else { return nil }
        return SegmentHeader(
            identity: group.identity, firstNumber: group.firstNumber, oldestLive: group.oldestLive)
    }

    func group(at position: UInt64, _ identity: SegmentIdentity) -> FoundGroup {
        do throws(IOError) {
            guard let header = try groupHeader(at: position, identity),
                let bytes = try bytes(at: position, count: header.byteCount)
            else { return .absent }
            let start = SegmentFormat.groupHeaderBytes
            let body = UnsafeRawBufferPointer(rebasing: bytes[start..<start + header.bodyLength])
            return CRC32C.checksum(body) == header.bodyChecksum ? .valid(header, bytes) : .absent
        } catch {
            return .unreadable(error)
        }
    }

    private func groupHeader(at position: UInt64, _ identity: SegmentIdentity) throws(IOError) -> GroupHeader? {
        guard let bytes = try bytes(at: position, count: SegmentFormat.groupHeaderBytes),
            let header = GroupHeader(bytes, storeID), header.identity == identity, header.position == position
        else { return nil }
        return header
    }

    /// Whether a group was begun anywhere behind a position. Since a group is written when the one before it is durable
    /// everywhere, the one at the position was, too.
    func hasGroup(behind position: UInt64, _ identity: SegmentIdentity) throws(IOError) -> Bool {
        var next = position + UInt64(SegmentFormat.unit)
        while next + UInt64(SegmentFormat.groupHeaderBytes) <= slot.size {
            if try groupHeader(at: next, identity) != nil { return true }
            next += UInt64(SegmentFormat.unit)
        }
        return false
    }
}

/// Reads the groups of one segment in order, from whichever replica has them. Not thread-safe.
final class MergedReader {
    let segment: Segment
    private let readers: [SegmentReader]
    private var current = 0
    /// Replicas that lack a group that another has.
    private(set) var incomplete: Set<Int> = []

    init(_ segment: Segment) {
        self.segment = segment
        readers = segment.readableReplicas.map { SegmentReader($0, segment.storeID) }
    }

    /// What is at a position; nil: no replica has a group there.
    ///
    /// - Parameter first: the number that it must begin with.
    func group(at position: UInt64, first: LogNumber) -> (header: GroupHeader, bytes: UnsafeRawBufferPointer)? {
        for step in readers.indices {
            let index = (current + step) % readers.count
            guard case .valid(let header, let bytes) = readers[index].group(at: position, segment.identity),
                header.firstNumber == first
            else { continue }
            for skipped in 0..<step { incomplete.insert((current + skipped) % readers.count) }
            current = index
            return (header, bytes)
        }
        return nil
    }

    /// Marks those replicas as incomplete that lack something of what was read: known of those that were asked, and
    /// found out of the others by their last group, since a group is only written behind those that are durable.
    func judgeReplicas(lastGroup: GroupHeader?) {
        for index in readers.indices {
            var isComplete = !incomplete.contains(index)
            if isComplete, index != current, let lastGroup {
                if case .valid(let header, _) = readers[index].group(at: lastGroup.position, segment.identity) {
                    isComplete = header == lastGroup
                } else {
                    isComplete = false
                }
            }
            segment.setComplete(readers[index].slot, isComplete)
        }
    }
}
