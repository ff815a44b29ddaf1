// The rows that records have changed: on top of what a mirror has they are the namespace as the last body left it.
// The same, made from a batch of records, is what that batch comes to.
//
// Invariants:
// * A row stays here until all mirrors have applied the last record that changed it. So on top of any mirror, at any
//   position from "all have it" to the last record, it shows the same.
// * What the running body has changed can be taken back.
//
// Used by one thread at a time.

internal import Model

final class Overlay {
    private(set) var inodes: [FileID: OverlayRow<Inode>] = [:]
    private(set) var directories: [FileID: DirectoryOverlay] = [:]
    private(set) var files: [FileID: FileOverlay] = [:]
    let groups = GroupOverlay()
    private(set) var states: [StateKey: UInt64] = [:]
    /// How to take back what the running body did, the last first; nil: no body runs.
    private var undo: [Undo]?

    private enum Undo {
        case inode(FileID, OverlayRow<Inode>?)
        case entry(FileID, FileName, OverlayRow<EntryRow>?)
        case extent(FileID, UInt64, OverlayRow<Extent>?)
        case cut(FileID, [FileOverlay.Cut], [(UInt64, OverlayRow<Extent>)])
        case group(BlockGroupID, OverlayRow<BlockGroup>?)
        case state(StateKey, UInt64?)
    }

    init() {}

    /// What the records come to, in order.
    init(_ records: some Sequence<MetadataRecord>) {
        for record in records { apply(record) }
    }

    func apply(_ record: MetadataRecord) {
        for mutation in record.mutations { apply(mutation, as: record.number) }
    }

    // MARK: Bodies

    func keepBody() { undo = nil }

    func dropBody() {
        let steps = undo ?? []
        undo = nil
        for step in steps.reversed() {
            switch step {
            case .inode(let id, let row): inodes[id] = row
            case .entry(let directory, let name, let row): setEntry(directory, name, row)
            case .extent(let file, let offset, let row): setExtent(file, offset, row)
            case .cut(let file, let cuts, let rows):
                let overlay = files[file] ?? FileOverlay()
                overlay.restore(cuts)
                for (offset, row) in rows { overlay.set(offset, row) }
                files[file] = overlay.isEmpty ? nil : overlay
            case .group(let id, let row): groups.set(id, row)
            case .state(let key, let value): states[key] = value
            }
        }
    }

    /// A change of the running body, whose record will have this number.
    func applyForBody(_ mutation: Mutation, as number: LogNumber) {
        if undo == nil { undo = [] }
        apply(mutation, as: number)
    }

    private func note(_ step: @autoclosure () -> Undo) {
        if undo != nil { undo?.append(step()) }
    }

    // MARK: Changing

    private func apply(_ mutation: Mutation, as number: LogNumber) {
        switch mutation {
        case .putInode(let inode): setInode(inode.id, OverlayRow(number: number, value: inode))
        case .removeInode(let id): setInode(id, OverlayRow(number: number, value: nil))
        case .putEntry(let directory, let name, let cookie, let child):
            let row = EntryRow(name: name, cookie: cookie, child: child)
            let old = setEntry(directory, name, OverlayRow(number: number, value: row))
            note(.entry(directory, name, old))
        case .removeEntry(let directory, let name):
            let old = setEntry(directory, name, OverlayRow(number: number, value: nil))
            note(.entry(directory, name, old))
        case .putExtent(let file, let extent):
            let old = setExtent(file, extent.range.lowerBound, OverlayRow(number: number, value: extent))
            note(.extent(file, extent.range.lowerBound, old))
        case .removeExtent(let file, let offset):
            let old = setExtent(file, offset, OverlayRow(number: number, value: nil))
            note(.extent(file, offset, old))
        case .removeExtents(let file, let offset):
            let overlay = files[file] ?? FileOverlay()
            let before = overlay.cut(from: offset, as: number)
            files[file] = overlay
            note(.cut(file, before.cuts, before.rows))
        case .putGroup(let group):
            let old = groups.set(group.id, OverlayRow(number: number, value: group))
            note(.group(group.id, old))
        case .removeGroup(let id):
            let old = groups.set(id, OverlayRow(number: number, value: nil))
            note(.group(id, old))
        case .putState(let key, let value):
            note(.state(key, states[key]))
            states[key] = value
        }
    }

