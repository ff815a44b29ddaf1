// What is done when memory or places are short: have them freed, and have writers wait.

internal import Model
internal import Platform
internal import Synchronization

extension WriteBack {
    /// The most files that memory is taken from at once: so many that looking at all of ten thousand, a millisecond, is little
    /// for each, and so few that who waits for a turn in the queue behind them doesn't wait long.
    private var maxRelieved: Int { 256 }

    /// Has memory freed: by the largest files that together hold what is too much, so that small ones are left alone.
    func relievePressure() {
        let (files, excess) = state.withLock { state in
            // Looking at all files costs, and writers come here at each write: not while there is work enough.
            guard state.relieving.count <= limits.concurrentDrains / 2 else { return ([OpenFileContext](), 0) }
            let files = state.active.values.filter { !state.relieving.contains($0.fileID) }
            return (files, state.budget.heldBytes - limits.maxPendingBytes / 2)
        }
        var chosen = 0
        for (heldBytes, file) in files.map({ ($0.heldBytes, $0) }).sorted(by: { $0.0 > $1.0 }).prefix(maxRelieved) {
            guard chosen < excess else { return }
            chosen += heldBytes
            guard file.request(.relief) else { continue }
            state.withLock { _ = $0.relieving.insert(file.fileID) }
            enqueue(file)
        }
    }

    /// Has places in the table freed: those of the files that were written to least recently, an eighth of all at a time,
    /// so that not each WRITE looks at all of them.
    func settleIdlest() {
        let files = state.withLock { state in
            state.settling.isEmpty ? Array(state.active.values) : []
        }
        guard !files.isEmpty else { return }
        let idlest = files.map { ($0.lastArrival, $0) }.sorted { $0.0 < $1.0 }
        var chosen = 0
        for (_, file) in idlest where chosen < max(1, limits.maxOpenContexts / 8) && file.request(.rest) {
            state.withLock { _ = $0.settling.insert(file.fileID) }
            enqueue(file)
            chosen += 1
        }
    }

    /// Returns when there is what a WRITE needs, or it took too long.
    func wait(for shortage: PendingBudget.Shortage) async -> PendingBudget.Outcome {
        let now = clock.elapsed()
        return await withUnsafeContinuation { continuation in
            let mustWait = state.withLock { $0.budget.wait(for: shortage, at: now, continuation) }
            if !mustWait { continuation.resume(returning: .goOn) }
        }
    }

    func returnToBudget(_ bytes: Int) {
        resume(.goOn) { $0.budget.giveBack(bytes) }
    }

    /// Lets those go on that `change` names.
    func resume(_ outcome: PendingBudget.Outcome, _ change: (inout State) -> [PendingBudget.Continuation]) {
        let continuations = state.withLock { state in
            let continuations = change(&state)
            isStuck.store(state.budget.isStuck, ordering: .relaxed)
            return continuations
        }
        for continuation in continuations { continuation.resume(returning: outcome) }
    }
}
