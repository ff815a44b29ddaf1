// Changes of inodes, each in its record and in its node at the same moment. Everything here runs on the
// namespace thread, inside a body of `transact`.
//
// What can fail comes first: rows are read and checked before a node in memory is touched, so that a body
// that throws has changed nothing.

internal import FileService
internal import Model
internal import Namespace
internal import Synchronization
internal import WriteBack

extension StoreCore {
    /// What a body leaves to be done once its record is durable.
    struct Effects: Sendable {
        /// Groups without a live byte.
        var deadGroups: [BlockGroup] = []
        /// Pending bytes that a truncate or remove took away.
        var freedBytes = 0
        /// A removed file, whose output is to be closed.
        var removed: FileNode?
        /// A truncated file, and the place of the truncate in its order.
        var truncated: (node: FileNode, sequence: WriteSequence)?

        static let none = Effects()
    }

    /// Call once the record is durable.
    func carryOut(_ effects: Effects, _ writeBack: WriteBack<GroupSink>) {
        if effects.freedBytes != 0 { writeBack.release(effects.freedBytes) }
        if let context = effects.removed?.context { writeBack.settle(context) }
        if let truncated = effects.truncated { truncated.node.context?.truncateIsDurable(truncated.sequence) }
        deleteBlocks(of: effects.deadGroups)
    }

    /// An inode with its live attributes.
    func entry(of inode: Inode) -> FileEntry {
        FileEntry(file: inode.reference, attributes: nodes[inode.id]?.attributes ?? inode.attributes)
    }

    /// Puts a row as it is, for everything but regular files.
    func record(_ inode: Inode, _ transaction: inout Transaction) throws(FileError) {
        try transaction.put(.putInode(inode))
        nodes[inode.id]?.update(from: inode)
    }

    /// Changes attributes other than the size: on top of the live ones where the inode is in use, since its
    /// times and mode may be ahead of the row. When `change` throws, nothing has changed. What is returned has no
    /// WRITE between its halves (RFC 1813 §2.6: wcc_data).
    @discardableResult
    func change(
        _ inode: inout Inode, _ transaction: inout Transaction,
        _ change: (inout FileAttributes) throws(FileError) -> Void
    ) throws(FileError) -> AttributeChange {
        if let node = nodes[inode.id], let context = node.context {
            let step = try context.updateAttributes(change)
            inode.adopt(context.attributes)
            try transaction.put(.putInode(inode))
            return AttributeChange(before: step.before, after: step.after)
        }
        let before = inode.attributes
        var after = before
        try change(&after)
        inode.adopt(after)
        try record(inode, &transaction)
        return AttributeChange(before: before, after: after)
    }

    /// An inode that is not linked yet.
    func newInode(
        _ type: FileType, _ update: AttributeUpdate, in parent: Inode, as caller: Credentials, now: Timestamp,
        _ transaction: inout Transaction
    ) throws(FileError) -> Inode {
        try parent.checkCreation(by: caller)
        if let uid = update.uid, uid != caller.uid, !caller.isSuperuser { throw .notOwner }
        // A setgid directory passes its group on to what is made without one being named.
        let inherited = parent.mode & 0o2000 != 0 ? parent.gid : nil
        let gid = update.gid ?? inherited ?? caller.gid
        if gid != inherited, !caller.isSuperuser, !caller.isMember(of: gid) { throw .notOwner }
        var mode = (update.mode ?? type.usualMode) & 0o7777
        if type != .directory, !caller.isSuperuser, !caller.isMember(of: gid) { mode &= ~0o2000 }
        var random = SystemRandomNumberGenerator()
        var inode = Inode(
            id: transaction.newFileID(), generation: FileGeneration(rawValue: random.next()), type: type,
            mode: mode, linkCount: 1, uid: update.uid ?? caller.uid, gid: gid, accessTime: now, modificationTime: now,
            changeTime: now)
        if case .to(let time) = update.accessTime { inode.accessTime = time }
        if case .to(let time) = update.modificationTime { inode.modificationTime = time }
        return inode
    }

