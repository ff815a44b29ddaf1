// Deletes the blocks of dead groups a few at a time. A file may have had a hundred thousand groups, and each volume does
// its writes, syncs and deletions in one line: what is written meanwhile waits behind a few deletions, not behind all.
//
// What is not deleted before the store closes, the next start deletes.
//
// Lock order: `state` is a leaf.

internal import Namespace
internal import Synchronization

/// Groups whose blocks are to be deleted. May be used from any thread.
final class DeletionQueue: Sendable {
    private struct State {
        var waiting: [BlockGroup] = []
        var running = 0
    }
    private let state = Mutex(State())
    /// A volume deletes two files of each of these at once at most.
    private static let atOnce = 4

    /// Groups that wait or are being deleted.
    var count: Int { state.withLock { $0.waiting.count + $0.running } }

    /// Calls `delete` with the group soon; it must be the same for all groups.
    func add(_ group: BlockGroup, delete: @escaping @Sendable (BlockGroup) async -> Void) {
        let mustStart = state.withLock { state in
            state.waiting.append(group)
            guard state.running < Self.atOnce else { return false }
            state.running += 1
            return true
        }
        guard mustStart else { return }
        Task.detached { [self] in
            while let next = take() { await delete(next) }
        }
    }

    private func take() -> BlockGroup? {
        state.withLock { state in
            let next = state.waiting.popLast()
            if next == nil { state.running -= 1 }
            return next
        }
    }
}
