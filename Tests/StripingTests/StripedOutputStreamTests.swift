// Streams whose targets fail, hang or lie.

import BlockStore
import ErasureCoding
import FaultInjection
import Model
import Platform
import Striping
import Synchronization
import Testing

struct StripedOutputStreamTests {
    private let policy: ErasureCodingPolicy
    private let group = BlockGroupID(ordinal: 0)

    init() throws { policy = try ErasureCodingPolicy("RS-3-2-4k") }

    private func bytes(stripes: Int) -> [UInt8] {
        var random = SeededGenerator(seed: UInt64(stripes))
        return randomBytes(stripes * policy.stripeSizeBytes, using: &random)
    }

    private func read(_ store: Store, _ group: BlockGroupID, _ count: Int, without missing: Set<Int> = []) async throws
        -> [UInt8]
    {
        let reader = StripedReader<Volume>(counters: StripingCounters(), memory: DecodingMemory(capacity: 1 << 20)) { _ in }
        let description = store.group(group, policy, length: count, without: missing)
        return try await reader.read(description, ByteRange(0, UInt64(count))).bytes
    }

    @Test(
        "a target that fails is named; what was synchronized stays, the rest goes to a group without it",
        arguments: [(FileOperation.write, 5 as Int32), (.write, 28), (.open, 5), (.sync, 5), (.syncDirectory, 5)])
    func targetFailure(operation: FileOperation, code: Int32) async throws {
        let disk = SimulatedFileSystem()
        let store = try Store(volumes: 5, disk: disk)
        let pool = CellBufferPool(cellSizeBytes: 4096, capacity: 10)
        let all = bytes(stripes: 6)
        let half = all.count / 2
        let stream = try store.stream(group, policy, pool: pool)
        // Files are made, and their directory is synced, at the beginning only.
        let isAtBegin = operation == .open || operation == .syncDirectory
        if !isAtBegin {
            try await stream.append(Payload(bytes: all[..<half]))
            try await stream.synchronize()
        }
        disk.inject(Fault("/s/volume-1/blocks/", operation, code: code))
        disk.inject(Fault("/s/volume-4/blocks/", operation, code: code))
        let error = try #require(
            await #expect(throws: StripingError.self) {
                try await stream.append(Payload(bytes: all[(isAtBegin ? 0 : half)...]))
                try await stream.synchronize()
            })
        guard case .targetsFailed(let failures) = error else {
            Issue.record(error)
            return
        }
        #expect(failures.map(\.index) == [1, 4])
        #expect(stream.durableLength == (isAtBegin ? 0 : UInt64(half)))
        await #expect(throws: error) { try await stream.seal() }
        stream.abort()
        #expect(pool.freeCount == 10)
        #expect(store.volumes.map(\.isHealthy) == [true, code == 28, true, true, code == 28])
        if !isAtBegin { #expect(try await read(store, group, half) == Array(all[..<half])) }

        let next = try store.stream(
            BlockGroupID(ordinal: 1), policy, pool: pool, without: [1, 4], minimumTargets: 3)
        try await next.append(Payload(bytes: all))
        try await next.seal()
        #expect(try await read(store, BlockGroupID(ordinal: 1), all.count, without: [1, 4]) == all)
    }

    @Test("synchronized bytes survive a power cut and the loss of m volumes; with disks that lie they do not")
    func durability() async throws {
        var lost = 0
        for isLying in [false, true] {
            for seed in 0..<6 as Range<UInt64> {
                let disk = SimulatedFileSystem()
                let store = try Store(volumes: 5, disk: disk)
                disk.ignoresSync = isLying
                let all = bytes(stripes: 3)
                let durable = 2 * policy.stripeSizeBytes
                let stream = try store.stream(group, policy)
                try await stream.append(Payload(bytes: all[..<durable]))
                try await stream.synchronize()
                try await stream.append(Payload(bytes: all[durable...]))
                var random = SeededGenerator(seed: seed)
                let missing = Set((0..<5).shuffled(using: &random).prefix(2))
                let after = try Store(store, on: disk.crash(seed: seed))
                let found = try? await read(after, group, durable, without: missing)
                if isLying {
                    lost += found == Array(all[..<durable]) ? 0 : 1
                } else {
                    #expect(found == Array(all[..<durable]), "seed \(seed)")
                }
            }
        }
        #expect(lost > 3)
    }

    @Test("a synchronize that fails on one target throws and makes nothing durable")
    func syncFault() async throws {
        let disk = SimulatedFileSystem()
        let store = try Store(volumes: 5, disk: disk)
        defer { withExtendedLifetime(store) {} }
        disk.inject(Fault("/s/volume-2/blocks/", .sync, code: 5, count: 1))
        let stream = try store.stream(group, policy)
        try await stream.append(Payload(bytes: bytes(stripes: 1)))
        for _ in 0..<2 {
            await #expect(throws: StripingError.self) { try await stream.synchronize() }
        }
        #expect(stream.durableLength == 0)
    }

    @Test("a stream begins with k + 1 targets, and not with fewer")
    func minimumTargets() async throws {
        let store = try Store(volumes: 5, disk: SimulatedFileSystem())
        #expect(throws: StripingError.tooFewTargets(present: 3, needed: 4)) {
            _ = try store.stream(group, policy, without: [0, 3])
        }
        let stream = try store.stream(group, policy, without: [1])
        let all = bytes(stripes: 2) + [1, 2, 3]
        try await stream.append(Payload(bytes: all))
        try await stream.seal()
        #expect(try await read(store, group, all.count) == all)
        #expect(try await read(store, group, all.count, without: [1, 0]) == all)
    }

    @Test("between stripes a stream holds no buffer; an abandoned one gives them back")
    func buffers() async throws {
        let store = try Store(volumes: 5, disk: SimulatedFileSystem())
        defer { withExtendedLifetime(store) {} }
        let pool = CellBufferPool(cellSizeBytes: 4096, capacity: 5)
        var stream: StripedOutputStream<Volume>? = try store.stream(group, policy, pool: pool)
        try await stream?.append(Payload(bytes: bytes(stripes: 3)))
        try await stream?.synchronize()
        #expect(pool.freeCount == 5)
        try await stream?.append(Payload(bytes: [1]))
        #expect(pool.freeCount == 0)
        stream = nil
        #expect(pool.freeCount == 5)
    }

    @Test("streams that share too few buffers wait for each other and all end")
    func sharedPool() async throws {
        let store = try Store(volumes: 5, disk: SimulatedFileSystem())
        let pool = CellBufferPool(cellSizeBytes: 4096, capacity: 7)
        let all = bytes(stripes: 4) + [7]
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            for number in 0..<8 as Range<UInt64> {
                let stream = try store.stream(BlockGroupID(ordinal: number), policy, pool: pool)
                tasks.addTask {
                    try await stream.append(Payload(bytes: all))
                    try await stream.seal()
                }
            }
            try await tasks.waitForAll()
        }
        #expect(pool.freeCount == 7)
        for number in 0..<8 as Range<UInt64> {
            #expect(try await read(store, BlockGroupID(ordinal: number), all.count) == all)
        }
    }

    @Test("an empty stream leaves nothing behind")
    func empty() async throws {
        let disk = SimulatedFileSystem()
        let store = try Store(volumes: 5, disk: disk)
        let stream = try store.stream(group, policy)
        try await stream.synchronize()
        try await stream.seal()
        for volume in store.volumes { #expect(try await volume.listBlocks(inSubdirectory: 0) == []) }
    }

    @Test("no more bytes are under way than allowed, and a target that hangs lets the others finish theirs")
    func bytesInFlight() async throws {
        let stripeBytes = policy.totalUnits * policy.cellSizeBytes
        let targets = (0..<5).map { _ in HeldTarget() }
        let stream = try StripedOutputStream(
            group: group, generationStamp: .first, coder: .shared(for: policy), targets: targets,
            pool: CellBufferPool(cellSizeBytes: 4096, capacity: 50), maxBytesInFlight: 2 * stripeBytes)
        let all = bytes(stripes: 6)
        async let done: Void = stream.append(Payload(bytes: all))
        for stripe in 0..<6 {
            for target in targets {
                await target.waitForPacket()
                // Two stripes are 2 packets to each target.
                #expect(target.mostHeld <= 2)
            }
            if stripe >= 1 { for target in targets { target.release() } }
        }
        for target in targets { target.release() }
        try await done
        #expect(targets.map(\.mostHeld) == [2, 2, 2, 2, 2])
    }
}

/// A target that acknowledges packets when it is told to.
private final class HeldTarget: BlockTarget, BlockWriter {
    private let held = Mutex<(completions: [Completion], most: Int, length: UInt64)>(([], 0, 0))
    private let packets: AsyncStream<Void>
    private let arrived: AsyncStream<Void>.Continuation

    init() { (packets, arrived) = AsyncStream.makeStream() }

    var mostHeld: Int { held.withLock { $0.most } }

    func waitForPacket() async { for await _ in packets { return } }

    func release() {
        let (completion, length) = held.withLock { held in
            held.length += 4096
            return (held.completions.removeFirst(), held.length)
        }
        completion(.success(BlockAcknowledgement(length: length, durableLength: 0)))
    }

    func open(_ block: BlockID, generationStamp: GenerationStamp) -> HeldTarget { self }

    func append(_ packet: BlockPacket?, sync: Bool, completion: @escaping Completion) {
        held.withLock {
            $0.completions.append(completion)
            $0.most = max($0.most, $0.completions.count)
        }
        arrived.yield()
    }

    func finalize(completion: @escaping Completion) {}
    func abort() {}
}
