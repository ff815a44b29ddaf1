// Whether a history of concurrent operations could have been one after the other (Wing and Gong, "Testing and
// verifying concurrent objects", 1993), with Lowe's memory of configurations that have been tried.

/// What happened: when an operation was called and when it returned, on one clock, and what it means.
struct Operation<State>: Sendable {
    let called: Int
    let returned: Int
    let name: String
    /// Applies it to the model; false if it could not have had its result in that state.
    let apply: @Sendable (inout State) -> Bool
}

/// Which operations, as bits, have been done, and what that led to.
private struct Configuration<State: Hashable>: Hashable {
    let done: UInt64
    let state: State
}

/// Whether there is an order of the operations, each at some moment between its call and its return, in which a model that
/// does one at a time gives the same results.
func isLinearizable<State: Hashable>(_ history: [Operation<State>], from initial: State) -> Bool {
    precondition(history.count < 64)
    var tried: Set<Configuration<State>> = []
    func search(_ done: UInt64, _ state: State) -> Bool {
        if done == (1 << UInt64(history.count)) - 1 { return true }
        guard tried.insert(Configuration(done: done, state: state)).inserted else { return false }
        // Next may be whoever was called before any of the others returned.
        let firstReturn = history.indices.filter { done & 1 << UInt64($0) == 0 }.map { history[$0].returned }.min()!
        for index in history.indices where done & 1 << UInt64(index) == 0 && history[index].called < firstReturn {
            var next = state
            if history[index].apply(&next), search(done | 1 << UInt64(index), next) { return true }
        }
        return false
    }
    return search(0, initial)
}
