// Making a store.

internal import BlockStore
public import Model
internal import Namespace
public import Platform

extension EmbeddedFileService {
    /// Makes a store on empty directories that exist, one volume each. Blocks on the disks.
    public static func format(
        volumes paths: [String], policy: ErasureCodingPolicy, fileSystem: FileSystem, clock: SystemClock,
        random: inout some RandomNumberGenerator
    ) throws(StoreRefusal) {
        guard paths.count >= policy.totalUnits, paths.count <= Limits.maxVolumes else {
            throw StoreRefusal(
                .unusableVolumes, "\(policy) needs \(policy.totalUnits) volumes or more, \(paths.count) were given")
        }
        for path in paths { try checkIsEmpty(path, fileSystem) }

        let now = clock.now()
        let registered = paths.enumerated().map { index, path in
            Superblock.RegisteredVolume(
                id: VolumeID(rawValue: UniqueID(using: &random)), index: index, lastKnownPath: path)
        }
        let mirrors = Array(registered.prefix(policy.parityUnits + 1))
        var superblock = Superblock(
            storeID: StoreID(rawValue: UniqueID(using: &random)), volumeID: registered[0].id, volumeIndex: 0,
            defaultPolicy: policy, epoch: Epoch(rawValue: 1), mirrorSet: mirrors.map(\.id),
            // The first entry is what formatting puts into the mirrors; the journal goes on behind it.
            journal: JournalGeneration(
                epoch: Epoch(rawValue: 1), volumes: [], firstNumber: LogNumber.ofFormat.next),
            registeredVolumes: registered,
            handleKey: HandleKey(using: &random), createdAt: now)
        // The mirrors come last among what can fail: a superblock without metadata behind it is refused at the
        // start, metadata without a superblock are nobody's.
        for volume in registered {
            superblock.volumeID = volume.id
            superblock.volumeIndex = volume.index
            do throws(VolumeFormatError) {
                try Volume.format(directory: volume.lastKnownPath, superblock: superblock, fileSystem: fileSystem)
            } catch {
                throw StoreRefusal(.notWritable, "\(volume.lastKnownPath) cannot be formatted: \(error)")
            }
        }
        let root = Inode(
            id: .root, generation: FileGeneration(rawValue: random.next()), type: .directory, mode: 0o755, linkCount: 2,
            uid: 0, gid: 0, accessTime: now, modificationTime: now, changeTime: now, parent: .root)
        do throws(NamespaceError) {
            try Namespace.format(
                mirrors.map {
                    MirrorLocation(volume: $0.id, directory: Volume.metadataDirectory(of: $0.lastKnownPath))
                },
                fileSystem: fileSystem, storeID: superblock.storeID, epoch: superblock.epoch, root: root)
        } catch {
            throw StoreRefusal(.notWritable, "the metadata cannot be written: \(error)")
        }
    }

    private static func checkIsEmpty(_ path: String, _ fileSystem: FileSystem) throws(StoreRefusal) {
        let names: [String]
        do throws(IOError) {
            names = try fileSystem.list(path).filter { $0 != "lost+found" && $0 != "lock" }
        } catch {
            throw StoreRefusal(.cannotRead, "\(error)")
        }
        if names.contains("superblock") {
            throw StoreRefusal(.alreadyFormatted, "\(path) is a volume already; nothing was formatted")
        }
        guard names.isEmpty else {
            throw StoreRefusal(
                .unusableVolumes, "\(path) is not empty (it holds '\(names.sorted()[0])'); nothing was formatted")
        }
    }
}
