// What the namespace thread knows: the mirrors, with a cache in front of them, the numbers, and the ids
// that may be handed out.
//
// Invariants:
// * `changed`, before the cache, and `states` show what the primary shows, the running body included.
// * File ids below `states[.fileIDsReserved]` only; handed out once in the life of the store. They may be
//   reserved by the same batch, since nobody hears of an id before its batch is durable.
// * Group ordinals below `durableGroupOrdinals` only, since a group's files are made before a record
//   names it.
//
// Only used on the namespace thread.

internal import Model
internal import Platform

final class MetadataState {
    let mirrors: MirrorSet
    let cache: MetadataCache
    /// The rows that the running body has changed.
    private var changed = MetadataCache.Rows()
    private(set) var states: [StateKey: UInt64]
    /// `states` as of the start of the running body, and the keys that it changed and no mutation states yet.
    private var statesBefore: [StateKey: UInt64]
    private var unwrittenStates: Set<StateKey> = []
    private var nextFileID: UInt64
    private var nextGroupOrdinal: UInt64
    private var durableGroupOrdinals: UInt64

    /// As many ids as are reserved at a time.
    private static let fileIDsPerReservation: UInt64 = 1000
    /// Reserved two batches ahead: a body in a batch of at most `Namespace.maxBatch` = 1024 may take two.
    private static let groupOrdinalsPerReservation: UInt64 = 4096

    init(_ mirrors: MirrorSet, cacheLimit: Int) throws(NamespaceError) {
        self.mirrors = mirrors
        cache = MetadataCache(limit: cacheLimit)
        states = try mirrors.read { mirror throws(MirrorError) in try mirror.states() }
        statesBefore = states
        // What was reserved and not used in an earlier life may be on some disk: it is skipped.
        nextFileID = states[.fileIDsReserved] ?? FileID.root.rawValue + 1
        nextGroupOrdinal = states[.groupOrdinalsReserved] ?? 0
        durableGroupOrdinals = nextGroupOrdinal
    }

    // MARK: Bodies

    /// Ends a body that succeeded. Returns whether it changed anything.
    func keepBody() throws(NamespaceError) -> Bool {
        for key in unwrittenStates.sorted(by: { $0.rawValue < $1.rawValue }) {
            try mirrors.apply(.putState(key, states[key] ?? 0))
        }
        unwrittenStates = []
        statesBefore = states
        let hasChanged = !mirrors.body.isEmpty
        defer { changed.removeAll() }
        try mirrors.keepBody()
        cache.show(changed)
        return hasChanged
    }

    /// Ends a body that failed: as if it had not been. Ids that it took stay taken.
    func dropBody() throws(NamespaceError) {
        states = statesBefore
        unwrittenStates = []
        changed.removeAll()
        try mirrors.dropBody()
    }

    /// To be called at the start of a batch: sees to it that block group ids don't run out in it.
    func reserveGroupIDs() throws(NamespaceError) {
        guard durableGroupOrdinals - nextGroupOrdinal < Self.groupOrdinalsPerReservation / 2 else { return }
        set(.groupOrdinalsReserved, durableGroupOrdinals + Self.groupOrdinalsPerReservation)
        _ = try keepBody()
    }

    /// Makes all that was kept durable.
    func commit() throws(NamespaceError) {
        do throws(NamespaceError) {
            try mirrors.commit()
        } catch {
            cache.close()
            throw error
        }
        durableGroupOrdinals = states[.groupOrdinalsReserved] ?? 0
    }

    // MARK: Changing

