// What the namespace thread knows: the mirrors, on top of them the rows that not all of them have yet, with a cache in
// front; the numbers, and the ids that may be handed out. Bodies change the overlay, and no mirror.
//
// Invariants:
// * `overlay` on top of any mirror, and `states`, show what the last body left, the running one included; `changed`
//   and the cache show a part of that.
// * File ids below `states[.fileIDsReserved]` only; handed out once in the life of the store. They may be
//   reserved by the same record, since nobody hears of an id before it is durable.
// * Group ordinals below `durableGroupOrdinals` only, since a group's files are made before a record
//   names it.
//
// Only used on the namespace thread, but for `durableGroupOrdinals`.

internal import Journal
internal import Model
internal import Synchronization

final class MetadataState {
    let mirrors: MirrorSet
    let cache: MetadataCache
    let overlay: Overlay
    /// The rows that the running body has changed.
    private var changed = MetadataCache.Rows()
    /// Ids that the running body has taken, and those that it has given to directories.
    private var newIDs: Set<FileID> = []
    private var madeDirectories: Set<FileID> = []
    private(set) var states: [StateKey: UInt64]
    /// `states` as of the start of the running body, and the keys that it changed and no mutation states yet.
    private var statesBefore: [StateKey: UInt64]
    private var unwrittenStates: Set<StateKey> = []
    /// What the running body has changed, and the bytes that go with it.
    private var body: [Mutation] = []
    private var payloads: [JournalPayload] = []
    /// Bodies are being run: by one thread at a time.
    var isRunning = false
    /// Whether the running body may journal bytes: somebody takes the claims.
    var mayJournal = false
    /// The last record that was made.
    private(set) var lastNumber: LogNumber
    private var nextFileID: UInt64
    private var nextGroupOrdinal: UInt64
    private var reservedGroupOrdinals: UInt64
    private let durableGroupOrdinals: GroupReservation

    /// As many ids as are reserved at a time.
    private static let fileIDsPerReservation: UInt64 = 1000
    /// Reserved two batches ahead, at least: a body in a batch of at most `Namespace.maxBatch` = 1024 may take two.
    private static let groupOrdinalsPerReservation: UInt64 = 4096

    /// Up to where ordinals of groups are durably reserved. Thread-safe.
    final class GroupReservation: Sendable {
        let ordinals: Atomic<UInt64>
        init(_ ordinals: UInt64) { self.ordinals = Atomic(ordinals) }
    }

    /// What a body leaves for the log.
    struct KeptBody {
        let record: MetadataRecord
        let payloads: [JournalPayload]
        /// To be called when it is durable, before anybody hears of it.
        let whenDurable: (@Sendable () -> Void)?
    }

    /// - Parameters:
    ///   - records: all that a mirror lacks.
    ///   - number: of the last of them, or that before the next.
    init(
        _ mirrors: MirrorSet, records: [MetadataRecord], lastNumber number: LogNumber, cache: MetadataCache
    ) throws(NamespaceError) {
        self.mirrors = mirrors
        self.cache = cache
        lastNumber = number
        overlay = Overlay(records)
        states = try mirrors.read { mirror throws(MirrorError) in try mirror.states() }
        states.merge(overlay.states) { $1 }
        statesBefore = states
        // What was reserved and not used in an earlier life may be on some disk: it is skipped.
        nextFileID = states[.fileIDsReserved] ?? FileID.root.rawValue + 1
        nextGroupOrdinal = states[.groupOrdinalsReserved] ?? 0
        reservedGroupOrdinals = nextGroupOrdinal
        durableGroupOrdinals = GroupReservation(nextGroupOrdinal)
    }

    // MARK: Bodies

