// A value under a lock, with a condition to wait for: for threads that may block. Under a `ThreadScheduler` other work runs
// while one waits.
//
// Lock order: every monitor is a leaf; nothing is called out while one is held.

internal import Glibc

/// Thread-safe.
public final class Monitor<State>: @unchecked Sendable {
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let scheduler = ThreadScheduler.installed
    private var state: State

    public init(_ state: State) {
        self.state = state
        pthread_mutex_init(lock, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        pthread_mutex_destroy(lock)
        pthread_cond_destroy(changed)
        lock.deallocate()
        changed.deallocate()
    }

    /// Looks at the value or changes it; who waits looks again.
    public func withLock<Result>(_ body: (inout State) -> Result) -> Result {
        pthread_mutex_lock(lock)
        let result = body(&state)
        // Who is woken needs the lock.
        pthread_mutex_unlock(lock)
        pthread_cond_broadcast(changed)
        return result
    }

    /// Waits until `body` returns something.
    public func wait<Result>(_ body: @escaping (inout State) -> Result?) -> Result {
        if let scheduler { return wait(body, scheduler) }
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while true {
            if let result = body(&state) { return result }
            pthread_cond_wait(changed, lock)
        }
    }

    private func wait<Result>(
        _ body: @escaping (inout State) -> Result?, _ scheduler: ThreadScheduler
    ) -> Result {
        var result: Result?
        scheduler.wait {
            // It may have changed the state when it returned something.
            if result == nil { result = self.withLock { body(&$0) } }
            return result != nil
        }
        guard let result else { preconditionFailure("a wait that ended without what was waited for") }
        return result
    }
}
