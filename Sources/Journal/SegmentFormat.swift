// What a segment's file looks like; all numbers big-endian.
//
// The first 4096 bytes are the segment's header, then come groups, each from a multiple of 4096 on, so that a sector
// that holds something that was answered is never written again:
//
//     group header    96 bytes, `GroupHeader`
//     entries         `EntryCoding.swift`
//     zeros           up to the next multiple of 4096
//
// The header of a group has a checksum of its own, which covers store, epoch, segment and position, and the checksum of
// the entries: so what an earlier life of the file left can't be taken for a group of this one, and the same entries can be
// written elsewhere without being looked at again.
//
// The first group repeats all that the segment's header says. So a header that is damaged loses nothing.

internal import ErasureCoding
internal import Model

/// Names a segment for ever: an epoch uses a number once.
struct SegmentIdentity: Hashable, Sendable, CustomStringConvertible {
    let epoch: Epoch
    let number: UInt64

    var description: String { "segment \(number) of epoch \(epoch)" }
}

enum SegmentFormat {
    /// Of all that is written: the largest piece that a disk writes at once.
    static let unit = 4096
    static let groupHeaderBytes = 96
    static let version: UInt32 = 1

    static func aligned(_ count: Int) -> Int { (count + unit - 1) & ~(unit - 1) }

    /// What a group with such a body takes.
    static func groupBytes(bodyLength: Int) -> Int { aligned(groupHeaderBytes + bodyLength) }
}

/// The beginning of a segment's file.
struct SegmentHeader: Hashable, Sendable {
    var identity: SegmentIdentity
    /// Of the first entry that is, or would be, in it. The segment before is complete up to it.
    var firstNumber: LogNumber
    /// The number of the oldest segment that was needed when this one was begun.
    var oldestLive: UInt64

    private static let magic = Array("Sluice journal segment\n".utf8)
    private static let length = magic.count + 4 + 16 + 4 * 8

    /// Fills the first `SegmentFormat.unit` bytes.
    func encode(_ storeID: StoreID, to bytes: UnsafeMutableRawBufferPointer) {
        var writer = RawWriter(bytes)
        writer.put(Self.magic)
        writer.put(SegmentFormat.version)
        writer.put(storeID.rawValue.high)
        writer.put(storeID.rawValue.low)
        writer.put(identity.epoch.rawValue)
        writer.put(identity.number)
        writer.put(firstNumber.rawValue)
        writer.put(oldestLive)
        writer.put(CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[..<Self.length])))
        writer.putZeros(SegmentFormat.unit - writer.position)
    }

    /// nil: these bytes are no header of this store.
    init?(_ bytes: UnsafeRawBufferPointer, _ storeID: StoreID) {
        guard bytes.count >= Self.length + 4, bytes.starts(with: Self.magic) else { return nil }
        var reader = RawReader(bytes, from: Self.magic.count)
        guard let version: UInt32 = reader.number(), version == SegmentFormat.version,
            let high: UInt64 = reader.number(), let low: UInt64 = reader.number(),
            StoreID(rawValue: UniqueID(high: high, low: low)) == storeID,
            let epoch: UInt64 = reader.number(), let number: UInt64 = reader.number(),
            let firstNumber: UInt64 = reader.number(), let oldestLive: UInt64 = reader.number(),
            let checksum: UInt32 = reader.number(),
            checksum == CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[..<Self.length]))
        else { return nil }
        self.init(
            identity: SegmentIdentity(epoch: Epoch(rawValue: epoch), number: number),
            firstNumber: LogNumber(rawValue: firstNumber), oldestLive: oldestLive)
    }

    init(identity: SegmentIdentity, firstNumber: LogNumber, oldestLive: UInt64) {
        self.identity = identity
        self.firstNumber = firstNumber
        self.oldestLive = oldestLive
    }
}

/// The beginning of a group: entries that were written and synced together.
struct GroupHeader: Hashable, Sendable {
    var identity: SegmentIdentity
    /// Where it is in the segment.
    var position: UInt64
    var bodyLength: Int
    /// Of the first entry; of the one that comes next if there is none in it.
    var firstNumber: LogNumber
    var entryCount: Int
    /// Segments before this one are not needed any more.
    var oldestLive: UInt64
    var bodyChecksum: UInt32

    private static let magic: UInt64 = 0x534C_4A47_524F_5550  // "SLJGROUP"
    /// What the header's checksum covers.
    private static let length = 8 + 16 + 5 * 8 + 4 + 8 + 4

    var byteCount: Int { SegmentFormat.groupBytes(bodyLength: bodyLength) }
    /// Of the entry behind it.
    var nextNumber: LogNumber { LogNumber(rawValue: firstNumber.rawValue + UInt64(entryCount)) }

    /// Fills the first `SegmentFormat.groupHeaderBytes` bytes.
    func encode(_ storeID: StoreID, to bytes: UnsafeMutableRawBufferPointer) {
        var writer = RawWriter(bytes)
        writer.put(Self.magic)
        writer.put(storeID.rawValue.high)
        writer.put(storeID.rawValue.low)
        writer.put(identity.epoch.rawValue)
        writer.put(identity.number)
        writer.put(position)
        writer.put(UInt64(bodyLength))
        writer.put(firstNumber.rawValue)
        writer.put(UInt32(entryCount))
        writer.put(oldestLive)
        writer.put(bodyChecksum)
        writer.put(CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[..<Self.length])))
        writer.putZeros(SegmentFormat.groupHeaderBytes - writer.position)
    }

    /// nil: these bytes are no header of a group of this store.
    init?(_ bytes: UnsafeRawBufferPointer, _ storeID: StoreID) {
        var reader = RawReader(bytes)
        guard bytes.count >= SegmentFormat.groupHeaderBytes,
            let magic: UInt64 = reader.number(), magic == Self.magic,
            let high: UInt64 = reader.number(), let low: UInt64 = reader.number(),
            StoreID(rawValue: UniqueID(high: high, low: low)) == storeID,
            let epoch: UInt64 = reader.number(), let number: UInt64 = reader.number(),
            let position: UInt64 = reader.number(), let bodyLength: UInt64 = reader.number(),
            let firstNumber: UInt64 = reader.number(), let entryCount: UInt32 = reader.number(),
            let oldestLive: UInt64 = reader.number(), let bodyChecksum: UInt32 = reader.number(),
            let checksum: UInt32 = reader.number(),
            checksum == CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[..<Self.length])),
            // Nothing below may overflow, whoever wrote this.
            bodyLength <= 1 << 40, firstNumber <= UInt64.max - UInt64(entryCount), position <= 1 << 60
        else { return nil }
        self.init(
            identity: SegmentIdentity(epoch: Epoch(rawValue: epoch), number: number), position: position,
            bodyLength: Int(bodyLength), firstNumber: LogNumber(rawValue: firstNumber), entryCount: Int(entryCount),
            oldestLive: oldestLive, bodyChecksum: bodyChecksum)
    }

    init(
        identity: SegmentIdentity, position: UInt64, bodyLength: Int, firstNumber: LogNumber, entryCount: Int,
        oldestLive: UInt64, bodyChecksum: UInt32
    ) {
        self.identity = identity
        self.position = position
        self.bodyLength = bodyLength
        self.firstNumber = firstNumber
        self.entryCount = entryCount
        self.oldestLive = oldestLive
        self.bodyChecksum = bodyChecksum
    }
}
