// What is done when memory or places are short: have them freed, and have writers wait.

internal import Model
internal import Platform
internal import Synchronization

extension WriteBack {
    /// Whether memory or places are short, and nobody has looked yet for files that have some: then the caller is to see to it.
    func beginsLook(_ state: inout State) -> Bool {
        if state.isLookComing { return false }
        state.isLookComing =
            state.budget.needsRelief && !state.hasLookedForMemory
            || state.active.count > limits.maxOpenContexts && !state.hasLookedForPlaces
        return state.isLookComing
    }

    /// Has freed what is short. Takes time in proportion to the number of files.
    func relievePressure() {
        state.withLock { $0.isLookComing = false }
        freeMemory()
        freePlaces()
    }

    /// The most files that memory is taken from at once: so many that looking at all of ten thousand, a millisecond, is little
    /// for each, and so few that who waits for a turn in the queue behind them doesn't wait long.
    private var maxRelieved: Int { 256 }

    /// By the largest files that together hold what is too much, so that small ones are left alone.
    private func freeMemory() {
        let (files, excess) = state.withLock { state in
            guard state.budget.needsRelief, !state.hasLookedForMemory else { return ([OpenFileContext](), 0) }
            state.hasLookedForMemory = true
            // While there is work enough, the next look can wait.
            guard state.relieving.count <= limits.concurrentDrains else { return ([], 0) }
            let excess =
                state.budget.heldBytes - limits.maxPendingBytes / 2 - state.relieving.values.reduce(0, +)
            return (excess > 0 ? Array(state.active.values) : [], excess)
        }
        guard !files.isEmpty else { return }
        let largest = files.map { ($0.heldBytes, $0) }.filter { $0.0 > 0 }.sorted { $0.0 > $1.0 }
        var chosen = 0
        var packed: [OpenFileContext] = []
        for (heldBytes, file) in largest.prefix(maxRelieved) where chosen < excess {
            guard state.withLock({ $0.relieving[file.fileID] == nil }) else { continue }
            // One that has a turn coming already frees something, too: it is asked for relief by this.
            chosen += heldBytes
            switch file.requestRelief() {
            case .none: continue
            case .pack: packed.append(file)
            case .queue:
                state.withLock { $0.relieving[file.fileID] = heldBytes }
                enqueue(file)
            }
        }
        if !packed.isEmpty { pack(packed) }
    }

    /// By settling the files that were written to least recently, an eighth of all at a time, and packing those that rest.
    private func freePlaces() {
        let files = state.withLock { state in
            guard state.active.count > limits.maxOpenContexts, !state.hasLookedForPlaces else {
                return [OpenFileContext]()
            }
            state.hasLookedForPlaces = true
            // Each of them gives a place when its turn ends.
            return state.settling.isEmpty ? Array(state.active.values) : []
        }
        guard !files.isEmpty else { return }
        let idlest = files.map { ($0.lastArrival, $0) }.sorted { $0.0 < $1.0 }
        var chosen = 0
        var packed: [OpenFileContext] = []
        for (_, file) in idlest where chosen < max(1, limits.maxOpenContexts / 8) {
            if file.restingBytes != nil {
                packed.append(file)
                chosen += 1
                continue
            }
            // First here: its turn may be over before the next line.
            state.withLock { _ = $0.settling.insert(file.fileID) }
            let mustQueue = file.request(.rest)
            if mustQueue || file.isTurnComing {
                chosen += 1
            } else {
                state.withLock { _ = $0.settling.remove(file.fileID) }
            }
            if mustQueue { enqueue(file) }
        }
        if !packed.isEmpty { pack(packed) }
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
