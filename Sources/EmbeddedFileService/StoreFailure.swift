// The end of a store that can't go on: no mirror of the metadata is left, or too few volumes can be written to say which
// ones are. What was promised is on the disks; nothing new can be promised any more, and only a new start, with what the
// disks are then, may help.
//
// From that moment on:
// * WRITE and COMMIT are refused with an I/O error. What is in memory can never become durable.
// * The write verifier has changed, once, before anybody was answered. Acknowledged bytes that are lost on the way down
//   don't change it again.
// * Whoever serves the store is told, to end: `sluice serve` exits with 74, for its supervisor to start it again.
//
// Order: `hasOccurred` is set before the verifier changes. A WRITE samples the verifier and looks here second, so that
// none is acknowledged with a verifier that it shares with the bytes that were lost.
//
// Lock order: `state` is a leaf; nobody is woken with it held.

internal import Logging
internal import Synchronization

/// Whether a store has failed for good, and why.
final class StoreFailure: Sendable {
    private struct State {
        var reason: String?
        var waiters: [Int: UnsafeContinuation<Void, Never>] = [:]
        var lastWaiter = 0
    }
    private let state = Mutex(State())
    private let flag = Atomic(false)
    private let log: Logger
    /// The store's.
    let verifier: VerifierSource

    init(log: Logger) {
        self.log = log
        var random = SystemRandomNumberGenerator()
        verifier = VerifierSource(using: &random)
    }

    var hasOccurred: Bool { flag.load(ordering: .sequentiallyConsistent) }

    /// nil: the store goes on.
    var reason: String? { state.withLock { $0.reason } }

    /// The store has failed. Only the first call does anything. Doesn't block.
    func occur(_ reason: String) {
        let waiters: [UnsafeContinuation<Void, Never>]? = state.withLock { state in
            guard state.reason == nil else { return nil }
            state.reason = reason
            defer { state.waiters = [:] }
            return Array(state.waiters.values)
        }
        guard let waiters else { return }
        flag.store(true, ordering: .sequentiallyConsistent)
        verifier.changeForGood()
        log.error("the store has failed and takes no changes any more: \(reason)")
        for waiter in waiters { waiter.resume() }
    }

    /// Returns why the store has failed, when it has; nil when the task is cancelled before.
    func wait() async -> String? {
        let number = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                let mustWait = state.withLock { state in
                    // Cancelled already: the handler below has run, or finds the waiter.
                    guard state.reason == nil, !Task.isCancelled else { return false }
                    state.waiters[number] = continuation
                    return true
                }
                if !mustWait { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: number) }?.resume()
        }
        return reason
    }
}
