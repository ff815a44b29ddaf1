import FaultInjection
import Model
import Testing

@testable import Namespace

@Suite("Metadata records")
struct MetadataRecordTests {
    @Test("a device's number is in its inode, and other inodes are as they were before there were devices")
    func devices() throws {
        func encoded(_ type: FileType, _ device: DeviceNumber?) throws -> [UInt8] {
            var inode = Fixture.inode(FileID(rawValue: 5), type)
            inode.device = device
            let record = MetadataRecord(number: LogNumber(rawValue: 1), mutations: [.putInode(inode)])
            #expect(try MetadataRecord(decoding: record.encoded()) == record)
            return record.encoded()
        }
        let number = DeviceNumber(major: 0x0102_0304, minor: 0xfffe_fdfc)
        let fifo = try encoded(.fifo, nil)
        for type in [FileType.blockDevice, .characterDevice] {
            #expect(try encoded(type, number).count == fifo.count + 8)
        }
        // Frame (17), tag and id (9), the body's fixed part, 4 times "not there", checksum (4).
        #expect(fifo.count == 17 + 9 + (8 + 1 + 16 + 16 + 36 + 16 + 8 + 3) + 4)
    }

    @Test("are read as they were written", arguments: 0..<200 as Range<UInt64>)
    func roundTrip(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let record = try Self.record(&random)
        #expect(try MetadataRecord(decoding: record.encoded()) == record)
    }

    @Test("with any byte changed, cut off or added are refused", arguments: 0..<20 as Range<UInt64>)
    func damage(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let bytes = try Self.record(&random).encoded()
        for index in bytes.indices {
            var damaged = bytes
            damaged[index] ^= UInt8.random(in: 1...255, using: &random)
            #expect(throws: CorruptMetadata.self) { try MetadataRecord(decoding: damaged) }
            #expect(throws: CorruptMetadata.self) { try MetadataRecord(decoding: Array(bytes.prefix(index))) }
        }
        #expect(throws: CorruptMetadata.wrongLength) { try MetadataRecord(decoding: bytes + [0]) }
    }

    @Test("of random bytes under a right checksum are refused or read, and never crash")
    func randomBodies() throws {
        var random = SeededGenerator(seed: 4)
        var refused = 0
        for _ in 0..<5000 {
            var encoder = ByteEncoder()
            let body = (0..<Int.random(in: 0...80, using: &random)).map { _ in UInt8.random(in: 0...12, using: &random)
            }
            encoder.put(UInt32(21 + body.count))
            encoder.put(UInt8(1))
            encoder.put(UInt64(3))
            encoder.put(UInt32.random(in: 0...2, using: &random))
            encoder.put(raw: body)
            encoder.put(crc32c(encoder.bytes))
            do { _ = try MetadataRecord(decoding: encoder.bytes) } catch { refused += 1 }
        }
        #expect(refused > 3000)
    }

    @Test("of a later format are recognised as such")
    func laterFormat() throws {
        var encoder = ByteEncoder()
        encoder.put(UInt32(21))
        encoder.put(UInt8(2))
        encoder.put(UInt64(3))
        encoder.put(UInt32(0))
        encoder.put(crc32c(encoder.bytes))
        #expect(throws: CorruptMetadata.unsupportedVersion(2)) { try MetadataRecord(decoding: encoder.bytes) }
    }

    @Test("applied twice, or again from an earlier one, lead to the same state", arguments: 0..<10 as Range<UInt64>)
    func idempotent(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let records = try (1...30).map { _ in try Self.record(&random) }
        let once = try Self.state(after: records)
        #expect(!once.isEmpty)
        #expect(try Self.state(after: records.flatMap { [$0, $0] }) == once)
        let middle = Int.random(in: 0..<30, using: &random)
        #expect(try Self.state(after: records + records[middle...]) == once)
    }

    @Test("come to the same when only the last state of each row is applied", arguments: 0..<200 as Range<UInt64>)
    func netted(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let records = try (1...UInt64(40)).map { number in
            MetadataRecord(number: LogNumber(rawValue: number), mutations: try Self.record(&random).mutations)
        }
        var netted: [MetadataRecord] = []
        var rest = records[...]
        while !rest.isEmpty {
            let batch = rest.prefix(.random(in: 1...20, using: &random))
            rest = rest.dropFirst(batch.count)
            netted.append(MetadataRecord(number: LogNumber(rawValue: 1), mutations: Overlay(batch).mutations))
        }
        #expect(try Self.state(after: netted) == Self.state(after: records))
    }

