// What the parts of the embedded service share: namespace, volumes, nodes, groups, counters.

internal import BlockStore
internal import FileService
internal import Journal
internal import LockFree
internal import Logging
internal import Model
internal import Namespace
internal import Platform
internal import Striping
internal import Synchronization
internal import WriteBack

/// The bounds of what an open store keeps in memory, and of a block group.
struct StoreBounds: Sendable {
    /// Inodes and group descriptions in memory. An inode is some 300 bytes and its extents, a group 200: at
    /// most 32 MiB of each.
    var maxCachedNodes = 65_536
    /// Bytes of a block group, if its layout allows so many.
    var maxGroupBytes = UInt64.max
    /// Files that the volumes together may keep open.
    var maxOpenFiles = 4096
    /// See StoreMemory. Ten READs of the largest size with RS-10-4, a hundred of a cell of 64 KiB.
    var decodingBytes = StoreMemory().decodingBytes
    var cellBytes = StoreMemory().cellBytes
    var dump = DumpLog.Bounds()
    var journal = JournalBounds()
    /// For a batch of records on a mirror. The pages of a checkpoint, a thousand or more, may be anywhere on a disk that takes
    /// 20 ms for each.
    var mirrorPatience: Duration { journal.patience * 6 }
}

/// An open store.
final class StoreCore: Sendable {
    let storeID: StoreID
    let policy: ErasureCodingPolicy
    let handleKey: HandleKey
    let epochs: EpochKeeper
    let namespace: Namespace
    /// nil: the store is only looked at.
    let journal: IntentJournal?
    /// What the journal holds for files that nobody has opened since the start.
    let recovered: RecoveredPayloads
    let volumes: VolumeSet
    let nodes: FileNodeTable
    /// Called with files that have pending writes when they are opened: write-back must know of them. On the namespace
    /// thread.
    let adoptRecovered = LateCall<OpenFileContext>()
    /// Called when the journal is half full, on its thread.
    let journalPressure: LateCall<Void>
    private let arrivals = ArrivalOrder()
    let groups: GroupTable
    let references = GroupReferences()
    let deletions = DeletionQueue()
    /// Of the maps of pending writes.
    let writeEpochs = EpochDomain()
    let failure: StoreFailure
    let verifier: VerifierSource
    let damage = DamageLog()
    let striping = StripingCounters()
    let decodingMemory: DecodingMemory
    let counters = StoreCounters()
    let clock: SystemClock
    let log: Logger
    /// For what goes wrong at the rate of calls.
    let complaints: StoreLog
    let bounds: StoreBounds
    /// On the volumes, until the store is closed.
    private let locks: [File]
    /// See StoreCore+Mirrors.swift.
    let mirrorRetries: Mutex<MirrorRetries>

    init(
        superblock: Superblock, namespace: Namespace, journal: IntentJournal?, recovered: RecoveredPayloads,
        journalPressure: LateCall<Void> = LateCall(), volumes: VolumeSet, locks: [File], epochs: EpochKeeper,
        failure: StoreFailure, clock: SystemClock, log: Logger, bounds: StoreBounds = StoreBounds()
    ) {
        self.bounds = bounds
        decodingMemory = DecodingMemory(capacity: bounds.decodingBytes)
        self.locks = locks
        storeID = superblock.storeID
        policy = superblock.defaultPolicy
        handleKey = superblock.handleKey
        self.namespace = namespace
        self.journal = journal
        self.recovered = recovered
        self.journalPressure = journalPressure
        self.volumes = volumes
        self.epochs = epochs
        self.failure = failure
        verifier = failure.verifier
        mirrorRetries = Mutex(MirrorRetries(mirrors: epochs.mirrorSet))
        self.clock = clock
        self.log = log
        complaints = StoreLog(log, clock: clock)
        nodes = FileNodeTable(capacity: bounds.maxCachedNodes)
        groups = GroupTable(capacity: bounds.maxCachedNodes)
    }

