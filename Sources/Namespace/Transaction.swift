// What a body sees of the namespace.

public import Journal
public import Model

/// An entry of a directory.
public struct NamespaceEntry: Hashable, Sendable {
    public let name: FileName
    /// Its place in listings; greater than 2, and greater than those of older entries.
    public let cookie: UInt64
    public let child: FileID

    public init(name: FileName, cookie: UInt64, child: FileID) {
        self.name = name
        self.cookie = cookie
        self.child = child
    }
}

/// How much the namespace holds.
public struct NamespaceCounts: Hashable, Sendable {
    /// Inodes that are not directories.
    public let files: UInt64
    /// With the root.
    public let directories: UInt64
    public let blockGroups: UInt64
    /// The sum of the inodes' `usedBytes`.
    public let usedBytes: UInt64
}

/// The namespace within a body of `Namespace.perform`. It shows what earlier bodies and this one have
/// changed, whether durable yet or not.
///
/// Reads that fail throw `damaged` (every mirror's row is) or `failed`.
public struct Transaction: ~Copyable {
    let state: MetadataState

    public mutating func inode(_ id: FileID) throws(NamespaceError) -> Inode? { try state.inode(id) }

    /// The inode of a file that other rows name, as an entry does. A mirror that lacks it is damaged, and another one is
    /// asked.
    public mutating func existingInode(_ id: FileID) throws(NamespaceError) -> Inode {
        try state.existingInode(id)
    }

    public mutating func entry(_ directory: FileID, _ name: FileName) throws(NamespaceError) -> NamespaceEntry? {
        try state.entry(directory, name).map { NamespaceEntry(name: $0.name, cookie: $0.cookie, child: $0.child) }
    }

    /// At most `limit` entries with greater cookies than `cookie` (0: from the first), in the order of
    /// cookies. Not from the cache.
    public mutating func entries(
        _ directory: FileID, after cookie: UInt64, limit: Int
    ) throws(NamespaceError) -> [NamespaceEntry] {
        try state.entries(directory, after: cookie, limit: limit).map {
            NamespaceEntry(name: $0.name, cookie: $0.cookie, child: $0.child)
        }
    }

    /// The extents that share a byte with the range (nil: all), whole, in order. Not from the cache.
    public mutating func extents(
        _ file: FileID, overlapping range: ByteRange? = nil
    ) throws(NamespaceError) -> [Extent] {
        let range = range ?? ByteRange(0, Limits.maxFileBytes)
        return try state.extents(file, overlapping: range)
    }

    /// All extents of a file that has an inode, whole, in order, checked against the inode: none overlaps another, and
    /// none is missing. A mirror on which they contradict each other is damaged, and another one is asked. Not from the
    /// cache.
    public mutating func allExtents(_ file: FileID) throws(NamespaceError) -> [Extent] {
        try state.allExtents(file)
    }

    /// The group that an extent names, with at least the bytes up to `end`. A mirror that lacks it is damaged, and
    /// another one is asked. Not from the cache.
    public mutating func existingGroup(
        _ id: BlockGroupID, holding end: UInt64 = 0
    ) throws(NamespaceError) -> BlockGroup {
        try state.existingGroup(id, holding: end)
    }

    /// Not from the cache.
    public mutating func group(_ id: BlockGroupID) throws(NamespaceError) -> BlockGroup? { try state.group(id) }

    /// At most `limit` groups with greater ids (nil: from the first), in the order of ids. Not from the cache.
    public mutating func groups(
        after id: BlockGroupID?, limit: Int
    ) throws(NamespaceError) -> [BlockGroup] {
        try state.groups(after: id, limit: limit)
    }

    /// nil when it was never put.
    public mutating func state(_ key: StateKey) -> UInt64? { state.states[key] }

    public var epoch: Epoch { Epoch(rawValue: state.states[.epoch] ?? 0) }

    public var counts: NamespaceCounts {
        NamespaceCounts(
            files: state.states[.fileCount] ?? 0, directories: state.states[.directoryCount] ?? 0,
            blockGroups: state.states[.groupCount] ?? 0, usedBytes: state.states[.usedBytes] ?? 0)
    }

    /// An id that no file has or had.
    public mutating func newFileID() -> FileID { state.newFileID() }

    /// An id that no group has or had, durably reserved: files may be named by it at once, before a record
    /// says that there is such a group. Throws `outOfGroupIDs` when thousands are taken before the log has made a
    /// reservation durable.
    public mutating func newGroupID() throws(NamespaceError) -> BlockGroupID { try state.newGroupID() }

    /// Changes something. If the body throws, nothing of it stays.
    ///
    /// - Precondition: a key of `putState` is at least `StateKey.firstFree`; a cookie is at least
    ///   `Inode.firstCookie`.
    public mutating func mutate(_ mutation: Mutation) throws(NamespaceError) {
        if case .putState(let key, _) = mutation { precondition(key.rawValue >= StateKey.firstFree.rawValue) }
        try state.apply(mutation)
    }

    /// Adds bytes of files that are to become durable with the body's record, and in its place in the one order.
    ///
    /// - Precondition: the body is one of `Namespace.performJournaling`.
    public mutating func journal(_ payloads: [JournalPayload]) { state.journal(payloads) }

    /// Raises the epoch, after the mirror set was changed. Lowering is ignored.
    public mutating func raiseEpoch(to epoch: Epoch) {
        if epoch > self.epoch { state.set(.epoch, epoch.rawValue) }
    }

    /// Takes a range of a file out of its extents, cutting those that reach over its ends. Returns the
    /// pieces that were taken, so that their bytes can be taken off their groups.
    public mutating func cutExtents(_ file: FileID, _ range: ByteRange) throws(NamespaceError) -> [Extent] {
        guard !range.isEmpty else { return [] }
        var pieces: [Extent] = []
        for extent in try extents(file, overlapping: range) {
            if let piece = extent.clipped(to: range) { pieces.append(piece) }
            if let head = extent.clipped(to: ByteRange(0, range.lowerBound)) {
                try mutate(.putExtent(file: file, head))
            } else {
                try mutate(.removeExtent(file: file, offset: extent.range.lowerBound))
            }
            if range.upperBound < extent.range.upperBound,
                let tail = extent.clipped(to: ByteRange(range.upperBound, extent.range.upperBound))
            {
                try mutate(.putExtent(file: file, tail))
            }
        }
        return pieces
    }
}
