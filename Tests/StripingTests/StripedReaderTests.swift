// Reads of groups that lost something, against the bytes that were written.

import BlockStore
import ErasureCoding
import FaultInjection
import Model
import Platform
import Striping
import Synchronization
import Testing

func randomBytes(_ count: Int, using random: inout SeededGenerator) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
}

struct StripedReaderTests {
    /// Ways to lose an internal block.
    private enum Loss: CaseIterable {
        case noSource, dataDeleted, checksumsDeleted, truncated, bitsChanged, checksumsTruncated, readError
    }

    /// Makes the whole block unreadable.
    private func lose(_ loss: Loss, _ group: BlockGroupID, _ index: Int, _ store: Store, _ disk: SimulatedFileSystem) {
        let paths = store.paths(group, index)
        guard let content = disk.content(of: paths.data) else { return }
        switch loss {
        case .noSource: break
        case .dataDeleted: try? disk.remove(paths.data)
        case .checksumsDeleted: try? disk.remove(paths.meta)
        case .truncated: disk.truncate(paths.data, to: 0)
        case .bitsChanged:
            for offset in stride(from: 0, to: content.count, by: 512) { disk.flipBits(paths.data, at: offset) }
        case .checksumsTruncated: disk.truncate(paths.meta, to: 6)
        case .readError: disk.inject(Fault(paths.data, .read, code: 5))
        }
    }

    @Test(
        "random groups without up to m blocks read the same in random ranges; without more, never a wrong byte",
        arguments: ["RS-3-2-4k", "RS-6-3-4k", "XOR-2-1-4k", "RS-10-4-4k", "RS-2-1-8k"])
    func losses(name: String) async throws {
        let policy = try ErasureCodingPolicy(name)
        let pool = CellBufferPool(cellSizeBytes: policy.cellSizeBytes, capacity: policy.totalUnits)
        let disk = SimulatedFileSystem()
        let store = try Store(volumes: policy.totalUnits, disk: disk)
        var (refused, decoded) = (0, 0)
        for seed in 0..<40 as Range<UInt64> {
            var random = SeededGenerator(seed: seed)
            let group = BlockGroupID(ordinal: seed * 100)
            // Short lengths often, since the last stripe is what is special.
            let most = Bool.random(using: &random) ? policy.cellSizeBytes + 10 : 2 * policy.stripeSizeBytes + 5000
            let bytes = randomBytes(Int.random(in: 1...most, using: &random), using: &random)
            try await write(bytes, to: store.stream(group, policy, pool: pool), using: &random)

            let lost = (0..<policy.totalUnits).shuffled(using: &random)
                .prefix(Int.random(in: 0...policy.parityUnits + 1, using: &random))
            var noSource: Set<Int> = []
            for index in lost {
                let loss = Loss.allCases.randomElement(using: &random)!
                if loss == .noSource { noSource.insert(index) }
                lose(loss, group, index, store, disk)
            }
            let counters = StripingCounters()
            let reader = StripedReader<Volume>(counters: counters, memory: DecodingMemory(capacity: 1 << 20)) { bad in
                #expect(lost.contains(bad.block.index), "seed \(seed): \(bad)")
            }
            let description = store.group(group, policy, length: bytes.count, without: noSource)
            for _ in 0..<8 {
                let low = Int.random(in: 0..<bytes.count, using: &random)
                let high = Int.random(in: low...bytes.count, using: &random)
                do {
                    let found = try await reader.read(description, ByteRange(UInt64(low), UInt64(high))).bytes
                    #expect(found == Array(bytes[low..<high]), "seed \(seed), \(low)..<\(high), lost \(lost)")
                } catch {
                    #expect(lost.count > policy.parityUnits, "seed \(seed), \(low)..<\(high): \(error)")
                    refused += 1
                }
            }
            if lost.isEmpty { #expect(counters.snapshot == StripingCounters.Snapshot()) }
            decoded += Int(counters.snapshot.decodedCells)
            disk.removeFaults()
        }
        #expect(refused > 0 && decoded > 0)
    }

    /// Appends in random pieces, synchronizes now and then, and seals.
    private func write(
        _ bytes: [UInt8], to stream: StripedOutputStream<Volume>, using random: inout SeededGenerator
    ) async throws {
        var offset = 0
        while offset < bytes.count {
            let end = min(bytes.count, offset + Int.random(in: 1...3 * stream.policy.cellSizeBytes, using: &random))
            try await stream.append(Payload(bytes: bytes[offset..<end]))
            if stream.isAtStripeBoundary { try await stream.synchronize() }
            offset = end
        }
        try await stream.seal()
    }

    @Test("changed chunks in up to m blocks, anywhere, are decoded around")
    func scatteredCorruption() async throws {
        let policy = try ErasureCodingPolicy("RS-6-3-4k")
        let disk = SimulatedFileSystem()
        let store = try Store(volumes: 9, disk: disk)
        for seed in 0..<20 as Range<UInt64> {
            var random = SeededGenerator(seed: seed)
            let group = BlockGroupID(ordinal: seed)
            let bytes = randomBytes(
                Int.random(in: 1...3 * policy.stripeSizeBytes, using: &random), using: &random)
            try await write(bytes, to: store.stream(group, policy), using: &random)
            for index in (0..<9).shuffled(using: &random).prefix(3) {
                let path = store.paths(group, index).data
                guard let count = disk.content(of: path)?.count else { continue }
                for _ in 0..<3 { disk.flipBits(path, at: Int.random(in: 0..<count, using: &random), mask: 1) }
            }
            let reader = StripedReader<Volume>(counters: StripingCounters(), memory: DecodingMemory(capacity: 1 << 20)) { _ in }
            let found = try await reader.read(
                store.group(group, policy, length: bytes.count), ByteRange(0, UInt64(bytes.count)))
            #expect(found.bytes == bytes, "seed \(seed)")
        }
    }

    /// Three full stripes of RS-3-2-4k on a simulated disk.
    private func threeStripes() async throws -> (Store, SimulatedFileSystem, StripedGroup<Volume>, [UInt8]) {
        let policy = try ErasureCodingPolicy("RS-3-2-4k")
        let disk = SimulatedFileSystem()
        let store = try Store(volumes: 5, disk: disk)
        var random = SeededGenerator(seed: 1)
        let bytes = randomBytes(3 * policy.stripeSizeBytes, using: &random)
        let stream = try store.stream(BlockGroupID(ordinal: 0), policy)
        try await stream.append(Payload(bytes: bytes))
        try await stream.seal()
        return (store, disk, store.group(BlockGroupID(ordinal: 0), policy, length: bytes.count), bytes)
    }

    @Test("what was decoded, and why, is counted and reported; reads of what is there count nothing")
    func counting() async throws {
        let (store, disk, group, bytes) = try await threeStripes()
        let counters = StripingCounters()
        let reports = Mutex<[BadBlock]>([])
        let reader = StripedReader<Volume>(counters: counters, memory: DecodingMemory(capacity: 1 << 20)) { bad in reports.withLock { $0.append(bad) } }
        let all = ByteRange(0, UInt64(bytes.count))
        #expect(try await reader.read(group, all).bytes == bytes)
        #expect(counters.snapshot == StripingCounters.Snapshot() && reports.withLock { $0.isEmpty })

        try disk.remove(store.paths(group.id, 0).data)
        let again = try Store(store, on: disk)
        let fresh = again.group(group.id, group.policy, length: bytes.count)
        #expect(try await reader.read(fresh, all).bytes == bytes)
        var expected = StripingCounters.Snapshot()
        expected.missingBlocks = 1
        expected.decodedCells = 3
        expected.decodedStripes = 3
        #expect(counters.snapshot == expected)
        #expect(
            reports.withLock { $0 } == [
                BadBlock(block: group.id.internalBlock(0), generationStamp: .first, reason: .missing)
            ])

        // Block 1 has a bad chunk in its second cell.
        disk.flipBits(store.paths(group.id, 1).data, at: 4096 + 700)
        #expect(try await reader.read(fresh, all).bytes == bytes)
        expected.missingBlocks += 1
        expected.corruptChunks += 1
        expected.decodedCells += 6
        expected.decodedStripes += 3
        #expect(counters.snapshot == expected)

        // Cells 1 and 2 of the first stripe are there.
        #expect(try await reader.read(fresh, ByteRange(4096, 3 * 4096)).bytes == Array(bytes[4096..<(3 * 4096)]))
        #expect(counters.snapshot == expected)
    }

