// Entries in the body of a group, one behind the other; all numbers big-endian:
//
//     number           8
//     record length    4
//     payload count    4
//     record
//     per payload      file 8, offset 8, sequence 8, length 8, CRC32C of the bytes 4
//     the payloads' bytes
//
// The checksum of a payload is for who reads it alone, later.

internal import ErasureCoding
internal import Model
internal import Platform

/// Where a payload is, counted from the beginning of its group.
struct PayloadPlace: Hashable, Sendable {
    let file: FileID
    let offset: UInt64
    let sequence: WriteSequence
    let position: Int
    let count: Int
    let checksum: UInt32
}

enum EntryCoding {
    private static let headerBytes = 16
    private static let descriptorBytes = 36

    /// What an entry takes in a body.
    static func byteCount(_ entry: JournalEntry) -> Int {
        entry.payloads.reduce(headerBytes + entry.record.count) { $0 + descriptorBytes + $1.bytes.count }
    }

    /// Writes an entry; returns where its payloads are, from the beginning of the writer's memory.
    static func encode(_ entry: JournalEntry, to writer: inout RawWriter) -> [PayloadPlace] {
        writer.put(entry.number.rawValue)
        writer.put(UInt32(entry.record.count))
        writer.put(UInt32(entry.payloads.count))
        writer.put(entry.record)
        guard !entry.payloads.isEmpty else { return [] }
        let descriptors = writer.take(entry.payloads.count * descriptorBytes)
        var descriptor = RawWriter(descriptors)
        return entry.payloads.map { payload in
            let position = writer.position
            let bytes = writer.take(payload.bytes.count)
            payload.bytes.copy(to: bytes)
            let checksum = CRC32C.checksum(UnsafeRawBufferPointer(bytes))
            descriptor.put(payload.file.rawValue)
            descriptor.put(payload.offset)
            descriptor.put(payload.sequence.rawValue)
            descriptor.put(UInt64(payload.bytes.count))
            descriptor.put(checksum)
            return PayloadPlace(
                file: payload.file, offset: payload.offset, sequence: payload.sequence, position: position,
                count: payload.bytes.count, checksum: checksum)
        }
    }

    /// An entry as it stands in a group.
    struct Decoded {
        let number: LogNumber
        let record: UnsafeRawBufferPointer
        let payloads: [PayloadPlace]
    }

    /// The next entry; nil: what is there is none.
    ///
    /// - Parameter bodyStart: what the reader's position 0 is in the group.
    static func decode(_ reader: inout RawReader, bodyStart: Int) -> Decoded? {
        guard let number: UInt64 = reader.number(), let recordLength: UInt32 = reader.number(),
            let payloadCount: UInt32 = reader.number(), let record = reader.take(Int(recordLength)),
            let descriptors = reader.take(Int(payloadCount) * descriptorBytes)
        else { return nil }
        var payloads: [PayloadPlace] = []
        var descriptor = RawReader(descriptors)
        while !descriptor.isAtEnd {
            guard let file: UInt64 = descriptor.number(), let offset: UInt64 = descriptor.number(),
                let sequence: UInt64 = descriptor.number(), let length: UInt64 = descriptor.number(),
                let checksum: UInt32 = descriptor.number(),
                length > 0, length <= UInt64(Int.max), offset <= UInt64.max - length
            else { return nil }
            let position = bodyStart + reader.position
            guard reader.take(Int(length)) != nil else { return nil }
            payloads.append(
                PayloadPlace(
                    file: FileID(rawValue: file), offset: offset, sequence: WriteSequence(rawValue: sequence),
                    position: position, count: Int(length), checksum: checksum))
        }
        return Decoded(number: LogNumber(rawValue: number), record: record, payloads: payloads)
    }
}
