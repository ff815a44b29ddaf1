// Why the namespace has failed for good. The first reason stays; it is told before anybody is answered because of it.
//
// Lock order: `state` is a leaf and not held while the failure is told.

internal import Platform

/// Thread-safe.
final class FailureLatch: Sendable {
    private enum State {
        case working
        /// One thread is telling it; others wait for that.
        case telling
        case failed(NamespaceError)
    }

    private let state = Monitor(State.working)
    private let onFailure: @Sendable (NamespaceError) -> Void

    /// - Parameter onFailure: called once. Must not block.
    init(_ onFailure: @escaping @Sendable (NamespaceError) -> Void) { self.onFailure = onFailure }

    /// Why nothing works any more; nil as long as it does.
    var error: NamespaceError? {
        state.withLock { if case .failed(let error) = $0 { error } else { nil } }
    }

    /// Fails for this reason unless there is one already. Returns the reason.
    @discardableResult
    func fail(_ error: NamespaceError) -> NamespaceError {
        let earlier: NamespaceError? = state.wait { state in
            switch state {
            case .working:
                state = .telling
                return .some(nil)
            case .telling: return nil
            case .failed(let error): return error
            }
        }
        if let earlier { return earlier }
        onFailure(error)
        state.withLock { $0 = .failed(error) }
        return error
    }
}
