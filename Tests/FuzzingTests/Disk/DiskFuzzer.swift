// What is read from disks, decoded from any bytes: refused, or read such that writing it again and reading that gives
// the same. The first byte chooses what; where a checksum would stop every change, it is made right first.

import ErasureCoding
import Model

@testable import BlockStore
@testable import Namespace

enum DiskFuzzer {
    static func run(_ input: [UInt8]) {
        var choices = FuzzInput(input)
        let choice = choices.byte()
        let bytes = Array(choices.rest)
        switch choice % 8 {
        case 0: superblock(bytes)
        case 1: superblock(framed(superblockBody: bytes))
        case 2: record(bytes)
        case 3: record(framed(mutations: bytes))
        case 4: blockName(String(decoding: bytes, as: UTF8.self))
        case 5: policy(String(decoding: bytes, as: UTF8.self))
        case 6: rows(bytes)
        default: checksums(bytes)
        }
    }

    private static func superblock(_ bytes: [UInt8]) {
        guard let superblock = try? Superblock(encoded: bytes, path: "/v/superblock") else { return }
        let again = superblock.encoded()
        let read = try? Superblock(encoded: again, path: "/v/superblock")
        hold(read == superblock, "a superblock changed when it was written again: \(superblock)")
        hold(read?.encoded() == again, "a superblock has two encodings")
    }

    private static func framed(superblockBody body: [UInt8]) -> [UInt8] {
        var bytes = Array("Sluice volume superblock\n".utf8) + [0, 0, 0, 1]
        withUnsafeBytes(of: UInt32(body.count).bigEndian) { bytes += $0 }
        bytes += body
        withUnsafeBytes(of: CRC32C.checksum(bytes).bigEndian) { bytes += $0 }
        return bytes
    }

    private static func record(_ bytes: [UInt8]) {
        guard let record = try? MetadataRecord(decoding: bytes) else { return }
        let again = record.encoded()
        hold((try? MetadataRecord(decoding: again)) == record, "a record changed when it was written again: \(record)")
    }

    /// Number 3, and as many mutations as the first byte says.
    private static func framed(mutations: [UInt8]) -> [UInt8] {
        var encoder = ByteEncoder()
        encoder.put(UInt32(0))
        encoder.put(UInt8(1))
        encoder.put(UInt64(3))
        encoder.put(UInt32(mutations.first ?? 0))
        encoder.put(raw: Array(mutations.dropFirst()))
        encoder.replace(UInt32(encoder.bytes.count + 4), at: 0)
        encoder.put(CRC32C.checksum(encoder.bytes))
        return encoder.bytes
    }

    private static func blockName(_ name: String) {
        switch BlockFiles.parse(name) {
        case nil: break
        case .data(let block): hold(BlockFiles.dataName(block) == name, "\(name) is also \(block)")
        case .meta(let block, let stamp):
            hold(BlockFiles.metaName(block, stamp) == name, "\(name) is also \(block), \(stamp)")
        }
    }

    private static func policy(_ name: String) {
        guard let policy = try? ErasureCodingPolicy(name) else { return }
        hold((try? ErasureCodingPolicy(policy.description)) == policy, "\(policy) is not what its name says")
        hold(policy.dataUnits > policy.parityUnits && policy.totalUnits <= 16, "\(policy) is not safe")
    }

    /// The bodies of rows, whose keys are elsewhere.
    private static func rows(_ bytes: [UInt8]) {
        var choices = FuzzInput(bytes)
        let choice = choices.byte()
        let key = UInt64(choices.number32()) << 32 | UInt64(choices.number32())
        func roundTrip<Row: Equatable>(
            _ decode: (inout ByteDecoder) throws(CorruptMetadata) -> Row, _ encode: (Row, inout ByteEncoder) -> Void
        ) {
            var decoder = ByteDecoder(Array(choices.rest))
            guard let row = try? decode(&decoder) else { return }
            var encoder = ByteEncoder()
            encode(row, &encoder)
            decoder = ByteDecoder(encoder.bytes)
            hold((try? decode(&decoder)) == row, "a row changed when it was written again: \(row)")
        }
        switch choice % 3 {
        case 0:
            roundTrip(
                { decoder throws(CorruptMetadata) in try Inode(id: FileID(rawValue: key), body: &decoder) },
                { $0.encodeBody(to: &$1) })
        case 1:
            roundTrip(
                { decoder throws(CorruptMetadata) in try Extent(offset: key, body: &decoder) },
                { $0.encodeBody(to: &$1) })
        default:
            let id = BlockGroupID(rawValue: Int64(bitPattern: key))
            roundTrip(
                { decoder throws(CorruptMetadata) in try BlockGroup(id: id, body: &decoder) },
                { $0.encodeBody(to: &$1) })
        }
    }

    /// The data of a block and, after a 16-bit count, its checksum file: damage is found where it is.
    private static func checksums(_ bytes: [UInt8]) {
        var choices = FuzzInput(bytes)
        let data = choices.bytes(atMost: choices.number16())
        let file = Array(choices.rest)
        let right = data.withUnsafeBytes { ChecksumFile.checksums(of: $0) }
        guard file.count >= right.count else { return }
        let mismatch = data.withUnsafeBytes { data in
            file.withUnsafeBytes { ChecksumFile.firstMismatch(data, checksums: $0) }
        }
        let wrong = (0..<ChecksumFile.chunks(data.count)).first {
            file[$0 * 4..<$0 * 4 + 4] != right[$0 * 4..<$0 * 4 + 4]
        }
        hold(
            mismatch == wrong.map { $0 * Limits.bytesPerChecksum },
            "damage at \(wrong ?? -1) is seen at \(mismatch ?? -1)")
    }
}
