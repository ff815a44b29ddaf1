// Real threads for tests of what threads share, with the locks of the C library: the thread sanitizer knows those.

import Glibc
import Synchronization

/// Threads that are joined together.
final class ThreadGroup {
    private var threads: [pthread_t] = []

    private final class Work {
        let run: () -> Void
        init(_ run: @escaping () -> Void) { self.run = run }
    }

    func start(_ run: @escaping () -> Void) {
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Work>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(Work(run)).toOpaque())
        precondition(code == 0)
        threads.append(thread)
    }

    func join() {
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }
}

/// Runs the work on a thread of its own and waits for it.
func onThread(_ work: () -> Void) {
    withoutActuallyEscaping(work) { work in
        let group = ThreadGroup()
        group.start(work)
        group.join()
    }
}

/// A lock of the C library.
final class PlainLock: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    init() { pthread_mutex_init(mutex, nil) }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    func withLock<Result>(_ body: () -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }
}

/// Holds threads until so many have come.
final class Gate: @unchecked Sendable {
    private let barrier = UnsafeMutablePointer<pthread_barrier_t>.allocate(capacity: 1)

    init(count: Int) { pthread_barrier_init(barrier, nil, UInt32(count)) }

    deinit {
        pthread_barrier_destroy(barrier)
        barrier.deallocate()
    }

    func arriveAndWait() { pthread_barrier_wait(barrier) }
}

/// A number that threads count down.
final class Countdown: @unchecked Sendable {
    private let lock = PlainLock()
    private var left: Int

    init(_ count: Int) { left = count }

    func countDown() { lock.withLock { left -= 1 } }

    var count: Int { lock.withLock { left } }

    var isZero: Bool { count == 0 }

    func wait() { while !isZero { sched_yield() } }
}

/// A flag that orders nothing else: what one thread did before it raised the flag is not visible to another by that.
final class Flag: Sendable {
    private let isRaised = Atomic<Bool>(false)

    func raise() { isRaised.store(true, ordering: .relaxed) }

    func wait() { while !isRaised.load(ordering: .relaxed) { sched_yield() } }
}
