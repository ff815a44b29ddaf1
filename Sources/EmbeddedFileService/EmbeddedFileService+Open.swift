// Opening a store: whom to believe, bringing the metadata mirrors level, beginning a new epoch, and putting in
// order what a crash left behind. All of it is complete before the first call is answered.

internal import BlockStore
public import Logging
internal import Model
internal import Namespace
public import Platform
internal import WriteBack

extension EmbeddedFileService {
    /// Opens the store on these volumes.
    ///
    /// Throws what a person needs to know when it must not be served: too few volumes, volumes of another
    /// store, only stale or damaged metadata.
    /// - Parameters:
    ///   - maxOpenFiles: what the volumes together may keep open.
    ///   - allowsDevices: whether the superuser may make block and character devices.
    ///   - idleTime: after which a file that nobody writes to is settled.
    ///   - dumpDirectory: where pending bytes go that memory has no room for; nil: to one of the volumes.
    public static func open(
        volumes paths: [String], fileSystem: FileSystem, clock: SystemClock, log: Logger,
        maxOpenFiles: Int = 4096, memory: StoreMemory = StoreMemory(), idleTime: Duration? = nil,
        allowsDevices: Bool = false, dumpDirectory: String? = nil
    ) async throws(StoreRefusal) -> EmbeddedFileService {
        var bounds = StoreBounds()
        bounds.maxOpenFiles = maxOpenFiles
        bounds.decodingBytes = memory.decodingBytes
        bounds.cellBytes = memory.cellBytes
        var limits = WriteBackLimits(maxPendingBytes: memory.pendingBytes)
        if let idleTime { limits.idleTime = idleTime }
        return try await open(
            volumes: paths, fileSystem: fileSystem, clock: clock, log: log, limits: limits, bounds: bounds,
            allowsDevices: allowsDevices, dumpDirectory: dumpDirectory)
    }

    /// The same with other bounds, for tests.
    static func open(
        volumes paths: [String], fileSystem: FileSystem, clock: SystemClock, log: Logger, limits: WriteBackLimits,
        bounds: StoreBounds, allowsDevices: Bool = false, dumpDirectory: String? = nil
    ) async throws(StoreRefusal) -> EmbeddedFileService {
        let inspection = try StoreInspection(paths: paths, fileSystem: fileSystem)
        for reason in inspection.missing { log.warning("missing: \(reason)") }
        for reason in inspection.brokenMirrors { log.warning("metadata not believed: \(reason)") }

        var opened: [Volume] = []
        for (path, _) in inspection.present {
            do throws(SuperblockError) {
                opened.append(
                    try Volume(
                        directory: path, fileSystem: fileSystem,
                        maxReadDescriptors: maxBlocksOpen(bounds.maxOpenFiles, inspection.present.count)
                    ) { _, failure in
                        log.error(
                            "a volume failed, it gets no more writes: \(failure)", metadata: ["volume": "\(path)"])
                    })
            } catch {
                for volume in opened { volume.close() }
                throw StoreRefusal(.cannotRead, "\(path): \(error)")
            }
        }
        do throws(StoreRefusal) {
            let core = try open(opened, inspection, fileSystem, clock, log, bounds)
            let dump: DumpLog?
            do throws(StoreRefusal) {
                dump = try core.makeDump(in: dumpDirectory, fileSystem)
            } catch {
                await core.close()
                throw error
            }
            core.warnOfSharedDevices(fileSystem)
            await core.reconcile()
            log.info(
                "store opened",
                metadata: [
                    "store": "\(core.storeID)", "epoch": "\(core.epochs.epoch)", "policy": "\(core.policy)",
                    "volumes": "\(opened.count) of \(core.volumes.registered.count)",
                ])
            return EmbeddedFileService(core: core, limits: limits, dump: dump, allowsDevices: allowsDevices)
        } catch {
            for volume in opened { volume.close() }
            throw error
        }
    }

    /// Blocks that each volume may keep open for readers: two files each, and half of what may be open is for
    /// groups that are written.
    private static func maxBlocksOpen(_ maxOpenFiles: Int, _ volumes: Int) -> Int {
        max(4, min(128, maxOpenFiles / 4 / volumes))
    }

