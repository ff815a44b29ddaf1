// What of the journal's payload counts at a start: against a file of bytes to which the same log is applied.

import FaultInjection
import Journal
import Model
import Namespace
import Platform
import Testing

@testable import EmbeddedFileService

@Suite("What a start finds in the journal")
struct RecoveredPayloadsTests {
    private static let size = 64

    /// Bytes of the journal that a test knows.
    private final class Claim: JournaledBytes, @unchecked Sendable {
        let bytes: [UInt8]

        init(_ file: FileID, _ offset: UInt64, _ bytes: [UInt8], _ sequence: WriteSequence) {
            self.bytes = bytes
            super.init(file: file, offset: offset, count: bytes.count, sequence: sequence)
        }

        override func load() async throws(JournalError) -> Payload { Payload(bytes: bytes) }
    }

    /// A log of one file, and what the file is behind it.
    private struct Log {
        let file = FileID(rawValue: 5)
        var scan = RecoveredPayloads.Scan()
        var extents = ExtentMap()
        var size = 0
        /// Of each byte: its value, and whether it is in the journal only. Beyond the size nothing.
        var content = Array(repeating: (byte: UInt8(0), isJournaled: false), count: RecoveredPayloadsTests.size)
        var sequence: UInt64 = 0

        private var inode: Inode {
            var inode = Inode(
                id: file, generation: FileGeneration(rawValue: 1), type: .regular, mode: 0o644, linkCount: 1, uid: 0,
                gid: 0, accessTime: Timestamp(seconds: 1, nanoseconds: 0),
                modificationTime: Timestamp(seconds: 1, nanoseconds: 0),
                changeTime: Timestamp(seconds: 1, nanoseconds: 0))
            inode.size = UInt64(size)
            return inode
        }

        private mutating func visit(_ mutations: [Mutation], _ claims: [Claim] = []) {
            sequence += 1
            scan.visit(
                MetadataRecord(number: LogNumber(rawValue: sequence), mutations: mutations), payloads: claims)
        }

        mutating func journal(_ range: Range<Int>, _ byte: UInt8) {
            size = max(size, range.upperBound)
            for offset in range { content[offset] = (byte, true) }
            let claim = Claim(
                file, UInt64(range.lowerBound), Array(repeating: byte, count: range.count),
                WriteSequence(rawValue: sequence + 1))
            visit([.putInode(inode)], [claim])
        }

        /// Bytes are striped: those that are pending, or others.
        mutating func publish(_ range: Range<Int>, _ byte: UInt8) {
            size = max(size, range.upperBound)
            for offset in range { content[offset] = (byte, false) }
            let extent = Extent(
                range: ByteRange(UInt64(range.lowerBound), UInt64(range.upperBound)),
                group: BlockGroupID(ordinal: sequence), groupOffset: 0,
                sequence: WriteSequence(rawValue: sequence + 1))
            _ = extents.insert([extent])
            visit([.putExtent(file: file, extent), .putInode(inode)])
        }

        mutating func truncate(to newSize: Int) {
            for offset in newSize..<RecoveredPayloadsTests.size { content[offset] = (0, false) }
            size = newSize
            _ = extents.truncate(to: UInt64(newSize))
            visit([.putInode(inode)])
        }

        mutating func changeMode() { visit([.putInode(inode)]) }
    }

    @Test(
        "is what was journaled and neither published, truncated nor overwritten since",
        arguments: 0..<200 as Range<UInt64>)
    func randomLogs(seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        var log = Log()
        for step in 0..<Int.random(in: 1...40, using: &random) {
            let start = Int.random(in: 0..<Self.size - 1, using: &random)
            let range = start..<Int.random(in: start + 1...Self.size, using: &random)
            let byte = UInt8(truncatingIfNeeded: step + 1)
            switch Int.random(in: 0..<8, using: &random) {
            case 0..<4: log.journal(range, byte)
            case 4, 5: log.publish(range, byte)
            case 6: log.truncate(to: start)
            default: log.changeMode()
            }
        }
        let recovered = RecoveredPayloads(log.scan)
        var found = Array(repeating: (byte: UInt8(0), sequence: WriteSequence.zero), count: Self.size)
        for claim in recovered.take(log.file, extents: log.extents) {
            let bytes = try await claim.load().bytes
            #expect(bytes.count == claim.count)
            for (index, byte) in bytes.enumerated() where claim.sequence > found[Int(claim.offset) + index].sequence {
                found[Int(claim.offset) + index] = (byte, claim.sequence)
            }
        }
        for offset in 0..<Self.size {
            let expected = log.content[offset]
            #expect(
                (found[offset].sequence > .zero) == expected.isJournaled
                    && (!expected.isJournaled || found[offset].byte == expected.byte), "seed \(seed), byte \(offset)")
        }
        #expect(!recovered.contains(log.file))
    }

    @Test("is nothing of a file that was removed, and goes to one opener only")
    func removed() {
        let (kept, gone) = (FileID(rawValue: 5), FileID(rawValue: 6))
        var scan = RecoveredPayloads.Scan()
        scan.visit(nil, payloads: [Claim(kept, 0, [1], WriteSequence(rawValue: 1))])
        scan.visit(nil, payloads: [Claim(gone, 0, [1], WriteSequence(rawValue: 1))])
        scan.visit(MetadataRecord(number: LogNumber(rawValue: 3), mutations: [.removeInode(gone)]), payloads: [])
        let recovered = RecoveredPayloads(scan)
        #expect(recovered.count == 1 && recovered.files(limit: 10) == [kept])
        #expect(recovered.take(gone, extents: ExtentMap()).isEmpty)
        #expect(recovered.take(kept, extents: ExtentMap()).count == 1)
        #expect(recovered.take(kept, extents: ExtentMap()).isEmpty && recovered.count == 0)
    }
}