    /// Ends a body that succeeded. Returns what it leaves for the log; nil: nothing.
    func keepBody() -> KeptBody? {
        for key in unwrittenStates.sorted(by: { $0.rawValue < $1.rawValue }) {
            body.append(.putState(key, states[key] ?? 0))
        }
        unwrittenStates = []
        statesBefore = states
        overlay.keepBody()
        cache.show(changed, made: madeDirectories)
        changed.removeAll()
        madeDirectories = []
        newIDs = []
        defer {
            body = []
            payloads = []
        }
        guard !body.isEmpty || !payloads.isEmpty else { return nil }
        lastNumber = lastNumber.next
        var whenDurable: (@Sendable () -> Void)?
        if let reserved = states[.groupOrdinalsReserved], reserved != reservedGroupOrdinals {
            reservedGroupOrdinals = reserved
            whenDurable = { [durableGroupOrdinals] in
                durableGroupOrdinals.ordinals.store(reserved, ordering: .releasing)
            }
        }
        return KeptBody(
            record: MetadataRecord(number: lastNumber, mutations: body), payloads: payloads, whenDurable: whenDurable)
    }

    /// Ends a body that failed: as if it had not been. Ids that it took stay taken.
    func dropBody() {
        states = statesBefore
        unwrittenStates = []
        cache.forgetHidden()
        changed.removeAll()
        madeDirectories = []
        newIDs = []
        body = []
        payloads = []
        overlay.dropBody()
    }

    /// To be called at the start of a batch: sees to it that block group ids don't run out in it.
    func reserveGroupIDs() -> KeptBody? {
        guard reservedGroupOrdinals - nextGroupOrdinal < Self.groupOrdinalsPerReservation else { return nil }
        set(.groupOrdinalsReserved, reservedGroupOrdinals + Self.groupOrdinalsPerReservation)
        return keepBody()
    }

    /// All mirrors have the batch.
    func dropApplied(_ batch: Applier.AppliedBatch) { overlay.drop(batch.changes, through: batch.number) }

    // MARK: Changing

    func apply(_ mutation: Mutation) throws(NamespaceError) {
        switch mutation {
        case .putInode(let inode):
            if newIDs.remove(inode.id) != nil {
                if inode.type == .directory { madeDirectories.insert(inode.id) }
            } else {
                count(try self.inode(inode.id), by: -1)
            }
            count(inode, by: 1)
            change(inode.id, to: .present(inode))
        case .removeInode(let id):
            count(try inode(id), by: -1)
            change(id, to: .absent)
        case .putEntry(let directory, let name, let cookie, let child):
            precondition(cookie >= Inode.firstCookie && cookie <= UInt64(Int64.max))
            change(
                MetadataCache.EntryKey(directory: directory, name: name),
                to: .present(EntryRow(name: name, cookie: cookie, child: child)))
        case .removeEntry(let directory, let name):
            change(MetadataCache.EntryKey(directory: directory, name: name), to: .absent)
        case .putExtent, .removeExtent, .removeExtents: break
        case .putGroup(let group):
            if try self.group(group.id) == nil { add(1, to: .groupCount) }
        case .removeGroup(let id):
            if try group(id) != nil { add(-1, to: .groupCount) }
        case .putState(let key, let value):
            body.append(mutation)
            states[key] = value
            return
        }
        body.append(mutation)
        overlay.applyForBody(mutation, as: lastNumber.next)
    }

    func journal(_ payloads: [JournalPayload]) {
        precondition(mayJournal, "nobody would take the claims")
        self.payloads += payloads
    }

    func changedInode(_ id: FileID) -> MetadataCache.Known<Inode>? { changed.inodes[id] }

    func changedEntry(_ key: MetadataCache.EntryKey) -> MetadataCache.Known<EntryRow>? { changed.entries[key] }

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

    // MARK: Ids

    func newFileID() -> FileID {
        if nextFileID >= states[.fileIDsReserved] ?? 0 {
            set(.fileIDsReserved, nextFileID + Self.fileIDsPerReservation)
        }
        let id = FileID(rawValue: nextFileID)
        nextFileID += 1
        newIDs.insert(id)
        return id
    }

    func newGroupID() throws(NamespaceError) -> BlockGroupID {
        guard nextGroupOrdinal < durableGroupOrdinals.ordinals.load(ordering: .acquiring) else {
            throw .outOfGroupIDs
        }
        defer { nextGroupOrdinal += 1 }
        return BlockGroupID(ordinal: nextGroupOrdinal)
    }
}