    /// Gives a new inode its name.
    func link(
        _ inode: Inode, as name: FileName, into directory: Inode, by caller: Credentials, now: Timestamp,
        _ transaction: inout Transaction
    ) throws(FileError) -> CreatedEntry {
        var directory = directory
        let before = directory.attributes
        if inode.type == .directory {
            guard directory.linkCount < Limits.maxLinks else { throw .tooManyLinks }
            directory.linkCount += 1
        }
        try transaction.put(.putInode(inode))
        try putEntry(name, of: inode.id, into: &directory, now: now, &transaction)
        try record(directory, &transaction)
        // Who creates a file writes to it next: its node is there then, and the first WRITE need not wait.
        if inode.type == .regular { nodes.insert(FileNode(inode, writes: writeEpochs)) }
        return CreatedEntry(
            entry: FileEntry(file: inode.reference, attributes: inode.attributes),
            directory: AttributeChange(before: before, after: directory.attributes))
    }

    /// Puts a name into a directory, at the end of its listing. The caller records the directory.
    func putEntry(
        _ name: FileName, of child: FileID, into directory: inout Inode, now: Timestamp,
        _ transaction: inout Transaction
    ) throws(FileError) {
        try transaction.put(
            .putEntry(directory: directory.id, name: name, cookie: directory.nextCookie, child: child))
        directory.nextCookie += 1
        directory.entryCount += 1
        directory.touch(now)
    }

    /// Takes a name away, and the inode with its last one. The caller records the directory.
    func unlink(
        _ inode: Inode, named name: FileName, from directory: inout Inode, now: Timestamp,
        _ transaction: inout Transaction
    ) throws(FileError) -> Effects {
        var inode = inode
        var effects = Effects.none
        let isLast = inode.type == .directory || inode.linkCount <= 1
        if isLast, inode.type == .regular {
            // What the journal holds of it goes with the node.
            if recovered.contains(inode.id) { _ = try loadNode(inode, &transaction) }
            let extents: [Extent]
            if let node = nodes[inode.id] {
                extents = node.extents.withLock { $0.extents }
            } else {
                extents = try transaction.allExtents(of: inode.id)
            }
            var edit = ExtentMap.Edit()
            edit.removed = extents
            effects.deadGroups = try record(edit, of: inode.id, &transaction)
        }
        try transaction.put(.removeEntry(directory: directory.id, name: name))
        directory.entryCount -= 1
        if inode.type == .directory { directory.linkCount -= 1 }
        directory.touch(now)
        if isLast {
            try transaction.put(.removeInode(inode.id))
            if let node = nodes[inode.id] {
                // In this order: a reader who finds no extents any more finds the file removed.
                effects.freedBytes = node.context?.remove() ?? 0
                node.extents.withLock { $0 = ExtentMap() }
                effects.removed = node
                nodes.remove(inode.id)
            }
        } else {
            try change(&inode, &transaction) { attributes in
                attributes.linkCount -= 1
                attributes.touchChangeTime(now)
            }
        }
        return effects
    }

    /// Sets the size of a regular file, up or down. Pending bytes, extents and row change as one.
    /// - Parameter guardTime: throws `notSynchronized` and changes nothing if this is not the change time.
    func truncate(
        _ node: FileNode, _ inode: inout Inode, to size: UInt64, ifChangedAt guardTime: Timestamp? = nil,
        clearing mode: UInt32, now: Timestamp,
        _ transaction: inout Transaction, alsoChanging change: (inout FileAttributes) -> Void = { _ in }
    ) throws(FileError) -> (change: AttributeChange, effects: Effects) {
        guard size <= Limits.maxFileBytes else { throw .fileTooBig }
        guard let context = node.context else { throw .invalidArgument }
        var map = node.extents.withLock { $0 }
        let edit = map.truncate(to: size)
        var effects = Effects.none
        effects.deadGroups = try record(edit, of: inode.id, &transaction)

        let used = try inode.usedBytes.changed(by: edit.byteChange)
        let result = node.extents.withLock { extents in
            Result { () throws(FileError) in
                let truncated = try context.truncate(to: size) { attributes throws(FileError) in
                    try attributes.checkGuard(guardTime)
                    attributes.usedBytes = used
                    attributes.mode &= ~mode
                    attributes.touch(now)
                    change(&attributes)
                }
                extents = map
                return truncated
            }
        }
        guard case .success(let truncated) = result else {
            // A WRITE came meanwhile. The rows stay, so these groups don't die.
            for group in effects.deadGroups { groups.forget(group.id) }
            throw .notSynchronized
        }
        effects.freedBytes = truncated.freedBytes
        effects.truncated = (node, truncated.sequence)
        inode.adopt(context.attributes)
        inode.size = size
        inode.usedBytes = used
        inode.writeSequence = truncated.sequence
        try transaction.put(.putInode(inode))
        return (AttributeChange(before: truncated.step.before, after: truncated.step.after), effects)
    }