    /// Runs a body on the namespace thread; returns when what it changed is durable. See `Namespace.perform`.
    func transact<Value: Sendable>(
        _ footprint: Footprint? = nil, _ body: @escaping @Sendable (inout Transaction) throws(FileError) -> Value
    ) async throws(FileError) -> Value {
        try await namespace.perform(footprint, body)
    }

    /// Like `transact`, for a body that has payload journaled; with the claims on it.
    func transactJournaling<Value: Sendable>(
        _ footprint: Footprint? = nil, _ body: @escaping @Sendable (inout Transaction) throws(FileError) -> Value
    ) async throws(FileError) -> (Value, [JournaledBytes]) {
        try await namespace.performJournaling(footprint, body)
    }

    /// Like `transact`, for a body that only looks and needn't wait for what others have changed.
    func look<Value: Sendable>(
        _ body: @escaping @Sendable (inout Transaction) throws(FileError) -> Value
    ) async throws(FileError) -> Value {
        try await namespace.read(body)
    }

    /// A block group's id, never to be given out again. Its blocks may be written before any record names it,
    /// so it must come from a range that was reserved durably before.
    func newGroupID() async throws(FileError) -> BlockGroupID {
        try await look { transaction throws(FileError) in try transaction.reservedGroupID() }
    }

    /// The one node of a file. Calls that come one after the other go on in that order, if they run on one
    /// thread, whether the node had to be read first or not.
    func node(of file: FileReference) async throws(FileError) -> FileNode {
        let (node, ticket) = arrivals.enter(file.id) { nodes[file.id] }
        if let node {
            guard node.generation == file.generation else { throw .stale }
            return node
        }
        let result: Result<FileNode, FileError>
        do throws(FileError) {
            result = .success(
                try await look { [self] transaction throws(FileError) in
                    let inode = try transaction.existing(file)
                    return try loadNode(inode, &transaction)
                })
        } catch {
            result = .failure(error)
        }
        await arrivals.waitForTurn(ticket, of: file.id)
        arrivals.leave(file.id)
        return try result.get()
    }

    /// The attributes of a file whose row or node is in memory, without waiting for the namespace thread; nil when
    /// neither is, or when calls that came earlier still wait for the node.
    ///
    /// The node is looked for first, as it may be ahead of the row. That it isn't there, and then the row is, means
    /// that the row is all there is to know: a body that removes or changes the row hides it before it touches
    /// the node.
    func attributesInMemory(of file: FileID) -> (attributes: FileAttributes, generation: FileGeneration)? {
        if let node = nodes[file] { return (node.attributes, node.generation) }
        guard !arrivals.isWaited(for: file), case .present(let inode) = namespace.glance(at: file) else { return nil }
        return (inode.attributes, inode.generation)
    }

    /// What GETATTR answers.
    func attributes(of file: FileReference) async throws(FileError) -> FileAttributes {
        guard let found = attributesInMemory(of: file.id) else { return try await node(of: file).attributes }
        guard found.generation == file.generation else { throw .stale }
        return found.attributes
    }

    /// What LOOKUP of an ordinary name answers, if directory, name and file are in memory.
    func entryInMemory(
        _ name: FileName, in directory: FileReference, as caller: Credentials
    ) throws(FileError) -> FileEntry? {
        guard let parent = attributesInMemory(of: directory.id), parent.generation == directory.generation else {
            return nil
        }
        guard parent.attributes.type == .directory else { throw .notDirectory }
        guard parent.attributes.allowsExecute(by: caller) else { throw .accessDenied }
        switch namespace.glance(at: name, in: directory.id) {
        case .unknown: return nil
        case .absent: throw .notFound
        case .present(let entry):
            guard let child = attributesInMemory(of: entry.child) else { return nil }
            return FileEntry(
                file: FileReference(id: entry.child, generation: child.generation), attributes: child.attributes)
        }
    }