    func apply(_ mutation: Mutation) throws(NamespaceError) {
        switch mutation {
        case .putInode(let inode):
            count(try self.inode(inode.id), by: -1)
            try mirrors.apply(mutation)
            count(inode, by: 1)
            change(inode.id, to: .present(inode))
        case .removeInode(let id):
            let old = try inode(id)
            try mirrors.apply(mutation)
            count(old, by: -1)
            change(id, to: .absent)
        case .putEntry(let directory, let name, let cookie, let child):
            precondition(cookie >= Inode.firstCookie && cookie <= UInt64(Int64.max))
            try mirrors.apply(mutation)
            change(
                MetadataCache.EntryKey(directory: directory, name: name),
                to: .present(EntryRow(name: name, cookie: cookie, child: child)))
        case .removeEntry(let directory, let name):
            try mirrors.apply(mutation)
            change(MetadataCache.EntryKey(directory: directory, name: name), to: .absent)
        case .putExtent, .removeExtent:
            try mirrors.apply(mutation)
        case .putGroup(let group):
            let isNew = try self.group(group.id) == nil
            try mirrors.apply(mutation)
            if isNew { add(1, to: .groupCount) }
        case .removeGroup(let id):
            let isThere = try group(id) != nil
            try mirrors.apply(mutation)
            if isThere { add(-1, to: .groupCount) }
        case .putState(let key, let value):
            try mirrors.apply(mutation)
            states[key] = value
        }
    }

    private func change(_ id: FileID, to inode: MetadataCache.Known<Inode>) {
        cache.hide(id)
        changed.inodes[id] = inode
    }

    private func change(_ key: MetadataCache.EntryKey, to entry: MetadataCache.Known<EntryRow>) {
        cache.hide(key)
        changed.entries[key] = entry
    }

    /// Sets a number; the running body's record will say so.
    func set(_ key: StateKey, _ value: UInt64) {
        states[key] = value
        unwrittenStates.insert(key)
    }

    private func add(_ change: Int64, to key: StateKey) {
        guard change != 0 else { return }
        set(key, (states[key] ?? 0) &+ UInt64(bitPattern: change))
    }

    private func count(_ inode: Inode?, by sign: Int64) {
        guard let inode else { return }
        add(sign, to: inode.type == .directory ? .directoryCount : .fileCount)
        add(sign &* Int64(bitPattern: inode.usedBytes), to: .usedBytes)
    }

    // MARK: Reading

    func inode(_ id: FileID) throws(NamespaceError) -> Inode? {
        if let known = changed.inodes[id] ?? cache.inode(id) { return known.value }
        let inode = try mirrors.read { mirror throws(MirrorError) in try mirror.inode(id) }
        cache.add(MetadataCache.Known(inode), for: id)
        return inode
    }

    /// The inode of a file that other rows name: one that is missing is damage.
    func existingInode(_ id: FileID) throws(NamespaceError) -> Inode {
        if let inode = (changed.inodes[id] ?? cache.inode(id))?.value { return inode }
        let inode = try mirrors.read { mirror throws(MirrorError) in try mirror.existingInode(id) }
        cache.add(.present(inode), for: id)
        return inode
    }

    func entry(_ directory: FileID, _ name: FileName) throws(NamespaceError) -> EntryRow? {
        let key = MetadataCache.EntryKey(directory: directory, name: name)
        if let known = changed.entries[key] ?? cache.entry(key) { return known.value }
        let entry = try mirrors.read { mirror throws(MirrorError) in try mirror.entry(directory, name) }
        cache.add(MetadataCache.Known(entry), for: key)
        return entry
    }

    func group(_ id: BlockGroupID) throws(NamespaceError) -> BlockGroup? {
        try mirrors.read { mirror throws(MirrorError) in try mirror.group(id) }
    }

    // MARK: Ids

    func newFileID() -> FileID {
        if nextFileID >= states[.fileIDsReserved] ?? 0 {
            set(.fileIDsReserved, nextFileID + Self.fileIDsPerReservation)
        }
        defer { nextFileID += 1 }
        return FileID(rawValue: nextFileID)
    }

    func newGroupID() throws(NamespaceError) -> BlockGroupID {
        guard nextGroupOrdinal < durableGroupOrdinals else { throw .outOfGroupIDs }
        defer { nextGroupOrdinal += 1 }
        return BlockGroupID(ordinal: nextGroupOrdinal)
    }
}
