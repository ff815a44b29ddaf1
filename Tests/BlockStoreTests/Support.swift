import BlockStore
import FaultInjection
import Model
import NIOCore
import Platform
import Synchronization

/// A superblock with fields from the generator.
func makeSuperblock(using random: inout some RandomNumberGenerator) throws -> Superblock {
    let policies = ["RS-3-2-1024k", "RS-6-3-1024k", "XOR-2-1-4k", "RS-10-4-64k"]
    let volumes = (0..<Int.random(in: 1...20, using: &random)).map { index in
        Superblock.RegisteredVolume(
            id: VolumeID(rawValue: UniqueID(using: &random)), index: index, lastKnownPath: "/disks/ä b/\(index)")
    }
    let epoch = Epoch(rawValue: random.next() >> 1)
    return Superblock(
        storeID: StoreID(rawValue: UniqueID(using: &random)), volumeID: volumes[0].id, volumeIndex: 0,
        defaultPolicy: try ErasureCodingPolicy(policies.randomElement(using: &random)!),
        epoch: epoch, mirrorSet: volumes.shuffled(using: &random).prefix(3).map(\.id),
        journal: JournalGeneration(
            epoch: Epoch(rawValue: epoch.rawValue - random.next() % 3),
            volumes: volumes.shuffled(using: &random).prefix(3).map(\.id),
            firstNumber: LogNumber(rawValue: random.next() >> 1)), registeredVolumes: volumes,
        handleKey: HandleKey(using: &random),
        createdAt: Timestamp(seconds: Int64(bitPattern: random.next()), nanoseconds: 999_999_999))
}

/// A formatted volume on a simulated disk at /v.
struct SimulatedVolume {
    let disk: SimulatedFileSystem
    let volume: Volume
    let failures: Failures

    init() throws {
        var random = SeededGenerator(seed: 1)
        let disk = SimulatedFileSystem()
        try Volume.format(directory: "/v", superblock: makeSuperblock(using: &random), fileSystem: disk)
        try self.init(disk)
    }

    /// The volume as it is on a disk already.
    init(_ disk: SimulatedFileSystem, maxReadDescriptors: Int = 128) throws {
        self.disk = disk
        let failures = Failures()
        self.failures = failures
        volume = try Volume(directory: "/v", fileSystem: disk, maxReadDescriptors: maxReadDescriptors) {
            failures.append($1)
        }
    }
}

/// What a volume told of its failures.
final class Failures: Sendable {
    private let state = Mutex<[VolumeFailure]>([])
    func append(_ failure: VolumeFailure) { state.withLock { $0.append(failure) } }
    var all: [VolumeFailure] { state.withLock { $0 } }
}

let block = BlockGroupID(ordinal: 5 + 256 * 17).internalBlock(2)
let dataPath = "/v/blocks/11/blk_\(block.rawValue)"
let metaPath = "/v/blocks/11/blk_\(block.rawValue)_1001.meta"

func randomBytes(_ count: Int, seed: UInt64) -> [UInt8] {
    var random = SeededGenerator(seed: seed)
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
}

extension BlockWriter {
    @discardableResult
    func append(_ bytes: some Collection<UInt8>, sync: Bool = false) async throws -> BlockAcknowledgement {
        var packet: BlockPacket?
        if !bytes.isEmpty {
            let buffer = AlignedBuffer(count: bytes.count)
            buffer.bytes.copyBytes(from: bytes)
            packet = BlockPacket(buffer: buffer, count: bytes.count)
        }
        let sent = packet
        return try await withCheckedContinuation { continuation in
            append(sent, sync: sync) { continuation.resume(returning: $0) }
        }.get()
    }

    @discardableResult
    func finalize() async throws -> BlockAcknowledgement {
        try await withCheckedContinuation { continuation in
            finalize { continuation.resume(returning: $0) }
        }.get()
    }
}

extension Volume {
    func open() -> VolumeBlockWriter { open(block, generationStamp: .first) }

    func write(_ bytes: [UInt8]) async throws {
        let writer = open()
        try await writer.append(bytes)
        try await writer.finalize()
    }

    func read(_ range: Range<Int>, of length: Int) async throws -> [UInt8] {
        let buffer = try await read(
            block, generationStamp: .first, range: ByteRange(UInt64(range.lowerBound), UInt64(range.upperBound)),
            expectedLength: UInt64(length))
        return Array(buffer.readableBytesView)
    }
}