    /// All rows, as text, of a mirror that applied the records.
    private static func state(after records: [MetadataRecord]) throws -> [String] {
        let disk = SimulatedFileSystem(directories: ["/v0"])
        let mirror = try Mirror(Fixture.mirror(0), disk, create: true)
        defer { mirror.close() }
        try mirror.apply(records)
        try mirror.commit(upTo: LogNumber(rawValue: 1))
        try mirror.verify()
        return try mirror.dump()
    }

    /// A record over few ids, so that records meet each other.
    private static func record(_ random: inout SeededGenerator) throws -> MetadataRecord {
        MetadataRecord(
            number: LogNumber(rawValue: .random(in: 0 ... .max, using: &random)),
            mutations: try (0..<Int.random(in: 0...6, using: &random)).map { _ in try mutation(&random) })
    }

    private static func mutation(_ random: inout SeededGenerator) throws -> Mutation {
        let file = FileID(rawValue: .random(in: 1...4, using: &random))
        let offset = UInt64.random(in: 0...3, using: &random) * 100
        let group = BlockGroupID(ordinal: .random(in: 0...2, using: &random))
        let number = UInt64.random(in: 0 ... .max, using: &random)
        let isSet = Bool.random(using: &random)
        // Any bytes but NUL and "/".
        let count = Int.random(in: 1...2, using: &random)
        let name = try FileName((0..<count).map { _ in UInt8.random(in: 0xfd...0xff, using: &random) })
        switch Int.random(in: 0..<10, using: &random) {
        case 0:
            var inode = Fixture.inode(file, isSet ? .directory : .symbolicLink, size: number >> 3)
            inode.linkCount = UInt32.random(in: 1...UInt32(Int32.max), using: &random)
            inode.parent = isSet ? file : nil
            inode.exclusiveVerifier = isSet ? nil : number
            inode.linkTarget = isSet ? nil : try LinkTarget(name.bytes)
            inode.writeSequence = WriteSequence(rawValue: number >> 1)
            return .putInode(inode)
        case 1: return .removeInode(file)
        case 2:
            return .putEntry(
                directory: file, name: name, cookie: max(3, number >> 1), child: FileID(rawValue: file.rawValue + 1))
        case 3: return .removeEntry(directory: file, name: name)
        case 4:
            let range = ByteRange(offset: offset, count: .random(in: 1...100, using: &random))
            return .putExtent(
                file: file,
                Extent(
                    range: range, group: group, groupOffset: number >> 34,
                    sequence: WriteSequence(rawValue: number >> 1)))
        case 5: return .removeExtent(file: file, offset: offset)
        case 9: return .removeExtents(file: file, from: offset)
        case 6:
            let policy = try ErasureCodingPolicy(isSet ? "RS-3-2-1024k" : "XOR-2-1-4k")
            let volumes = (0..<policy.totalUnits).map { index in
                index == 1 ? nil : VolumeID(rawValue: UniqueID(high: number, low: UInt64(index)))
            }
            return .putGroup(
                BlockGroup(
                    id: group, generationStamp: .first, policy: policy, length: number >> 36, isSealed: isSet,
                    locations: volumes, liveBytes: number >> 40))
        case 7: return .removeGroup(group)
        default: return .putState(StateKey(rawValue: .random(in: 1000...1003, using: &random)), number)
        }
    }
}

/// CRC32C bit by bit, to check the one in use (RFC 3720 appendix B.4).
func crc32c(_ bytes: [UInt8]) -> UInt32 {
    var crc: UInt32 = ~0
    for byte in bytes {
        crc ^= UInt32(byte)
        for _ in 0..<8 { crc = (crc & 1 == 0 ? 0 : 0x82f6_3b78) ^ (crc >> 1) }
    }
    return ~crc
}

extension Mirror {
    /// Every row but the log number, as text.
    func dump() throws -> [String] {
        let columns = [
            ("state WHERE key != 5", "key, hex(body), crc"), ("inode", "id, hex(body), crc"),
            ("entry", "directory, hex(name), cookie, hex(body), crc"), ("extent", "file, start, hex(body), crc"),
            ("block_group", "id, hex(body), crc"),
        ]
        var rows: [String] = []
        for (table, columns) in columns {
            let list = columns.split(separator: ", ").joined(separator: " || ',' || ")
            let statement = try connection.prepare("SELECT \(list) FROM \(table)")
            defer { statement.reset() }
            while try statement.step() { rows.append("\(table): \(statement.text(0) ?? "")") }
        }
        return rows
    }
}