    private func setInode(_ id: FileID, _ row: OverlayRow<Inode>) {
        let old = inodes.updateValue(row, forKey: id)
        note(.inode(id, old))
    }

    @discardableResult
    private func setEntry(
        _ directory: FileID, _ name: FileName, _ row: OverlayRow<EntryRow>?
    ) -> OverlayRow<EntryRow>? {
        let overlay: DirectoryOverlay
        if let known = directories[directory] {
            overlay = known
        } else {
            overlay = DirectoryOverlay()
            directories[directory] = overlay
        }
        defer { if row == nil, overlay.isEmpty { directories[directory] = nil } }
        return overlay.set(name, row)
    }

    @discardableResult
    private func setExtent(_ file: FileID, _ offset: UInt64, _ row: OverlayRow<Extent>?) -> OverlayRow<Extent>? {
        let overlay: FileOverlay
        if let known = files[file] {
            overlay = known
        } else {
            overlay = FileOverlay()
            files[file] = overlay
        }
        defer { if row == nil, overlay.isEmpty { files[file] = nil } }
        return overlay.set(offset, row)
    }

    /// Forgets the rows that `batch` has, unless a record after `number` changed them: all mirrors have applied the
    /// batch, whose last record that is. Not while a body runs.
    func drop(_ batch: Overlay, through number: LogNumber) {
        precondition(undo == nil)
        for id in batch.inodes.keys {
            if let row = inodes[id], row.number <= number { inodes[id] = nil }
        }
        for (directory, changes) in batch.directories {
            guard let overlay = directories[directory] else { continue }
            for name in changes.rows.keys {
                if let row = overlay.rows[name], row.number <= number { overlay.set(name, nil) }
            }
            if overlay.isEmpty { directories[directory] = nil }
        }
        for (file, changes) in batch.files {
            guard let overlay = files[file] else { continue }
            overlay.dropCuts(through: number)
            for offset in changes.rows.keys {
                if let row = overlay.rows[offset], row.number <= number { overlay.set(offset, nil) }
            }
            if overlay.isEmpty { files[file] = nil }
        }
        for id in batch.groups.rows.keys {
            if let row = groups.rows[id], row.number <= number { groups.set(id, nil) }
        }
    }

    // MARK: Applying

    /// The changes that lead there from whatever the records began with, in an order that suits the tables.
    var mutations: [Mutation] {
        var list: [Mutation] = []
        for (key, value) in states.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            list.append(.putState(key, value))
        }
        for (id, row) in inodes.sorted(by: { $0.key < $1.key }) {
            list.append(row.value.map { .putInode($0) } ?? .removeInode(id))
        }
        for (directory, changes) in directories.sorted(by: { $0.key < $1.key }) {
            for (name, row) in changes.rows.sorted(by: { $0.key.bytes.lexicographicallyPrecedes($1.key.bytes) }) {
                list.append(
                    row.value.map { .putEntry(directory: directory, name: name, cookie: $0.cookie, child: $0.child) }
                        ?? .removeEntry(directory: directory, name: name))
            }
        }
        for (file, changes) in files.sorted(by: { $0.key < $1.key }) {
            // The first cut is the foremost; what came after it is in the rows.
            if let cut = changes.cuts.first { list.append(.removeExtents(file: file, from: cut.from)) }
            for (offset, row) in changes.rows.sorted(by: { $0.key < $1.key }) {
                list.append(
                    row.value.map { .putExtent(file: file, $0) } ?? .removeExtent(file: file, offset: offset))
            }
        }
        for (id, row) in groups.rows.sorted(by: { $0.key < $1.key }) {
            list.append(row.value.map { .putGroup($0) } ?? .removeGroup(id))
        }
        return list
    }

    /// Whether it holds nothing but numbers.
    var isEmpty: Bool { inodes.isEmpty && directories.isEmpty && files.isEmpty && groups.rows.isEmpty }
}
