// How the store is: for `sluice status`, of a store that is served and of one that is not.

internal import BlockStore
internal import FileService
internal import Journal
public import Logging
internal import Model
internal import Namespace
public import Platform
internal import Striping
internal import Synchronization
internal import WriteBack

extension EmbeddedFileService {
    /// The state of the store that this service serves.
    public func status() async -> StoreStatus {
        await core.volumes.checkAll()
        var status = await core.status(isServed: true)
        let usage = writeBack.usage
        status.counters.stalledWrites = usage.stalledWrites
        status.counters.refusedWrites = usage.refusedWrites
        // As clients see it; the rows count what is pending, in the journal for example, when it is striped.
        status.bytes += core.nodes.all.reduce(0) { $0 + $1.unrecordedBytes }
        status.counters.pendingBytes = UInt64(max(0, usage.pendingBytes))
        status.counters.openFiles = UInt64(usage.openFiles)
        addDump(to: &status)
        return status
    }

    /// The state of a store that nobody serves. Changes nothing; the caller keeps others away meanwhile.
    public static func inspect(
        volumes paths: [String], fileSystem: FileSystem, clock: SystemClock, log: Logger
    ) async throws(StoreRefusal) -> StoreStatus {
        let inspection = try StoreInspection(paths: paths, fileSystem: fileSystem)
        var volumes: [Volume] = []
        defer { for volume in volumes { volume.close() } }
        for (path, _) in inspection.present {
            do throws(SuperblockError) {
                volumes.append(try Volume(directory: path, fileSystem: fileSystem))
            } catch {
                throw StoreRefusal(.cannotRead, "\(path): \(error)")
            }
        }
        let recovery = try StoreRecovery(inspection, volumes.map { JournalVolume($0) }, fileSystem)
        let namespace: Namespace
        do throws(NamespaceError) {
            namespace = try Namespace.open(
                [recovery.mirrors[0].location], records: recovery.records, lastNumber: recovery.journal.lastNumber,
                fileSystem: fileSystem, storeID: inspection.superblock.storeID,
                epoch: inspection.superblock.epoch, log: nil, logger: log,
                onMirrorFailure: { _, _ in false })
        } catch {
            throw StoreRefusal(.damaged, "the metadata cannot be opened: \(error)")
        }
        let core = StoreCore(
            superblock: inspection.superblock, namespace: namespace, journal: nil, recovered: recovery.payloads,
            volumes: VolumeSet(present: volumes, registered: inspection.superblock.registeredVolumes),
            locks: inspection.locks,
            epochs: EpochKeeper(
                volumes: volumes, superblock: inspection.superblock,
                believed: inspection.mirrors.map(\.location.volume), fileSystem: fileSystem, clock: clock,
                patience: .zero),
            failure: StoreFailure(log: log), clock: clock, log: log)
        await core.noteDamage()
        let status = await core.status(isServed: false)
        await namespace.close()
        for lock in inspection.locks { lock.close() }
        return status
    }
}

