// Which blocks were found bad, and which groups unreadable: by the start, which looks at every block's name
// and length, and by readers, who verify checksums. `sluice status` tells of it, repair will work it off.
//
// Bounded: beyond the bound only the number goes up. Lock order: `state` is a leaf.

internal import Model
internal import Synchronization

/// The bad blocks that are known of.
final class DamageLog: Sendable {
    private struct State {
        var bad: [BlockID: String] = [:]
        var unreadable: Set<BlockGroupID> = []
    }
    private let state = Mutex(State())

    /// Some 100 bytes each: 10 MB.
    private static let capacity = 100_000

    /// Returns whether this is news.
    @discardableResult
    func note(_ block: BlockID, _ reason: String) -> Bool {
        state.withLock { state in
            guard state.bad[block] == nil, state.bad.count < Self.capacity else { return false }
            state.bad[block] = reason
            return true
        }
    }

    func noteUnreadable(_ group: BlockGroupID) {
        state.withLock { state in
            if state.unreadable.count < Self.capacity { state.unreadable.insert(group) }
        }
    }

    /// The group is gone.
    func forget(_ group: BlockGroupID) {
        state.withLock { state in
            for index in 0..<Limits.maxInternalBlocks { state.bad[group.internalBlock(index)] = nil }
            state.unreadable.remove(group)
        }
    }

    /// Bad blocks by their group, and the groups that a reader failed on.
    var snapshot: (bad: [BlockGroupID: [BlockID]], unreadable: Set<BlockGroupID>) {
        state.withLock { state in
            (Dictionary(grouping: state.bad.keys, by: \.group), state.unreadable)
        }
    }
}
