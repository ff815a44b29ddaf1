// The nodes in use, bounded.
//
// Nodes are put in on the namespace thread only, at the moment when they are read from the namespace, so
// that no change can fall between. A node leaves when nobody else holds it and it has nothing that the
// namespace hasn't: callers hold it by plain strong references, got under the table's lock, and that lock
// is held while uniqueness is checked.
//
// Lock order: `state`, then the node's locks.

internal import Model
internal import Synchronization

/// Finds the one node of a file.
final class FileNodeTable: Sendable {
    fileprivate struct State {
        var nodes: [FileID: FileNode] = [:]
        /// The ids in `nodes`, in no order, and where the next search for nodes to forget goes on. Going round
        /// in turn approximates "the oldest first" at no cost on the way of a call.
        var ids: [FileID] = []
        var hand = 0
    }
    private let state = Mutex(State())
    private let capacity: Int

    /// - Parameter capacity: nodes in use beyond this are kept, but none that is not needed.
    init(capacity: Int) { self.capacity = capacity }

    subscript(id: FileID) -> FileNode? { state.withLock { $0.nodes[id] } }

    var count: Int { state.withLock { $0.nodes.count } }

    /// Places in the list of ids, those of nodes that are gone included.
    var listedCount: Int { state.withLock { $0.ids.count } }

    /// On the namespace thread only.
    func insert(_ node: FileNode) {
        state.withLock { state in
            precondition(state.nodes[node.id] == nil, "a second node of \(node.id)")
            state.nodes[node.id] = node
            state.ids.append(node.id)
            // A few a time, so that no insertion takes long.
            for _ in 0..<8 where state.nodes.count > capacity { state.examineNext() }
        }
    }

    /// The file was removed; references that callers still hold answer as stale.
    func remove(_ id: FileID) {
        state.withLock { state in
            state.nodes[id] = nil
            // Ids of removed nodes are otherwise met only when the table is full.
            if state.ids.count > 2 * state.nodes.count + 1024 { state.ids = Array(state.nodes.keys) }
        }
    }

    /// Every node, for shutdown and status.
    var all: [FileNode] { state.withLock { Array($0.nodes.values) } }
}

extension FileNodeTable.State {
    /// Forgets the next node in turn, unless it is in use.
    fileprivate mutating func examineNext() {
        hand = hand < ids.count ? hand : 0
        let id = ids[hand]
        var node = nodes.removeValue(forKey: id)
        if node == nil || isKnownUniquelyReferenced(&node) && node?.isClean == true {
            ids.swapAt(hand, ids.count - 1)
            ids.removeLast()
        } else {
            nodes[id] = node
            hand += 1
        }
    }
}