extension StoreCore {
    func status(isServed: Bool) async -> StoreStatus {
        var reasons: [String] = []
        let mirrors = epochs.mirrorSet
        var shown: [StoreStatus.Volume] = []
        for registered in volumes.registered {
            let volume = volumes[registered.id]
            var state = "missing"
            var space: FileSystem.Space?
            if let volume {
                switch volume.state {
                case .healthy:
                    state = "healthy"
                    space = try? await volume.space()
                case .failed(let failure): state = "failed: \(failure)"
                }
            }
            if state != "healthy" {
                reasons.append("volume \(registered.index) (\(registered.lastKnownPath)) is \(state)")
            }
            shown.append(
                StoreStatus.Volume(
                    index: registered.index, id: "\(registered.id)",
                    path: volume?.directory ?? registered.lastKnownPath,
                    state: state, isHealthy: state == "healthy",
                    holdsMetadata: mirrors.contains(registered.id), totalBytes: space?.totalBytes ?? 0,
                    availableBytes: space?.availableBytes ?? 0))
        }
        var shownJournal: StoreStatus.Journal?
        let replicas = journal?.usage.replicas ?? epochs.journal.volumes
        if let usage = journal?.usage {
            shownJournal = StoreStatus.Journal(
                segments: usage.segments, bytes: usage.bytes, capacityBytes: usage.capacityBytes,
                replicas: usage.replicas.compactMap { volumes[$0]?.index }.sorted(),
                segmentsShortOfReplicas: usage.segmentsShortOfReplicas)
            if usage.segmentsShortOfReplicas > 0 {
                reasons.append("\(usage.segmentsShortOfReplicas) segments of the journal lack a copy")
            }
        }
        let liveReplicas = replicas.count { volumes[$0]?.isHealthy == true }
        // Before the first start there is none.
        if !replicas.isEmpty, liveReplicas < policy.parityUnits + 1 {
            reasons.append("the journal has \(liveReplicas) of \(policy.parityUnits + 1) copies")
        }
        let liveMirrors = mirrors.count { volumes[$0]?.isHealthy == true }
        let wantedMirrors = policy.parityUnits + 1
        if liveMirrors < wantedMirrors {
            reasons.append("the metadata have \(liveMirrors) of \(wantedMirrors) copies")
        }

        var groupCount: UInt64 = 0
        var degraded: UInt64 = 0
        var unreadable: UInt64 = 0
        let known = damage.snapshot
        var totals: NamespaceCounts?
        do throws(FileError) {
            totals = try await look { transaction throws(FileError) in transaction.counts }
            try await forEachGroup { group in
                groupCount += 1
                let bad = badBlocks(of: group, known: known.bad[group.id] ?? [])
                if bad > 0 { degraded += 1 }
                if bad > group.policy.parityUnits || known.unreadable.contains(group.id) { unreadable += 1 }
            }
        } catch {
            reasons.append("metadata cannot be read: \(error)")
            unreadable += 1
        }
        if degraded > 0 { reasons.append("\(degraded) block groups have missing or damaged blocks") }
        if unreadable > 0 { reasons.append("\(unreadable) block groups cannot be read") }

        let striping = striping.snapshot
        var counters = StoreStatus.Counters()
        counters.decodedStripes = striping.decodedStripes
        counters.decodedCells = striping.decodedCells
        counters.failedBlockReads =
            striping.missingBlocks + striping.shortBlocks + striping.corruptChunks + striping.readErrors
        counters.writeBackErrors = self.counters.writeBackErrors.load(ordering: .relaxed)
        counters.rewrittenGroups = self.counters.rewrittenGroups.load(ordering: .relaxed)
        counters.verifierChanges = verifier.changes
        return StoreStatus(
            isServed: isServed, storeID: "\(storeID)", epoch: epochs.epoch.rawValue, policy: "\(policy)",
            health: unreadable > 0 ? .red : reasons.isEmpty ? .green : .yellow, reasons: reasons, volumes: shown,
            files: totals?.files ?? 0, directories: totals?.directories ?? 0, bytes: totals?.usedBytes ?? 0,
            blockGroups: groupCount,
            degradedBlockGroups: degraded, unreadableBlockGroups: unreadable, counters: counters, journal: shownJournal)
    }

    /// How many internal blocks of a group can't be counted on.
    private func badBlocks(of group: BlockGroup, known: [BlockID]) -> Int {
        let layout = StripeLayout(group.policy)
        return group.locations.indices.count { index in
            // Data blocks that hold nothing are not written, so they can't be missing either.
            guard layout.internalBlockLength(index: index, groupLength: group.length) > 0 else { return false }
            guard let location = group.locations[index], volumes[location]?.isHealthy == true else { return true }
            return known.contains(group.id.internalBlock(index))
        }
    }
}
