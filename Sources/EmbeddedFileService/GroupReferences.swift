// Keeps the blocks of a group on the volumes while somebody reads them.
//
// A group whose last live byte went is deleted once its record is durable and its last reader is done.
// Lock order: `state` is taken alone; `delete` runs outside of it.

internal import Model
internal import Synchronization

/// Counts the readers of block groups and defers deletion until there are none.
final class GroupReferences: Sendable {
    private struct Entry {
        var readers = 0
        var delete: (@Sendable () -> Void)?
    }
    private let state = Mutex<[BlockGroupID: Entry]>([:])

    /// Call before the extents that name the groups can change, i.e. under the lock of the extent map.
    func retain(_ groups: some Sequence<BlockGroupID>) {
        state.withLock { entries in
            for group in groups { entries[group, default: Entry()].readers += 1 }
        }
    }

    func release(_ groups: some Sequence<BlockGroupID>) {
        let deletions: [@Sendable () -> Void] = state.withLock { entries in
            var deletions: [@Sendable () -> Void] = []
            for group in groups {
                guard var entry = entries[group] else { preconditionFailure("\(group) was not retained") }
                entry.readers -= 1
                if entry.readers == 0 {
                    entries[group] = nil
                    if let delete = entry.delete { deletions.append(delete) }
                } else {
                    entries[group] = entry
                }
            }
            return deletions
        }
        for delete in deletions { delete() }
    }

    /// Runs `delete` now, or when the last reader is done.
    /// - Precondition: no extent names the group any more, so nobody retains it anew.
    func whenUnused(_ group: BlockGroupID, delete: @escaping @Sendable () -> Void) {
        let isUnused = state.withLock { entries in
            guard entries[group] != nil else { return true }
            entries[group]?.delete = delete
            return false
        }
        if isUnused { delete() }
    }
}
