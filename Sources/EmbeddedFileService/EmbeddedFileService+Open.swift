// Opening a store: whom to believe, what the journal says beyond the mirrors, beginning a new epoch, and putting in
// order what a crash left behind. All of it is complete before the first call is answered.
//
// The order is what makes a crash at any point harmless:
// 1. superblocks, mirrors and the journal are read;
// 2. the replicas of the journal's last segment are brought level, so that whoever sees one of them sees all that was found;
// 3. a new epoch begins: its superblocks say where the old journal ends;
// 4. the new generation's first segment is made, and what mirrors lack is in memory, applied to them in the background.
// What is in the journal is not drained now: it becomes pending writes when its file is opened (RecoveredPayloads).

internal import BlockStore
internal import Journal
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
    ///   - journalBytes: what the journal takes at most on each of its volumes.
    ///   - idleTime: after which a file that nobody writes to is settled.
    ///   - dumpDirectory: where pending bytes go that memory has no room for; nil: to one of the volumes.
    public static func open(
        volumes paths: [String], fileSystem: FileSystem, clock: SystemClock, log: Logger,
        maxOpenFiles: Int = 4096, memory: StoreMemory = StoreMemory(), journalBytes: Int? = nil,
        idleTime: Duration? = nil,
        allowsDevices: Bool = false, dumpDirectory: String? = nil
    ) async throws(StoreRefusal) -> EmbeddedFileService {
        var bounds = StoreBounds()
        bounds.maxOpenFiles = maxOpenFiles
        bounds.decodingBytes = memory.decodingBytes
        bounds.cellBytes = memory.cellBytes
        if let journalBytes { bounds.journal.capacityBytes = journalBytes }
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
                for lock in inspection.locks { lock.close() }
                // It failed just now, and is one that is missing: whether the others are enough is seen from the beginning.
                log.warning(
                    "a volume failed while the store was being opened: \(error)", metadata: ["volume": "\(path)"])
                return try await open(
                    volumes: paths.filter { $0 != path }, fileSystem: fileSystem, clock: clock, log: log,
                    limits: limits, bounds: bounds, allowsDevices: allowsDevices, dumpDirectory: dumpDirectory)
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
            // Before the first promise.
            await core.volumes.measureRoom(core.policy)
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
        let superblock = inspection.superblock
        let replicaCount = superblock.defaultPolicy.parityUnits + 1
        let places = volumes.map { JournalVolume($0) }
        let recovery = try StoreRecovery(inspection, places, fileSystem)
        let last = recovery.journal.lastNumber
        let epochs = EpochKeeper(
            volumes: volumes, superblock: superblock, believed: recovery.mirrors.map(\.location.volume),
            fileSystem: fileSystem, clock: clock, patience: bounds.journal.patience)
        let failure = StoreFailure(log: log)
        let mirrors = completeMirrors(recovery, replicaCount, volumes, fileSystem, log)
        let pressure = LateCall<Void>()
        let journal: IntentJournal
        do throws(JournalRefusal) {
            try IntentJournal.level(recovery.journal)
            // Where it was, so that nothing has to be copied; otherwise on disks that have no mirror to sync.
            let others = volumes.map(\.id).filter { id in !mirrors.contains { $0.volume == id } }
            let replicas = IntentJournal.chooseReplicas(
                places, preferred: (superblock.journal.volumes + others).withoutRepetition(), avoided: [],
                count: replicaCount)
            guard
                !replicas.isEmpty,
                epochs.advance(
                    mirrorSet: mirrors.map(\.volume),
                    journal: EpochKeeper.NewJournal(volumes: replicas, firstNumber: last.next))
            else {
                let failed = volumes.filter { !$0.isHealthy }.map(\.directory)
                throw JournalRefusal("a new epoch cannot be written to \(failed.joined(separator: ", "))")
            }
            journal = try IntentJournal(
                continuing: recovery.journal, generation: epochs.journal, volumes: places, replicaCount: replicaCount,
                storeID: superblock.storeID, fileSystem: fileSystem, clock: clock, bounds: bounds.journal,
                beginGeneration: { epochs.beginGeneration(volumes: $0, firstNumber: $1) },
                onPressure: { pressure(()) }, onFailure: { failure.occur("\($0)") })
        } catch {
            throw StoreRefusal(.notWritable, "\(error)")
        }
        do throws(NamespaceError) {
            // Those whose superblocks couldn't be written are none.
            let recorded = epochs.mirrorSet
            let namespace = try Namespace.open(
                mirrors.filter { recorded.contains($0.volume) }, records: recovery.records, lastNumber: last,
                fileSystem: fileSystem, storeID: superblock.storeID, epoch: epochs.epoch,
                log: MetadataLog(journal), clock: clock, patience: bounds.mirrorPatience, logger: log,
                onMirrorFailure: { failed, remaining in
                    log.error(
                        "a copy of the metadata failed and is left out",
                        metadata: ["failed": "\(failed)", "remaining": "\(remaining.count)"])
                    // Before anything is forgotten that the failed copy lacks, no start may believe it.
                    return epochs.mirrorsFailed(failed, remaining: remaining)
                },
                onFailure: { failure.occur("\($0)") })
            return StoreCore(
                superblock: superblock, namespace: namespace, journal: journal, recovered: recovery.payloads,
                journalPressure: pressure,
                volumes: VolumeSet(present: volumes, registered: superblock.registeredVolumes),
                locks: inspection.locks, epochs: epochs, failure: failure, clock: clock, log: log, bounds: bounds)
        } catch {
            throw StoreRefusal(.damaged, "the metadata cannot be opened: \(error)")
        }
    }

    /// The mirrors of the next epoch, m + 1 where there are so many volumes. Those that are behind lack what the journal
    /// has; where there are too few, the best is copied.
    private static func completeMirrors(
        _ recovery: StoreRecovery, _ wanted: Int, _ volumes: [Volume], _ fileSystem: FileSystem, _ log: Logger
    ) -> [MirrorLocation] {
        var mirrors = recovery.mirrors.map(\.location)
        let best = mirrors[0]
        for volume in volumes.sorted(by: { $0.index < $1.index })
        where mirrors.count < wanted && !mirrors.contains(where: { $0.volume == volume.id }) {
            let location = MirrorLocation(volume: volume.id, directory: volume.metadataDirectory)
            do throws(NamespaceError) {
                try Namespace.copy(from: best, to: location, fileSystem: fileSystem)
                mirrors.append(location)
            } catch {
                // A volume that can't take it is passed over; the next one may, or this one later.
                log.warning("the metadata could not be copied: \(error)")
            }
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
