// The rows of inodes and entries that were used lately, for the namespace thread, and for anybody else who
// wants to look without waiting for it: a commit takes about a millisecond, a look here a fraction of one
// thousandth of that.
//
// Invariants:
// * What is shown is what bodies have left that ended well, all of a body or nothing of it: rows that the running
//   body changes are hidden at the first change, and shown again, together, when it ends.
// * Only the namespace thread changes anything.
// * Anything may be missing: what isn't known here is read from a mirror.
// * Of a directory that was made since the start every entry is here until a part of the cache is forgotten: what isn't, there
//   isn't. So who fills a new directory waits for no mirror.
//
// Lock order: `state` is a leaf.

internal import Model
internal import Synchronization

final class MetadataCache: Sendable {
    struct EntryKey: Hashable, Sendable {
        let directory: FileID
        let name: FileName
    }

    /// What is known: also that there is nothing.
    enum Known<Value: Sendable>: Sendable {
        case present(Value)
        case absent

        init(_ value: Value?) { self = value.map { .present($0) } ?? .absent }

        var value: Value? {
            if case .present(let value) = self { value } else { nil }
        }
    }

    /// Rows by their keys.
    struct Rows: Sendable {
        var inodes: [FileID: Known<Inode>] = [:]
        var entries: [EntryKey: Known<EntryRow>] = [:]

        mutating func removeAll() {
            // Most bodies change a handful of rows: the memory is kept for the next.
            inodes.removeAll(keepingCapacity: inodes.count < 64)
            entries.removeAll(keepingCapacity: entries.count < 64)
        }
    }

    fileprivate struct State {
        var inodes: GenerationalCache<FileID, Known<Inode>>
        var entries: GenerationalCache<EntryKey, Known<EntryRow>>
        /// Directories whose entries are all here.
        var complete: Set<FileID> = []
        /// The same, but for entries that the running body changes.
        var suspended: Set<FileID> = []
        /// Of `entries`, when these were complete.
        var rotations = 0
        /// After a failure nothing is shown any more: what bodies left may have been lost.
        var isClosed = false
    }

    private let state: Mutex<State>

    /// Of the links whose inodes are kept. An inode then takes at most twice its usual 300 bytes, where all with
    /// the longest targets would take 256 MiB.
    static let maxLinkTargetBytes = 256

    /// - Parameter limit: how many inodes, and how many entries.
    init(limit: Int) {
        state = Mutex(State(inodes: GenerationalCache(limit: limit), entries: GenerationalCache(limit: limit)))
    }

    func inode(_ id: FileID) -> Known<Inode>? { state.withLock { $0.inodes[id] } }

    func entry(_ key: EntryKey) -> Known<EntryRow>? { state.withLock { $0.entry(key) } }

    // MARK: On the namespace thread

    /// Adds what was read.
    func add(_ inode: Known<Inode>, for id: FileID) {
        state.withLock { if !$0.isClosed, inode.isWorthKeeping { $0.inodes[id] = inode } }
    }

    func add(_ entry: Known<EntryRow>, for key: EntryKey) {
        state.withLock { state in
            guard !state.isClosed else { return }
            state.entries[key] = entry
            state.noteRotation()
        }
    }

    func hide(_ id: FileID) { state.withLock { $0.inodes[id] = nil } }

    func hide(_ key: EntryKey) {
        state.withLock { state in
            state.entries[key] = nil
            if state.complete.remove(key.directory) != nil { state.suspended.insert(key.directory) }
        }
    }

    /// Shows what a body has changed, all that it has hidden with it.
    /// - Parameter made: directories that there were not before it.
    func show(_ rows: Rows, made: Set<FileID> = []) {
        guard !rows.inodes.isEmpty || !rows.entries.isEmpty else { return }
        state.withLock { state in
            guard !state.isClosed else { return }
            for (id, inode) in rows.inodes where inode.isWorthKeeping { state.inodes[id] = inode }
            for (key, entry) in rows.entries { state.entries[key] = entry }
            guard !state.noteRotation() else { return }
            state.complete.formUnion(state.suspended)
            state.complete.formUnion(made)
            state.suspended = []
        }
    }

    /// What a body has hidden stays hidden: it has changed nothing.
    func forgetHidden() { state.withLock { $0.suspended = [] } }

    /// Forgets everything for good.
    func close() {
        state.withLock { state in
            state.isClosed = true
            state.inodes = GenerationalCache(limit: 0)
            state.entries = GenerationalCache(limit: 0)
            state.complete = []
            state.suspended = []
        }
    }
}

extension MetadataCache.State {
    fileprivate mutating func entry(_ key: MetadataCache.EntryKey) -> MetadataCache.Known<EntryRow>? {
        let known = entries[key]
        noteRotation()
        if let known { return known }
        return complete.contains(key.directory) ? .absent : nil
    }

    /// Whose entries were all here, who knows. Returns whether any were forgotten.
    @discardableResult
    fileprivate mutating func noteRotation() -> Bool {
        guard entries.rotations != rotations else { return false }
        rotations = entries.rotations
        complete = []
        suspended = []
        return true
    }
}

extension MetadataCache.Known<Inode> {
    fileprivate var isWorthKeeping: Bool {
        (value?.linkTarget?.bytes.count ?? 0) <= MetadataCache.maxLinkTargetBytes
    }
}
