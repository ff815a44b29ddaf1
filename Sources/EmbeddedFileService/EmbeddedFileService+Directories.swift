// Operations on names. Each is one body on the namespace thread, so it is atomic, and its pre-operation
// attributes are true (RFC 1813 §1.8: wcc data).

public import FileService
public import Model
internal import Namespace
internal import Platform
internal import WriteBack

extension EmbeddedFileService {
    public func lookUp(
        _ name: FileName, in directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> FileEntry {
        if !name.isDot, !name.isDotDot, let entry = try core.entryInMemory(name, in: directory, as: caller) {
            return entry
        }
        return try await core.look { [core] transaction throws(FileError) in
            let parent = try transaction.directory(directory)
            guard parent.attributes.allowsExecute(by: caller) else { throw .accessDenied }
            let inode: Inode
            if name.isDot {
                inode = parent
            } else if name.isDotDot {
                inode = try transaction.existing(parent.parent ?? .root)
            } else {
                inode = try transaction.child(name, of: parent)
            }
            return core.entry(of: inode)
        }
    }

    public func create(
        _ name: FileName, in directory: FileReference, mode: CreateMode, as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        let now = core.clock.now()
        let (created, effects) = try await core.transact(.newName(name, in: directory.id)) {
            [core] transaction throws(FileError) -> (CreatedEntry, StoreCore.Effects) in
            let parent = try transaction.directory(directory)
            guard parent.attributes.allowsExecute(by: caller) else { throw .accessDenied }
            let unchanged = AttributeChange(before: parent.attributes, after: parent.attributes)
            guard !name.isDot, !name.isDotDot else { throw .alreadyExists }
            if var existing = try transaction.childIfAny(name, of: parent) {
                switch mode {
                case .guarded:
                    throw .alreadyExists
                case .exclusive(let verifier):
                    // RFC 1813 §3.3.8: the same verifier means a retransmission.
                    guard existing.exclusiveVerifier == verifier else { throw .alreadyExists }
                    return (CreatedEntry(entry: core.entry(of: existing), directory: unchanged), .none)
                case .unchecked(let update):
                    guard existing.type == .regular else { throw .alreadyExists }
                    var effects = StoreCore.Effects.none
                    if let size = update.size {
                        let node = try core.loadNode(existing, &transaction)
                        guard node.attributes.allowsWritingData(by: caller) else { throw .accessDenied }
                        effects = try core.truncate(
                            node, &existing, to: size, clearing: node.attributes.modeBitsClearedByWriting(by: caller),
                            now: now, &transaction
                        ).effects
                    }
                    return (CreatedEntry(entry: core.entry(of: existing), directory: unchanged), effects)
                }
            }
            let update: AttributeUpdate
            var verifier: UInt64?
            switch mode {
            case .unchecked(let attributes), .guarded(let attributes): update = attributes
            case .exclusive(let value):
                // The client sets the attributes with the SETATTR that follows.
                update = AttributeUpdate(mode: 0o600)
                verifier = value
            }
            var inode = try core.newInode(.regular, update, in: parent, as: caller, now: now, &transaction)
            inode.exclusiveVerifier = verifier
            if let size = update.size {
                guard size <= Limits.maxFileBytes else { throw .fileTooBig }
                inode.size = size
            }
            return (try core.link(inode, as: name, into: parent, by: caller, now: now, &transaction), .none)
        }
        core.carryOut(effects, writeBack)
        return created
    }

    public func makeDirectory(
        _ name: FileName, in directory: FileReference, attributes: AttributeUpdate, as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        let now = core.clock.now()
        return try await core.transact { [core] transaction throws(FileError) in
            let parent = try transaction.directoryForNewName(name, directory, caller)
            var inode = try core.newInode(.directory, attributes, in: parent, as: caller, now: now, &transaction)
            try transaction.checkRoom(below: parent)
            inode.parent = parent.id
            inode.linkCount = 2
            if parent.mode & 0o2000 != 0 { inode.mode |= 0o2000 }
            return try core.link(inode, as: name, into: parent, by: caller, now: now, &transaction)
        }
    }

    public func remove(
        _ name: FileName, from directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> AttributeChange {
        let now = core.clock.now()
        let (change, effects) = try await core.transact {
            [core] transaction throws(FileError) -> (AttributeChange, StoreCore.Effects) in
            var parent = try transaction.directory(directory)
            let before = parent.attributes
            try parent.checkChange(by: caller)
            guard !name.isDot, !name.isDotDot else { throw .isDirectory }
            let inode = try transaction.child(name, of: parent)
            guard inode.type != .directory else { throw .isDirectory }
            try parent.checkSticky(inode, by: caller)
            let effects = try core.unlink(inode, named: name, from: &parent, now: now, &transaction)
            try core.record(parent, &transaction)
            return (AttributeChange(before: before, after: parent.attributes), effects)
        }
        core.carryOut(effects, writeBack)
        return change
    }

    public func removeDirectory(
        _ name: FileName, from directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> AttributeChange {
        let now = core.clock.now()
        return try await core.transact { [core] transaction throws(FileError) in
            var parent = try transaction.directory(directory)
            let before = parent.attributes
            try parent.checkChange(by: caller)
            // RFC 1813 §3.3.13.
            if name.isDot { throw .invalidArgument }
            if name.isDotDot { throw .alreadyExists }
            let inode = try transaction.child(name, of: parent)
            guard inode.type == .directory else { throw .notDirectory }
            try parent.checkSticky(inode, by: caller)
            guard inode.entryCount == 0 else { throw .notEmpty }
            _ = try core.unlink(inode, named: name, from: &parent, now: now, &transaction)
            try core.record(parent, &transaction)
            return AttributeChange(before: before, after: parent.attributes)
        }
    }

    public func rename(
        _ name: FileName, in directory: FileReference, to newName: FileName, in newDirectory: FileReference,
        as caller: Credentials
    ) async throws(FileError) -> RenameResult {
        let now = core.clock.now()
        let (result, effects) = try await core.transact {
            [core] transaction throws(FileError) -> (RenameResult, StoreCore.Effects) in
            var source = try transaction.directory(directory)
            var target = try transaction.directory(newDirectory)
            let (sourceBefore, targetBefore) = (source.attributes, target.attributes)
            try source.checkChange(by: caller)
            try target.checkChange(by: caller)
            guard !name.isDot, !name.isDotDot, !newName.isDot, !newName.isDotDot else { throw .invalidArgument }
            var moved = try transaction.child(name, of: source)
            try source.checkSticky(moved, by: caller)
            let replaced = try transaction.childIfAny(newName, of: target)
            if let replaced {
                // RFC 1813 §3.3.14: two names of one file: nothing happens, and it succeeds.
                if replaced.id == moved.id {
                    let (s, t) = (source.attributes, target.attributes)
                    return (
                        RenameResult(
                            source: AttributeChange(before: sourceBefore, after: s),
                            target: AttributeChange(before: targetBefore, after: t)), .none
                    )
                }
                try target.checkSticky(replaced, by: caller)
                switch (moved.type == .directory, replaced.type == .directory) {
                case (true, false): throw .notDirectory
                case (false, true): throw .isDirectory
                case (true, true) where replaced.entryCount > 0: throw .notEmpty
                default: break
                }
            }
            let isSame = source.id == target.id
            if moved.type == .directory, !isSame {
                // Its ".." changes, as rename(2) has it.
                guard moved.attributes.allowsWrite(by: caller) else { throw .accessDenied }
                try transaction.checkRoom(below: target, for: moved.id)
                guard target.linkCount < Limits.maxLinks || replaced?.type == .directory else { throw .tooManyLinks }
            }

            var effects = StoreCore.Effects.none
            if let replaced {
                effects = try core.unlink(replaced, named: newName, from: &target, now: now, &transaction)
                if isSame { source = target }
            }
            try transaction.put(.removeEntry(directory: source.id, name: name))
            source.entryCount -= 1
            source.touch(now)
            if isSame { target = source }
            try core.putEntry(newName, of: moved.id, into: &target, now: now, &transaction)
            if isSame {
                source = target
            } else if moved.type == .directory {
                moved.parent = target.id
                source.linkCount -= 1
                target.linkCount += 1
            }
            try core.change(&moved, &transaction) { $0.touchChangeTime(now) }
            try core.record(source, &transaction)
            if !isSame { try core.record(target, &transaction) }
            return (
                RenameResult(
                    source: AttributeChange(before: sourceBefore, after: source.attributes),
                    target: AttributeChange(before: targetBefore, after: target.attributes)), effects
            )
        }
        core.carryOut(effects, writeBack)
        return result
    }

    public func list(
        _ directory: FileReference, after cookie: UInt64, maxEntries: Int, withAttributes: Bool,
        as caller: Credentials
    ) async throws(FileError) -> DirectoryListing {
        try await core.look { [core] transaction throws(FileError) in
            let parent = try transaction.directory(directory)
            guard parent.attributes.allowsRead(by: caller) else { throw .accessDenied }
            // READDIRPLUS gives what LOOKUP would (RFC 1813 §3.3.17), to whom may look up.
            let withAttributes = withAttributes && parent.attributes.allowsExecute(by: caller)
            var entries: [DirectoryEntry] = []
            func add(_ name: [UInt8], cookie: UInt64, _ inode: Inode) throws(FileError) {
                guard let name = try? FileName(name) else { throw .inputOutput }
                entries.append(
                    DirectoryEntry(
                        name: name, cookie: cookie, fileID: inode.id,
                        entry: withAttributes ? core.entry(of: inode) : nil))
            }
            let dot = UInt8(ascii: ".")
            if cookie < 1, entries.count < maxEntries { try add([dot], cookie: 1, parent) }
            if cookie < 2, entries.count < maxEntries {
                try add([dot, dot], cookie: 2, try transaction.existing(parent.parent ?? .root))
            }
            // ".." is an entry too: a listing that has no room for it is not at the end, be the directory empty or not.
            guard cookie >= 2 || entries.last?.cookie == 2 else {
                return DirectoryListing(entries: entries, isAtEnd: false, attributes: parent.attributes)
            }
            // One more than asked for, to see whether the end is reached.
            let room = maxEntries - entries.count
            let rows = try transaction.entries(of: parent.id, after: max(cookie, 2), limit: room + 1)
            for row in rows.prefix(room) {
                if withAttributes {
                    try add(row.name.bytes, cookie: row.cookie, try transaction.existing(row.child))
                } else {
                    entries.append(
                        DirectoryEntry(name: row.name, cookie: row.cookie, fileID: row.child, entry: nil))
                }
            }
            return DirectoryListing(entries: entries, isAtEnd: rows.count <= room, attributes: parent.attributes)
        }
    }
}

extension Transaction {
    /// Whether a directory may come into this one, which must not be too deep, nor in the one that moves.
    ///
    /// Bounded for the sake of all others: the namespace thread does nothing else meanwhile. A directory that moves
    /// takes what is in it along, which may get deeper than the limit; then nothing comes into its depths any more.
    fileprivate mutating func checkRoom(below directory: Inode, for moved: FileID? = nil) throws(FileError) {
        var ancestor = directory
        var depth = 0
        while ancestor.id != .root {
            if ancestor.id == moved { throw .invalidArgument }
            depth += 1
            guard depth < Limits.maxDirectoryDepth else { throw .nameTooLong }
            ancestor = try existing(ancestor.parent ?? .root)
        }
    }
}

extension Inode {
    var reference: FileReference { FileReference(id: id, generation: generation) }

    mutating func touch(_ now: Timestamp) {
        modificationTime = now
        changeTime = max(now, changeTime.successor)
    }

    func checkChange(by caller: Credentials) throws(FileError) {
        guard attributes.allowsChangingEntries(by: caller) else { throw .accessDenied }
    }

    fileprivate func checkSticky(_ child: Inode, by caller: Credentials) throws(FileError) {
        if attributes.isProtectedBySticky(entryOwnedBy: child.uid, from: caller) { throw .notOwner }
    }
}