    /// The node of an inode that was just read. On the namespace thread.
    func loadNode(_ inode: Inode, _ transaction: inout Transaction) throws(FileError) -> FileNode {
        if let node = nodes[inode.id] { return node }
        let extents = ExtentMap(inode.type == .regular ? try transaction.allExtents(of: inode.id) : [])
        let journaled = recovered.take(inode.id, extents: extents)
        let node = FileNode(inode, extents: extents, journaled: journaled, writes: writeEpochs)
        nodes.insert(node)
        if !journaled.isEmpty, let context = node.context { adoptRecovered(context) }
        return node
    }

    /// What is known of a block group of which an extent names the bytes up to `end`.
    func group(_ id: BlockGroupID, holding end: UInt64) async throws(FileError) -> BlockGroup {
        if let group = groups[id], group.length >= end { return group }
        return try await look { [groups] transaction throws(FileError) in
            // Retired while this waited its turn?
            if let group = groups[id], group.length >= end { return group }
            let group = try transaction.published(id, holding: end)
            groups.update(group)
            return group
        }
    }

    /// Removes the blocks of groups that have no live byte any more. Call once that is durable.
    func deleteBlocks(of dead: [BlockGroup]) {
        for group in dead {
            references.whenUnused(group.id) { [self] in
                deletions.add(group) { [self] group in await deleteBlocksNow(of: group) }
            }
        }
    }

    private func deleteBlocksNow(of group: BlockGroup) async {
        for (index, location) in group.locations.enumerated() {
            guard let location, let volume = volumes[location] else { continue }
            do throws(IOError) {
                try await volume.delete(group.id.internalBlock(index), generationStamp: group.generationStamp)
            } catch {
                // The next start removes what no group names.
                complaints.warning(.keptDeadBlock, of: .volume(location), "\(error)")
            }
        }
        damage.forget(group.id)
        groups.forget(group.id)
    }

    /// A reader found an internal block bad.
    func note(_ bad: BadBlock) {
        if case .inputOutput(let error) = bad.reason, error.isShortage {
            complaints.warning(.unreadableForNow, of: .blockGroup(bad.block.group), "\(error)")
            return
        }
        if damage.note(bad.block, "\(bad.reason)") {
            log.warning(
                "a block cannot be read: \(bad.reason)",
                metadata: ["block": "\(bad.block)", "stamp": "\(bad.generationStamp)"])
        }
    }

    func space() async -> FileSystemSpace {
        let spaces = await volumes.spaces()
        let k = UInt64(policy.dataUnits)
        let n = UInt64(policy.totalUnits)
        func data(_ bytes: UInt64) -> UInt64 { bytes / n * k }
        return FileSystemSpace(
            totalBytes: data(spaces.reduce(0) { $0 + $1.totalBytes }),
            freeBytes: data(spaces.reduce(0) { $0 + $1.freeBytes }),
            availableBytes: data(spaces.reduce(0) { $0 + $1.availableBytes }),
            // A file takes at least one internal block with its checksum file on each of k + m volumes.
            totalFiles: (spaces.map(\.totalFiles).min() ?? 0) / 2,
            freeFiles: (spaces.map(\.freeFiles).min() ?? 0) / 2)
    }

    func checkVolumes() async {
        await volumes.check(now: clock.elapsed())
        await volumes.measureRoom(policy)
    }

    /// Whether there will be room in block groups for what the journal holds, with so many bytes more: what is promised must
    /// be settled some day, also when the volumes are nearly full.
    func hasRoomToSettle(_ count: Int) -> Bool {
        let journaled = journal.map { UInt64($0.usage.bytes) } ?? 0
        return volumes.hasRoom(forEach: (journaled + UInt64(count)) / UInt64(policy.dataUnits))
    }

    func close() async {
        await namespace.close()
        await journal?.close()
        epochs.close()
        volumes.close()
        for lock in locks { lock.close() }
    }
}

/// Counts of the embedded service since it was opened; see `StoreStatus.Counters`.
final class StoreCounters: Sendable {
    let writeBackErrors = Atomic<UInt64>(0)
    let rewrittenGroups = Atomic<UInt64>(0)
}
