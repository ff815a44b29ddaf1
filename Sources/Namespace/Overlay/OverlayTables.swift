// Changed rows of the tables that are read by ranges: one directory's entries, one file's extents, the block groups.
//
// Rows that were removed are kept as such, since a mirror may still have them; only those that are there are in the
// sorted keys.

internal import Model

/// What a row has become; nil: it was removed.
struct OverlayRow<Value> {
    /// Of the record that changed it last.
    let number: LogNumber
    let value: Value?
}

/// The entries of a directory.
final class DirectoryOverlay {
    private(set) var rows: [FileName: OverlayRow<EntryRow>] = [:]
    /// Of the rows that are there.
    private var names: [UInt64: FileName] = [:]
    private var cookies = SortedKeys<UInt64>()

    var isEmpty: Bool { rows.isEmpty }

    /// nil: as on the mirrors. Returns what was there before.
    @discardableResult
    func set(_ name: FileName, _ row: OverlayRow<EntryRow>?) -> OverlayRow<EntryRow>? {
        let old = rows[name]
        if let cookie = old?.value?.cookie, names[cookie] == name {
            names[cookie] = nil
            cookies.remove(cookie)
        }
        rows[name] = row
        if let cookie = row?.value?.cookie {
            names[cookie] = name
            cookies.insert(cookie)
        }
        return old
    }

    /// At most `limit` rows with greater cookies, in order.
    func entries(after cookie: UInt64, limit: Int) -> [EntryRow] {
        guard cookie < .max else { return [] }
        var found: [EntryRow] = []
        cookies.forEach(from: cookie + 1) { cookie in
            guard found.count < limit else { return false }
            if let name = names[cookie], let row = rows[name]?.value { found.append(row) }
            return true
        }
        return found
    }
}

/// The extents of a file.
final class FileOverlay {
    /// From an offset on there are no extents but those in `rows`.
    struct Cut {
        let from: UInt64
        let number: LogNumber
    }

    private(set) var rows: [UInt64: OverlayRow<Extent>] = [:]
    private var offsets = SortedKeys<UInt64>()
    /// Later ones are further back: one takes the place of those that it covers. Each hides what the mirrors have only
    /// until they all have applied it: then they may have rows of later records.
    private(set) var cuts: [Cut] = []

    var isEmpty: Bool { rows.isEmpty && cuts.isEmpty }

    /// Whether what a mirror has at the offset doesn't count.
    func hides(_ offset: UInt64) -> Bool {
        if let cut = cuts.first, offset >= cut.from { return true }
        return rows[offset] != nil
    }

    /// Whether nothing that a mirror has counts.
    var hidesAll: Bool { cuts.first?.from == 0 }

    /// nil: as on the mirrors. Returns what was there before.
    @discardableResult
    func set(_ offset: UInt64, _ row: OverlayRow<Extent>?) -> OverlayRow<Extent>? {
        let old = rows[offset]
        if old?.value != nil { offsets.remove(offset) }
        rows[offset] = row
        if row?.value != nil { offsets.insert(offset) }
        return old
    }

    /// Removes all extents that begin at the offset or behind it. Returns what is needed to take that back.
    func cut(from offset: UInt64, as number: LogNumber) -> (cuts: [Cut], rows: [(UInt64, OverlayRow<Extent>)]) {
        var removed: [(UInt64, OverlayRow<Extent>)] = []
        for key in offsets.removeAll(from: offset) {
            if let row = rows.removeValue(forKey: key) { removed.append((key, row)) }
        }
        let before = cuts
        while let last = cuts.last, last.from >= offset { cuts.removeLast() }
        cuts.append(Cut(from: offset, number: number))
        return (before, removed)
    }

    func restore(_ cuts: [Cut]) { self.cuts = cuts }

    /// Forgets cuts that all mirrors have applied.
    func dropCuts(through number: LogNumber) {
        // Their numbers go up, as the offsets do.
        cuts.removeSubrange(..<(cuts.firstIndex { $0.number > number } ?? cuts.endIndex))
    }

    /// Those that share a byte with the range, in order.
    func extents(overlapping range: ByteRange) -> [Extent] {
        var found: [Extent] = []
        let first = offsets.last(atMost: range.lowerBound) ?? range.lowerBound
        offsets.forEach(from: first) { offset in
            guard offset < range.upperBound else { return false }
            if let extent = rows[offset]?.value, extent.range.overlaps(range) { found.append(extent) }
            return true
        }
        return found
    }
}

/// The block groups.
final class GroupOverlay {
    private(set) var rows: [BlockGroupID: OverlayRow<BlockGroup>] = [:]
    private var ids = SortedKeys<BlockGroupID>()

    /// nil: as on the mirrors. Returns what was there before.
    @discardableResult
    func set(_ id: BlockGroupID, _ row: OverlayRow<BlockGroup>?) -> OverlayRow<BlockGroup>? {
        let old = rows[id]
        if old?.value != nil { ids.remove(id) }
        rows[id] = row
        if row?.value != nil { ids.insert(id) }
        return old
    }

    /// At most `limit` groups with greater ids (nil: from the first), in order.
    func groups(after id: BlockGroupID?, limit: Int) -> [BlockGroup] {
        var found: [BlockGroup] = []
        ids.forEach(from: id) { key in
            guard found.count < limit else { return false }
            if key != id, let group = rows[key]?.value { found.append(group) }
            return true
        }
        return found
    }
}
