// The memory that a group is written from: a unit for the header of a segment, then the group. Payloads are copied here,
// once; all replicas write from it.

internal import ErasureCoding
internal import Model
internal import Platform

struct GroupBuffer {
    private let storeID: StoreID
    /// What writes hold on to.
    private(set) var memory: AlignedBuffer
    private(set) var bodyLength = 0
    private(set) var entryCount = 0
    private(set) var firstNumber = LogNumber(rawValue: 0)
    private var bodyChecksum: UInt32 = 0
    /// Of each entry, counted from the beginning of the group.
    private(set) var places: [[PayloadPlace]] = []

    /// A group isn't larger, unless a single entry is: who waits for the first entry should not wait for the hundredth.
    private static let maxGroupBytes = 8 << 20
    private static let start = SegmentFormat.unit

    init(_ storeID: StoreID) {
        self.storeID = storeID
        memory = AlignedBuffer(count: 1 << 16)
    }

    /// Of the entry behind the group.
    var nextNumber: LogNumber { LogNumber(rawValue: firstNumber.rawValue + UInt64(entryCount)) }
    var groupBytes: Int { SegmentFormat.groupBytes(bodyLength: bodyLength) }

    /// Takes as many items as fit, at least the first entry.
    ///
    /// - Parameters:
    ///   - room: that there is in the current segment.
    ///   - segmentBytes: for groups in a new one; a larger entry gets a segment to itself.
    /// - Returns: how many items were taken.
    mutating func fill(
        _ items: [JournalWriter.Item], first: LogNumber, room: Int, segmentBytes: Int
    ) -> Int {
        var count = 0
        var length = 0
        var most = 0
        for item in items {
            if case .entry(let entry, _) = item {
                let next = length + EntryCoding.byteCount(entry)
                let bytes = SegmentFormat.groupBytes(bodyLength: next)
                if length == 0 {
                    most = max(bytes, min(Self.maxGroupBytes, bytes <= room ? room : segmentBytes))
                } else if bytes > most {
                    break
                }
                length = next
            }
            count += 1
        }
        prepare(bodyLength: length)
        firstNumber = first
        var writer = RawWriter(memory.bytes, from: Self.start + SegmentFormat.groupHeaderBytes)
        for case .entry(let entry, _) in items[..<count] {
            precondition(entry.number.rawValue == first.rawValue + UInt64(entryCount))
            places.append(
                EntryCoding.encode(entry, to: &writer).map { $0.moved(by: -Self.start) })
            entryCount += 1
        }
        writer.putZeros(groupBytes - SegmentFormat.groupHeaderBytes - bodyLength)
        let body = Self.start + SegmentFormat.groupHeaderBytes
        bodyChecksum = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: memory.bytes[body..<body + length]))
        return count
    }

    private mutating func prepare(bodyLength: Int) {
        self.bodyLength = bodyLength
        entryCount = 0
        places = []
        let needed = Self.start + groupBytes
        let usual = Self.start + Self.maxGroupBytes
        // Doubled, so that it soon is what is usually needed; what a large entry took is not kept.
        if memory.bytes.count < needed {
            memory = AlignedBuffer(count: max(needed, min(usual, 2 * memory.bytes.count)))
        } else if memory.bytes.count > usual, needed <= usual {
            memory = AlignedBuffer(count: usual)
        }
    }

    /// A group without entries.
    mutating func fillEmpty(first: LogNumber) {
        _ = fill([], first: first, room: 0, segmentBytes: 0)
    }

    /// Writes the group's header for a place. Nobody may be writing from the memory.
    mutating func address(to identity: SegmentIdentity, position: UInt64, oldestLive: UInt64) -> GroupHeader {
        let header = GroupHeader(
            identity: identity, position: position, bodyLength: bodyLength, firstNumber: firstNumber,
            entryCount: entryCount, oldestLive: oldestLive, bodyChecksum: bodyChecksum)
        header.encode(
            storeID,
            to: UnsafeMutableRawBufferPointer(
                rebasing: memory.bytes[Self.start..<Self.start + SegmentFormat.groupHeaderBytes]))
        return header
    }

    /// Puts a segment's header before the group.
    mutating func put(_ header: SegmentHeader) {
        header.encode(storeID, to: UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<Self.start]))
    }

    /// A write that was given up may still be reading the memory: goes on with a copy.
    mutating func leaveMemory() {
        let copy = AlignedBuffer(count: memory.bytes.count)
        let used = Self.start + groupBytes
        UnsafeMutableRawBufferPointer(rebasing: copy.bytes[..<used])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: memory.bytes[..<used]))
        memory = copy
    }

    /// What is written, with the segment's header or without.
    static func range(groupBytes: Int, withSegmentHeader: Bool) -> Range<Int> {
        (withSegmentHeader ? 0 : start)..<start + groupBytes
    }
}

extension PayloadPlace {
    fileprivate func moved(by distance: Int) -> PayloadPlace {
        PayloadPlace(
            file: file, offset: offset, sequence: sequence, position: position + distance, count: count,
            checksum: checksum)
    }
}