    @Test("more than m bad blocks are named")
    func tooManyBadBlocks() async throws {
        let (store, disk, group, bytes) = try await threeStripes()
        disk.truncate(store.paths(group.id, 0).data, to: 100)
        disk.flipBits(store.paths(group.id, 3).data, at: 0)
        let broken = store.group(group.id, group.policy, length: bytes.count, without: [2])
        let reader = StripedReader<Volume>(counters: StripingCounters(), memory: DecodingMemory(capacity: 1 << 20)) { _ in }
        func bad(_ index: Int, _ reason: BlockReadError) -> BadBlock {
            BadBlock(block: group.id.internalBlock(index), generationStamp: .first, reason: reason)
        }
        await #expect(
            throws: StripingError.tooManyBadBlocks([
                bad(0, .tooShort(length: 100)), bad(2, .missing), bad(3, .corrupt(offset: 0)),
            ])
        ) { try await reader.read(broken, ByteRange(0, UInt64(bytes.count))) }
    }

    @Test("a group of another generation stamp is not there")
    func staleStamp() async throws {
        let (store, _, group, bytes) = try await threeStripes()
        defer { withExtendedLifetime(store) {} }
        let newer = StripedGroup(
            id: group.id, generationStamp: GenerationStamp(rawValue: 1002), policy: group.policy,
            length: group.length, sources: group.sources)
        let reader = StripedReader<Volume>(counters: StripingCounters(), memory: DecodingMemory(capacity: 1 << 20)) { _ in }
        await #expect(throws: StripingError.self) {
            try await reader.read(newer, ByteRange(0, UInt64(bytes.count)))
        }
    }

    @Test("the cells of an almost empty group that hold nothing need no disk")
    func virtualZeros() async throws {
        let policy = try ErasureCodingPolicy("RS-3-2-4k")
        let store = try Store(volumes: 5, disk: SimulatedFileSystem())
        let stream = try store.stream(BlockGroupID(ordinal: 0), policy)
        try await stream.append(Payload(bytes: [42]))
        try await stream.seal()
        let reader = StripedReader<Volume>(counters: StripingCounters(), memory: DecodingMemory(capacity: 1 << 20)) { _ in }
        // Only one of the two parity cells is left.
        let group = store.group(BlockGroupID(ordinal: 0), policy, length: 1, without: [0, 1, 2, 3])
        #expect(try await reader.read(group, ByteRange(0, 1)).bytes == [42])
    }
}
