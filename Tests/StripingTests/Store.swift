// Volumes for the tests of streams: real ones in a temporary directory, or on a simulated disk.

import BlockStore
import ErasureCoding
import FaultInjection
import Foundation
import Model
import Platform
import Striping

/// Some volumes, closed and deleted at the end: keep it as long as they are used.
final class Store: Sendable {
    let directory: String
    let fileSystem: FileSystem
    let volumes: [Volume]
    private let isReal: Bool

    /// - Parameter disk: nil for a real directory, deleted at the end.
    init(volumes count: Int, disk: SimulatedFileSystem? = nil) throws {
        isReal = disk == nil
        directory = disk == nil ? NSTemporaryDirectory() + "/sluice-striping-\(UUID())" : "/s"
        fileSystem = disk ?? FileSystem()
        try fileSystem.createDirectory(directory)
        if !isReal { try fileSystem.syncDirectory("/") }
        var random = SystemRandomNumberGenerator()
        let storeID = StoreID(rawValue: UniqueID(using: &random))
        let handleKey = HandleKey(using: &random)
        var volumes: [Volume] = []
        for index in 0..<count {
            let path = directory + "/volume-\(index)"
            let superblock = Superblock(
                storeID: storeID, volumeID: VolumeID(rawValue: UniqueID(using: &random)), volumeIndex: index,
                defaultPolicy: try ErasureCodingPolicy("RS-3-2-1024k"), epoch: Epoch(rawValue: 1), mirrorSet: [],
                journal: JournalGeneration(
                    epoch: Epoch(rawValue: 1), volumes: [], firstNumber: LogNumber(rawValue: 2)), registeredVolumes: [],
                handleKey: handleKey,
                createdAt: Timestamp(seconds: 0, nanoseconds: 0))
            try Volume.format(directory: path, superblock: superblock, fileSystem: fileSystem)
            volumes.append(try Volume(directory: path, fileSystem: fileSystem))
        }
        self.volumes = volumes
    }

    /// The same volumes as they are on another disk.
    init(_ store: Store, on disk: SimulatedFileSystem) throws {
        isReal = false
        directory = store.directory
        fileSystem = disk
        volumes = try store.volumes.map { try Volume(directory: $0.directory, fileSystem: disk) }
    }

    deinit {
        for volume in volumes { volume.close() }
        if isReal { try? FileManager.default.removeItem(atPath: directory) }
    }

    /// The files of internal block `index` of a group, by the documented layout.
    func paths(_ group: BlockGroupID, _ index: Int, stamp: Int = 1001) -> (data: String, meta: String) {
        let subdirectory = String(group.ordinal / 256 & 0xff, radix: 16)
        let block =
            volumes[index].directory + "/blocks/" + (subdirectory.count == 1 ? "0" : "") + subdirectory
            + "/blk_\(group.rawValue + Int64(index))"
        return (block, "\(block)_\(stamp).meta")
    }

    func bytes(_ path: String) -> [UInt8]? { FileManager.default.contents(atPath: path).map { Array($0) } }

    func group(
        _ id: BlockGroupID, _ policy: ErasureCodingPolicy, length: Int, without missing: Set<Int> = []
    ) -> StripedGroup<Volume> {
        StripedGroup(
            id: id, generationStamp: .first, policy: policy, length: UInt64(length),
            sources: (0..<policy.totalUnits).map { missing.contains($0) ? nil : volumes[$0] })
    }

    func stream(
        _ id: BlockGroupID, _ policy: ErasureCodingPolicy, pool: CellBufferPool? = nil, without missing: Set<Int> = [],
        minimumTargets: Int? = nil
    ) throws -> StripedOutputStream<Volume> {
        try StripedOutputStream(
            group: id, generationStamp: .first, coder: .shared(for: policy),
            targets: (0..<policy.totalUnits).map { missing.contains($0) ? nil : volumes[$0] },
            minimumTargets: minimumTargets,
            pool: pool ?? CellBufferPool(cellSizeBytes: policy.cellSizeBytes, capacity: 2 * policy.totalUnits))
    }
}
