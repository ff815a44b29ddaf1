// What is known of block groups, in memory: where their blocks are, and how long they are.
//
// Changed on the namespace thread only, together with the rows; read from anywhere. A group that is not
// here is read from its row.
//
// Lock order: `state` is a leaf.

internal import Model
internal import Namespace
internal import Synchronization

/// A bounded cache of the groups' rows, and the set of groups that streams append to.
final class GroupTable: Sendable {
    private struct State {
        var rows: [BlockGroupID: BlockGroup] = [:]
        var open: Set<BlockGroupID> = []
        /// Groups whose row is gone, but whose blocks a reader may still want.
        var dying: [BlockGroupID: BlockGroup] = [:]
    }
    private let state = Mutex(State())
    private let capacity: Int

    init(capacity: Int) { self.capacity = capacity }

    /// nil: not in memory, or gone.
    subscript(id: BlockGroupID) -> BlockGroup? { state.withLock { $0.rows[id] ?? $0.dying[id] } }

    func update(_ row: BlockGroup) {
        state.withLock { state in
            // Dropping all is crude, but rare, and costs one read of a row for each group still in use.
            if state.rows.count >= capacity { state.rows.removeAll(keepingCapacity: true) }
            state.rows[row.id] = row
        }
    }

    /// The row is gone. Before the extents that name the group go, so that a reader who still sees them finds
    /// the group here.
    func retire(_ row: BlockGroup) {
        state.withLock { state in
            state.rows[row.id] = nil
            state.dying[row.id] = row
        }
    }

    /// The blocks are gone, and with them the last reader.
    func forget(_ id: BlockGroupID) { state.withLock { _ = $0.dying.removeValue(forKey: id) } }

    /// A stream begins to append to the group.
    func open(_ id: BlockGroupID) { state.withLock { _ = $0.open.insert(id) } }

    /// The stream has ended.
    func close(_ id: BlockGroupID) { state.withLock { _ = $0.open.remove(id) } }

    func isOpen(_ id: BlockGroupID) -> Bool { state.withLock { $0.open.contains(id) } }

    /// The groups that streams append to.
    var openCount: Int { state.withLock { $0.open.count } }
}
