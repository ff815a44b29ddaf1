// The bytes of a segment.

import FaultInjection
import Model
import Platform
import Testing

@testable import Journal

@Suite("Journal: format")
struct FormatTests {
    private static let identity = SegmentIdentity(epoch: Epoch(rawValue: 5), number: 7)

    /// A slot with one group of two entries at 4096.
    private func slot(_ random: inout SeededGenerator) throws -> (
        slot: Slot, disk: SimulatedFileSystem, group: GroupHeader
    ) {
        let disk = SimulatedFileSystem(directories: ["/v"])
        let volume = JournalVolume(id: VolumeID(rawValue: UniqueID(high: 1, low: 1)), directory: "/v/journal")
        let directory = JournalDirectory(volume, disk)
        let slot = try directory.makeSlot(bytes: 16 << 10, leaving: 0)
        var buffer = GroupBuffer(TestStore.storeID)
        let entries = (1...2).map { number in
            JournalWriter.Item.entry(
                TestEntry(
                    record: random.bytes(30),
                    parts: [TestEntry.Part(file: 9, offset: 3, bytes: random.bytes(50))]
                ).entry(UInt64(number))
            ) { _ in }
        }
        let count = buffer.fill(entries, first: LogNumber(rawValue: 1), room: 1 << 14, segmentBytes: 1 << 14)
        #expect(count == 2)
        buffer.put(SegmentHeader(identity: Self.identity, firstNumber: LogNumber(rawValue: 1), oldestLive: 3))
        let group = buffer.address(to: Self.identity, position: 4096, oldestLive: 3)
        let range = GroupBuffer.range(groupBytes: group.byteCount, withSegmentHeader: true)
        try slot.file.write(UnsafeRawBufferPointer(rebasing: buffer.memory.bytes[range]), at: 0)
        return (slot, disk, group)
    }

    private func isValid(_ found: FoundGroup) -> Bool {
        if case .valid = found { return true }
        return false
    }

    @Test("a group is one only in its store, epoch, segment and place")
    func places() throws {
        var random = SeededGenerator(seed: 3)
        let (slot, _, group) = try slot(&random)
        let reader = SegmentReader(slot, TestStore.storeID)
        guard case .valid(let found, _) = reader.group(at: 4096, Self.identity) else {
            Issue.record("not found")
            return
        }
        #expect(found == group)
        for identity in [
            SegmentIdentity(epoch: Epoch(rawValue: 4), number: 7),
            SegmentIdentity(epoch: Epoch(rawValue: 5), number: 8),
        ] {
            #expect(!isValid(reader.group(at: 4096, identity)))
        }
        let other = SegmentReader(slot, StoreID(rawValue: UniqueID(high: 1, low: 3)))
        #expect(!isValid(other.group(at: 4096, Self.identity)))
        #expect(try other.header() == nil)
        // Elsewhere in the same file.
        if let bytes = try reader.bytes(at: 4096, count: group.byteCount) {
            let copy = [UInt8](bytes)
            try copy.withUnsafeBytes { try slot.file.write($0, at: 8192) }
        }
        #expect(!isValid(SegmentReader(slot, TestStore.storeID).group(at: 8192, Self.identity)))
    }

    @Test("no bit of a group can change unnoticed, but in what fills its last sector")
    func flips() throws {
        var random = SeededGenerator(seed: 4)
        let (slot, disk, group) = try slot(&random)
        let path = "/v/journal/1.new"
        #expect(disk.content(of: path) == nil, "it has its final name")
        for offset in 0..<SegmentFormat.groupHeaderBytes + group.bodyLength {
            // The rest of the header is zeros.
            if (84..<96).contains(offset) { continue }
            for bit in 0..<8 {
                disk.flipBits(slot.path, at: 4096 + offset, mask: 1 << bit)
                #expect(!isValid(SegmentReader(slot, TestStore.storeID).group(at: 4096, Self.identity)), "at \(offset)")
                disk.flipBits(slot.path, at: 4096 + offset, mask: 1 << bit)
            }
        }
        #expect(isValid(SegmentReader(slot, TestStore.storeID).group(at: 4096, Self.identity)))
        // A header that is damaged is found out from the first group.
        disk.overwrite(slot.path, at: 0, with: random.bytes(4096))
        #expect(try SegmentReader(slot, TestStore.storeID).header()?.identity == Self.identity)
    }

    @Test("entries that make no sense are none", arguments: 0..<200)
    func entries(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let entry = TestEntry.random(&random, maxBytes: 100).entry(77)
        let memory = AlignedBuffer(count: EntryCoding.byteCount(entry))
        var writer = RawWriter(memory.bytes)
        _ = EntryCoding.encode(entry, to: &writer)
        #expect(writer.position == memory.bytes.count)
        var reader = RawReader(UnsafeRawBufferPointer(memory.bytes))
        #expect(EntryCoding.decode(&reader, bodyStart: 0)?.payloads.count == entry.payloads.count)
        #expect(reader.isAtEnd)
        for count in 0..<memory.bytes.count {
            var cut = RawReader(UnsafeRawBufferPointer(rebasing: memory.bytes[..<count]))
            #expect(EntryCoding.decode(&cut, bodyStart: 0) == nil)
        }
        for _ in 0..<50 {
            memory.bytes[Int.random(in: 0..<memory.bytes.count, using: &random)] = [0, 0xff, 0x7f].randomElement(
                using: &random)!
            var damaged = RawReader(UnsafeRawBufferPointer(memory.bytes))
            _ = EntryCoding.decode(&damaged, bodyStart: 0)
        }
        let noise = random.bytes(200)
        noise.withUnsafeBytes {
            var reader = RawReader($0)
            _ = EntryCoding.decode(&reader, bodyStart: 0)
        }
    }
}