    private static func open(
        _ volumes: [Volume], _ inspection: StoreInspection, _ fileSystem: FileSystem, _ clock: SystemClock,
        _ log: Logger, _ bounds: StoreBounds
    ) throws(StoreRefusal) -> StoreCore {
        let epochs = EpochKeeper(
            volumes: volumes, superblock: inspection.superblock, believed: inspection.mirrors.map(\.location.volume),
            fileSystem: fileSystem)
        let failure = StoreFailure(log: log)
        let mirrors = levelMirrors(inspection, volumes, fileSystem, log)
        guard
            epochs.advance(
                mirrorSet: mirrors.map(\.volume), firstLogNumber: inspection.mirrors[0].position.logNumber.next)
        else {
            let failed = volumes.filter { !$0.isHealthy }.map(\.directory)
            throw StoreRefusal(.notWritable, "a new epoch cannot be written to \(failed.joined(separator: ", "))")
        }
        do throws(NamespaceError) {
            // Those whose superblocks couldn't be written are none.
            let recorded = epochs.mirrorSet
            let namespace = try Namespace.open(
                mirrors.filter { recorded.contains($0.volume) }, fileSystem: fileSystem,
                storeID: inspection.superblock.storeID, epoch: epochs.epoch,
                logger: log,
                onMirrorFailure: { failed, remaining in
                    log.error(
                        "a copy of the metadata failed and is left out",
                        metadata: ["failed": "\(failed)", "remaining": "\(remaining.count)"])
                    // Before anything is answered that the failed copy lacks, no start may believe it.
                    return epochs.mirrorsFailed(failed, remaining: remaining)
                },
                onFailure: { failure.occur("\($0)") })
            return StoreCore(
                superblock: inspection.superblock, namespace: namespace,
                volumes: VolumeSet(present: volumes, registered: inspection.superblock.registeredVolumes),
                locks: inspection.locks, epochs: epochs, failure: failure, clock: clock, log: log, bounds: bounds)
        } catch {
            throw StoreRefusal(.damaged, "the metadata cannot be opened: \(error)")
        }
    }

    /// The mirrors of the next epoch, m + 1 where there are so many volumes, all equal to the best there is: whoever
    /// sees that epoch may believe any one of them.
    private static func levelMirrors(
        _ inspection: StoreInspection, _ volumes: [Volume], _ fileSystem: FileSystem, _ log: Logger
    ) -> [MirrorLocation] {
        let best = inspection.mirrors[0]
        var mirrors: [MirrorLocation] = []
        func copy(to location: MirrorLocation) {
            do throws(NamespaceError) {
                try Namespace.copy(from: best.location, to: location, fileSystem: fileSystem)
                mirrors.append(location)
            } catch {
                // A volume that can't take it is passed over; the next one may, or this one later.
                log.warning("the metadata could not be copied: \(error)")
            }
        }
        for mirror in inspection.mirrors {
            // Those that are behind lack what was not answered before a crash.
            if mirror.position == best.position { mirrors.append(mirror.location) } else { copy(to: mirror.location) }
        }
        let wanted = inspection.superblock.defaultPolicy.parityUnits + 1
        let tried = Set(inspection.mirrors.map(\.location.volume))
        for volume in volumes.sorted(by: { $0.index < $1.index })
        where mirrors.count < wanted && !tried.contains(volume.id) {
            copy(to: MirrorLocation(volume: volume.id, directory: volume.metadataDirectory))
        }
        return mirrors
    }
}

extension StoreCore {
    /// Volumes on one disk protect from nothing but flipped bits.
    fileprivate func warnOfSharedDevices(_ fileSystem: FileSystem) {
        let devices = Dictionary(grouping: volumes.present) { volume in
            ((try? fileSystem.status(volume.directory)) ?? nil)?.device ?? 0
        }
        for sharing in devices.values where sharing.count > 1 {
            log.warning(
                "volumes share a device: the loss of that device loses all of them",
                metadata: ["volumes": "\(sharing.map(\.directory).sorted().joined(separator: " "))"])
        }
    }
}