    /// Records an edit of a file's extents; see the other `record`.
    func record(
        _ edit: ExtentMap.Edit, of file: FileID, _ transaction: inout Transaction
    ) throws(FileError) -> [BlockGroup] {
        try record([(file, edit)], rows: [], &transaction)
    }

    /// Records edits of files' extents and of the live bytes of the groups they touch. Returns the groups
    /// that have none left; their rows are gone then.
    ///
    /// - Parameter rows: of groups that are new or change otherwise, with the live bytes before the edits.
    func record(
        _ edits: [(file: FileID, edit: ExtentMap.Edit)], rows: [BlockGroup], _ transaction: inout Transaction
    ) throws(FileError) -> [BlockGroup] {
        var rows = rows
        let given = Set(rows.map(\.id))
        var changes: [BlockGroupID: Int64] = [:]
        for (_, edit) in edits { changes.merge(edit.liveByteChanges, uniquingKeysWith: +) }
        for id in changes.keys where !given.contains(id) { rows.append(try transaction.published(id)) }

        for (file, edit) in edits {
            for extent in edit.removed {
                try transaction.put(.removeExtent(file: file, offset: extent.range.lowerBound))
            }
            for extent in edit.added.values { try transaction.put(.putExtent(file: file, extent)) }
        }
        var dead: [BlockGroup] = []
        for var row in rows {
            row.liveBytes = try row.liveBytes.changed(by: changes[row.id] ?? 0)
            // A group that a stream still appends to is kept, however empty; it is looked at again when the
            // stream ends.
            if row.liveBytes == 0, !groups.isOpen(row.id) {
                try transaction.put(.removeGroup(row.id))
                groups.retire(row)
                dead.append(row)
            } else {
                try transaction.put(.putGroup(row))
                groups.update(row)
            }
        }
        return dead
    }
}

extension FileAttributes {
    /// The guard of SETATTR (RFC 1813 §3.3.2).
    func checkGuard(_ time: Timestamp?) throws(FileError) {
        if let time, time != changeTime { throw .notSynchronized }
    }
}

extension UInt64 {
    /// A count of bytes that the namespace keeps, after a change. Throws where the rows contradict each other.
    func changed(by change: Int64) throws(FileError) -> UInt64 {
        guard let old = Int64(exactly: self), case let (sum, overflow) = old.addingReportingOverflow(change), !overflow,
            sum >= 0
        else { throw .inputOutput }
        return UInt64(sum)
    }
}

extension FileType {
    /// Of a file whose maker says nothing of it. The mode of a symbolic link means nothing; Linux shows this one.
    fileprivate var usualMode: UInt32 {
        switch self {
        case .directory: 0o755
        case .symbolicLink: 0o777
        case .regular, .blockDevice, .characterDevice, .socket, .fifo: 0o644
        }
    }
}

extension Inode {
    /// Takes over everything that a record may carry at any time: not size and used bytes, which are those of
    /// the recorded extents.
    mutating func adopt(_ attributes: FileAttributes) {
        mode = attributes.mode
        uid = attributes.uid
        gid = attributes.gid
        linkCount = attributes.linkCount
        accessTime = attributes.accessTime
        modificationTime = attributes.modificationTime
        changeTime = attributes.changeTime
    }

    fileprivate func checkCreation(by caller: Credentials) throws(FileError) {
        guard attributes.allowsChangingEntries(by: caller) else { throw .accessDenied }
    }
}
