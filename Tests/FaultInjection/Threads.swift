// Real threads for tests of what threads share, with the locks of the C library: the thread sanitizer knows those.

internal import Glibc
internal import Synchronization

/// Threads that are joined together.
public final class ThreadGroup {
    private var threads: [pthread_t] = []

    public init() {}

    private final class Work {
        let run: () -> Void
        init(_ run: @escaping () -> Void) { self.run = run }
    }

    public func start(_ run: @escaping () -> Void) {
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

    public func join() {
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }
}

/// Runs the work on a thread of its own and waits for it.
public func onThread(_ work: () -> Void) {
    withoutActuallyEscaping(work) { work in
        let group = ThreadGroup()
        group.start(work)
        group.join()
    }
}

/// A lock of the C library.
public final class PlainLock: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    public init() { pthread_mutex_init(mutex, nil) }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    public func withLock<Result>(_ body: () -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }
}

/// Holds threads until so many have come.
public final class Gate: @unchecked Sendable {
    private let barrier = UnsafeMutablePointer<pthread_barrier_t>.allocate(capacity: 1)

    public init(count: Int) { pthread_barrier_init(barrier, nil, UInt32(count)) }

    deinit {
        pthread_barrier_destroy(barrier)
        barrier.deallocate()
    }

    public func arriveAndWait() { pthread_barrier_wait(barrier) }
}

/// A number that threads count down.
public final class Countdown: @unchecked Sendable {
    private let lock = PlainLock()
    private var left: Int

    public init(_ count: Int) { left = count }

    public func countDown() { lock.withLock { left -= 1 } }

    public var count: Int { lock.withLock { left } }

    public var isZero: Bool { count == 0 }

    public func wait() { while !isZero { sched_yield() } }
}

/// A flag that orders nothing else: what one thread did before it raised the flag is not visible to another by that.
public final class Flag: Sendable {
    private let isRaised = Atomic<Bool>(false)

    public init() {}

    public func raise() { isRaised.store(true, ordering: .relaxed) }

    public func wait() { while !isRaised.load(ordering: .relaxed) { sched_yield() } }
}
