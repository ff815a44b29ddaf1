// What the namespace thread knows: the mirrors, with caches in front of them, the numbers, and the ids
// that may be handed out.
//
// Invariants:
// * Caches and `states` show what the primary shows, the running body included.
// * File ids below `states[.fileIDsReserved]` only; handed out once in the life of the store. They may be
//   reserved by the same batch, since nobody hears of an id before its batch is durable.
// * Group ordinals below `durableGroupOrdinals` only, since a group's files are made before a record
//   names it.
//
// Only used on the namespace thread.

internal import Model
internal import Platform

final class MetadataState {
    struct EntryKey: Hashable {
        let directory: FileID
        let name: FileName
    }

    /// The values of a cache: also that there is nothing.
    enum Cached<Value> {
        case present(Value)
        case absent
    }

    let mirrors: MirrorSet
    var inodes: GenerationalCache<FileID, Cached<Inode>>
    var entries: GenerationalCache<EntryKey, Cached<EntryRow>>
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
        inodes = GenerationalCache(limit: cacheLimit)
        entries = GenerationalCache(limit: cacheLimit)
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
        try mirrors.keepBody()
        return hasChanged
    }

    /// Ends a body that failed: as if it had not been. Ids that it took stay taken.
    func dropBody() throws(NamespaceError) {
        states = statesBefore
        unwrittenStates = []
        for mutation in mirrors.body {
            switch mutation {
            case .putInode(let inode): inodes[inode.id] = nil
            case .removeInode(let id): inodes[id] = nil
            case .putEntry(let directory, let name, _, _), .removeEntry(let directory, let name):
                entries[EntryKey(directory: directory, name: name)] = nil
            case .putExtent, .removeExtent, .putGroup, .removeGroup, .putState: break
            }
        }
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
        try mirrors.commit()
        durableGroupOrdinals = states[.groupOrdinalsReserved] ?? 0
    }

    // MARK: Changing

    func apply(_ mutation: Mutation) throws(NamespaceError) {
        switch mutation {
        case .putInode(let inode):
            count(try self.inode(inode.id), by: -1)
            try mirrors.apply(mutation)
            count(inode, by: 1)
            inodes[inode.id] = .present(inode)
        case .removeInode(let id):
            let old = try inode(id)
            try mirrors.apply(mutation)
            count(old, by: -1)
            inodes[id] = .absent
        case .putEntry(let directory, let name, let cookie, let child):
            precondition(cookie >= Inode.firstCookie && cookie <= UInt64(Int64.max))
            try mirrors.apply(mutation)
            entries[EntryKey(directory: directory, name: name)] = .present(
                EntryRow(name: name, cookie: cookie, child: child))
        case .removeEntry(let directory, let name):
            try mirrors.apply(mutation)
            entries[EntryKey(directory: directory, name: name)] = .absent
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
        switch inodes[id] {
        case .present(let inode): return inode
        case .absent: return nil
        case nil:
            let inode = try mirrors.read { mirror throws(MirrorError) in try mirror.inode(id) }
            inodes[id] = inode.map { .present($0) } ?? .absent
            return inode
        }
    }

    func entry(_ directory: FileID, _ name: FileName) throws(NamespaceError) -> EntryRow? {
        let key = EntryKey(directory: directory, name: name)
        switch entries[key] {
        case .present(let entry): return entry
        case .absent: return nil
        case nil:
            let entry = try mirrors.read { mirror throws(MirrorError) in try mirror.entry(directory, name) }
            entries[key] = entry.map { .present($0) } ?? .absent
            return entry
        }
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
