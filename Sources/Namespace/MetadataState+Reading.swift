// Rows as the last body left them: those of a mirror, with the overlay on top.
//
// What the rows of a mirror and the overlay say together is checked as the rows of a mirror alone would be: where they
// contradict each other, the mirror is damaged, and another one is asked.

internal import Model

extension MetadataState {
    func inode(_ id: FileID) throws(NamespaceError) -> Inode? {
        if let known = known(id) { return known.value }
        let inode = try mirrors.read { mirror throws(MirrorError) in try mirror.inode(id) }
        cache.add(MetadataCache.Known(inode), for: id)
        return inode
    }

    /// What is known without asking a mirror.
    func known(_ id: FileID) -> MetadataCache.Known<Inode>? {
        if let known = changedInode(id) ?? cache.inode(id) { return known }
        guard let row = overlay.inodes[id] else { return nil }
        let known = MetadataCache.Known(row.value)
        cache.add(known, for: id)
        return known
    }

    /// Whether a body that looks at this alone needs no mirror.
    func knows(_ footprint: Footprint) -> Bool {
        switch footprint {
        case .inode(let id): return known(id) != nil
        case .newName(let name, let directory):
            guard known(directory)?.value != nil else { return false }
            let key = MetadataCache.EntryKey(directory: directory, name: name)
            guard let entry = changedEntry(key) ?? cache.entry(key) else { return false }
            return entry.value == nil
        }
    }

    /// The inode of a file that other rows name: one that is missing is damage.
    func existingInode(_ id: FileID) throws(NamespaceError) -> Inode {
        if let inode = known(id)?.value { return inode }
        guard overlay.inodes[id] == nil else { throw .damaged("the log has removed \(id), which is in use") }
        let inode = try mirrors.read { mirror throws(MirrorError) in try mirror.existingInode(id) }
        cache.add(.present(inode), for: id)
        return inode
    }

    func entry(_ directory: FileID, _ name: FileName) throws(NamespaceError) -> EntryRow? {
        let key = MetadataCache.EntryKey(directory: directory, name: name)
        if let known = changedEntry(key) ?? cache.entry(key) { return known.value }
        let entry: EntryRow?
        if let row = overlay.directories[directory]?.rows[name] {
            entry = row.value
        } else {
            entry = try mirrors.read { mirror throws(MirrorError) in try mirror.entry(directory, name) }
        }
        cache.add(MetadataCache.Known(entry), for: key)
        return entry
    }

    func group(_ id: BlockGroupID) throws(NamespaceError) -> BlockGroup? {
        if let row = overlay.groups.rows[id] { return row.value }
        return try mirrors.read { mirror throws(MirrorError) in try mirror.group(id) }
    }

    /// A group that other rows name, the bytes up to `end` of it.
    func existingGroup(_ id: BlockGroupID, holding end: UInt64) throws(NamespaceError) -> BlockGroup {
        guard let row = overlay.groups.rows[id] else {
            return try mirrors.read { mirror throws(MirrorError) in try mirror.existingGroup(id, holding: end) }
        }
        guard let group = row.value, end <= group.length else {
            throw .damaged(
                "the log has \(row.value.map { "\($0.length) bytes" } ?? "nothing") of \(id), needed: \(end)")
        }
        return group
    }

    // MARK: Ranges

    func entries(_ directory: FileID, after cookie: UInt64, limit: Int) throws(NamespaceError) -> [EntryRow] {
        let changes = overlay.directories[directory]
        let own = changes?.entries(after: cookie, limit: limit) ?? []
        return try mirrors.read { mirror throws(MirrorError) in
            try Self.merge(own, limit: limit, after: cookie, of: \.cookie) {
                changes?.rows[$0.name] != nil
            } page: { position, count throws(MirrorError) in
                try mirror.entries(directory, after: position ?? 0, limit: count)
            }
        }
    }

    func groups(after id: BlockGroupID?, limit: Int) throws(NamespaceError) -> [BlockGroup] {
        let own = overlay.groups.groups(after: id, limit: limit)
        return try mirrors.read { mirror throws(MirrorError) in
            try Self.merge(own, limit: limit, after: id, of: \.id) {
                overlay.groups.rows[$0.id] != nil
            } page: { position, count throws(MirrorError) in
                try mirror.groups(after: position, limit: count)
            }
        }
    }

    /// Pages are that long at least, when many rows of a mirror don't count any more.
    private static let longPage = 4096

    /// At most `limit` rows, in order: `own` ones, and those of a mirror that aren't hidden.
    private static func merge<Row, Key: Comparable>(
        _ own: [Row], limit: Int, after start: Key?, of key: (Row) -> Key, unless isHidden: (Row) -> Bool,
        page: (Key?, Int) throws(MirrorError) -> [Row]
    ) throws(MirrorError) -> [Row] {
        var merged: [Row] = []
        var rest = own[...]
        var position = start
        var count = limit
        while merged.count < limit {
            let rows = try page(position, count)
            for row in rows where !isHidden(row) {
                while let next = rest.first, key(next) < key(row), merged.count < limit {
                    merged.append(next)
                    rest.removeFirst()
                }
                guard merged.count < limit else { break }
                merged.append(row)
            }
            guard rows.count == count, let last = rows.last else {
                merged += rest.prefix(limit - merged.count)
                break
            }
            position = key(last)
            count = max(count, longPage)
        }
        return merged
    }

    /// The extents that overlap the range, in order.
    func extents(_ file: FileID, overlapping range: ByteRange) throws(NamespaceError) -> [Extent] {
        if let changes = overlay.files[file], changes.hidesAll { return changes.extents(overlapping: range) }
        return try mirrors.read { mirror throws(MirrorError) in try extents(file, overlapping: range, on: mirror) }
    }

    private func extents(
        _ file: FileID, overlapping range: ByteRange, on mirror: Mirror
    ) throws(MirrorError) -> [Extent] {
        let rows = try mirror.extents(file, overlapping: range)
        guard let changes = overlay.files[file] else { return rows }
        let merged = rows.filter { !changes.hides($0.range.lowerBound) } + changes.extents(overlapping: range)
        return merged.sorted { $0.range.lowerBound < $1.range.lowerBound }
    }

    /// All extents of a file, in order. On a mirror where they and the inode contradict each other, as when a row has
    /// vanished, one is damaged.
    func allExtents(_ file: FileID) throws(NamespaceError) -> [Extent] {
        let changed = overlay.inodes[file]
        if let changed, changed.value == nil { throw .damaged("the log has removed \(file), which is in use") }
        return try mirrors.read { mirror throws(MirrorError) in
            let inode: Inode
            if let value = changed?.value { inode = value } else { inode = try mirror.existingInode(file) }
            let extents = try extents(file, overlapping: ByteRange(0, Limits.maxFileBytes), on: mirror)
            if let reason = inode.contradiction(to: extents) {
                throw .damagedRow("rows of \(file): \(reason)")
            }
            return extents
        }
    }
}
