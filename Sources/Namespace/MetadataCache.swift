// The rows of inodes and entries that were used lately, for the namespace thread, and for anybody else who
// wants to look without waiting for it: a commit takes about a millisecond, a look here a fraction of one
// thousandth of that.
//
// Invariants:
// * What is shown is what bodies have left that ended well, all of a body or nothing of it: rows that the running
//   body changes are hidden at the first change, and shown again, together, when it ends.
// * Only the namespace thread changes anything.
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

    private struct State {
        var inodes: GenerationalCache<FileID, Known<Inode>>
        var entries: GenerationalCache<EntryKey, Known<EntryRow>>
        /// After a failure nothing is shown any more: what bodies left may have been lost.
        var isClosed = false
    }

    private let state: Mutex<State>

    /// - Parameter limit: how many inodes, and how many entries.
    init(limit: Int) {
        state = Mutex(State(inodes: GenerationalCache(limit: limit), entries: GenerationalCache(limit: limit)))
    }

    func inode(_ id: FileID) -> Known<Inode>? { state.withLock { $0.inodes[id] } }

    func entry(_ key: EntryKey) -> Known<EntryRow>? { state.withLock { $0.entries[key] } }

    // MARK: On the namespace thread

    /// Adds what was read.
    func add(_ inode: Known<Inode>, for id: FileID) {
        state.withLock { if !$0.isClosed { $0.inodes[id] = inode } }
    }

    func add(_ entry: Known<EntryRow>, for key: EntryKey) {
        state.withLock { if !$0.isClosed { $0.entries[key] = entry } }
    }

    func hide(_ id: FileID) { state.withLock { $0.inodes[id] = nil } }

    func hide(_ key: EntryKey) { state.withLock { $0.entries[key] = nil } }

    /// Shows what a body has changed.
    func show(_ rows: Rows) {
        guard !rows.inodes.isEmpty || !rows.entries.isEmpty else { return }
        state.withLock { state in
            guard !state.isClosed else { return }
            for (id, inode) in rows.inodes { state.inodes[id] = inode }
            for (key, entry) in rows.entries { state.entries[key] = entry }
        }
    }

    /// Forgets everything for good.
    func close() {
        state.withLock { state in
            state.isClosed = true
            state.inodes = GenerationalCache(limit: 0)
            state.entries = GenerationalCache(limit: 0)
        }
    }
}
