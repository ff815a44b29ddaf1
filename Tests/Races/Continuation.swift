// A continuation that is waited for by holding the thread. Where a task goes on with what another thread has left to it the
// thread sanitizer doesn't see what keeps the two in order. `tools/races` adds this file to each module that it builds,
// where it hides the language's continuation; so tests there must give each task that waits a thread of its own.

internal import Glibc

/// Resumed once, by any thread.
struct UnsafeContinuation<Value, Failure: Error>: @unchecked Sendable {
    final class Box {
        let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        let isFilled = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        var value: Value?

        init() {
            pthread_mutex_init(lock, nil)
            pthread_cond_init(isFilled, nil)
        }

        deinit {
            pthread_cond_destroy(isFilled)
            pthread_mutex_destroy(lock)
            isFilled.deallocate()
            lock.deallocate()
        }

        func wait() -> Value {
            pthread_mutex_lock(lock)
            defer { pthread_mutex_unlock(lock) }
            while value == nil { pthread_cond_wait(isFilled, lock) }
            return value!
        }
    }
    let box = Box()

    func resume(returning value: Value) {
        pthread_mutex_lock(box.lock)
        defer { pthread_mutex_unlock(box.lock) }
        precondition(box.value == nil)
        box.value = .some(value)
        pthread_cond_signal(box.isFilled)
    }

    func resume() where Value == Void { resume(returning: ()) }
}

func withUnsafeContinuation<Value>(_ body: (UnsafeContinuation<Value, Never>) -> Void) async -> Value {
    let continuation = UnsafeContinuation<Value, Never>()
    body(continuation)
    return continuation.box.wait()
}
