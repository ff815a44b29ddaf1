// A thread with a queue, for calls that block. Each volume has its own, so that a disk that hangs holds
// up nobody else; the queue is bounded by whoever submits (streamers count their bytes, readers their
// requests), the thread only runs what it is given, in order.
//
// Under a `ThreadScheduler` there is no thread: the work is a lane of the scheduler's.
//
// Lock order: `lock` is taken alone and never held while work runs.

internal import CLinux
internal import Glibc

/// Runs pieces of work one after another on a thread of its own.
public final class WorkThread: @unchecked Sendable {
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let wakeUp = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var queue: [@Sendable () -> Void] = []
    /// Work is being run, by the thread or in its place.
    private var isAtWork = false
    /// Pieces that the scheduler has not run to their end.
    private var scheduled = 0
    private var isStopping = false
    private var thread = pthread_t()
    /// In place of the thread.
    private let scheduler = ThreadScheduler.installed
    private let lane: Int

    /// - Parameter name: shown by `top -H`; at most 15 bytes are kept.
    public init(name: String) {
        pthread_mutex_init(lock, nil)
        pthread_cond_init(wakeUp, nil)
        lane = scheduler?.makeLane(name: name) ?? -1
        if scheduler != nil { return }
        let box = Unmanaged.passRetained(self)
        let result = pthread_create(
            &thread, nil,
            { argument in
                let thread = Unmanaged<WorkThread>.fromOpaque(argument!).takeRetainedValue()
                thread.run()
                return nil
            }, box.toOpaque())
        precondition(result == 0, "cannot make a thread: \(String(cString: strerror(result)))")
        pthread_setname_np(thread, String(name.prefix(15)))
    }

    deinit {
        pthread_mutex_destroy(lock)
        pthread_cond_destroy(wakeUp)
        lock.deallocate()
        wakeUp.deallocate()
    }

    /// Queues `work`. Work that is submitted after `stop` is dropped without being run, so whoever stops
    /// the thread sees to it that nobody waits for it any more, or looks at the result.
    ///
    /// - Returns: whether the work will be run.
    @discardableResult
    public func submit(_ work: @escaping @Sendable () -> Void) -> Bool {
        pthread_mutex_lock(lock)
        guard !isStopping else {
            pthread_mutex_unlock(lock)
            return false
        }
        if let scheduler {
            scheduled += 1
            pthread_mutex_unlock(lock)
            scheduler.submit(
                { [self] in
                    work()
                    pthread_mutex_lock(lock)
                    scheduled -= 1
                    pthread_mutex_unlock(lock)
                }, to: lane)
            return true
        }
        let isIdle = queue.isEmpty
        queue.append(work)
        // Who is woken needs the lock.
        pthread_mutex_unlock(lock)
        if isIdle { pthread_cond_signal(wakeUp) }
        return true
    }

    /// Runs `work` now and in place of the thread, if that has nothing to do: waking it takes longer than much of what it is
    /// woken for. The thread does nothing meanwhile, so the work must not wait for anything; what it submits comes after it.
    ///
    /// - Returns: whether the work was run.
    public func runIfIdle(_ work: () -> Void) -> Bool {
        pthread_mutex_lock(lock)
        let isIdle = queue.isEmpty && scheduled == 0 && !isAtWork && !isStopping
        if isIdle { isAtWork = true }
        pthread_mutex_unlock(lock)
        guard isIdle else { return false }
        work()
        pthread_mutex_lock(lock)
        isAtWork = false
        let isAwaited = !queue.isEmpty || isStopping
        pthread_mutex_unlock(lock)
        if isAwaited { pthread_cond_signal(wakeUp) }
        return true
    }

    /// Runs `body` on the thread and waits for its result without blocking the caller's thread.
    public func run<Value: Sendable, Failure: Error>(
        _ body: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        let result: Result<Value, Failure> = await withUnsafeContinuation { continuation in
            submit {
                do throws(Failure) {
                    continuation.resume(returning: .success(try body()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try result.get()
    }

    /// The same, for work that may come after `stop`: nil then.
    public func runUnlessStopped<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value? {
        await withUnsafeContinuation { continuation in
            if !submit({ continuation.resume(returning: body()) }) { continuation.resume(returning: nil) }
        }
    }

    /// Runs what is queued, then ends the thread and waits for its end. Not from the thread itself.
    public func stop() {
        pthread_mutex_lock(lock)
        let wasStopping = isStopping
        isStopping = true
        pthread_cond_signal(wakeUp)
        pthread_mutex_unlock(lock)
        if wasStopping { return }
        if let scheduler {
            scheduler.finish(lane: lane)
        } else {
            pthread_join(thread, nil)
        }
    }

    /// Has the thread end when what is queued has run, and doesn't wait for that: it may hang. Also from the thread itself.
    public func abandon() {
        pthread_mutex_lock(lock)
        let wasStopping = isStopping
        isStopping = true
        pthread_cond_signal(wakeUp)
        pthread_mutex_unlock(lock)
        if !wasStopping, scheduler == nil { pthread_detach(thread) }
    }

    private func run() {
        while runBatch() {
            pthread_mutex_lock(lock)
            isAtWork = false
            pthread_mutex_unlock(lock)
        }
    }

    /// Returns false at the end. What goes with the work goes before this returns, and not while the lock is held: it may
    /// submit more.
    private func runBatch() -> Bool {
        pthread_mutex_lock(lock)
        while isAtWork || queue.isEmpty && !isStopping { pthread_cond_wait(wakeUp, lock) }
        let batch = queue
        queue = []
        isAtWork = !batch.isEmpty
        pthread_mutex_unlock(lock)
        for work in batch { work() }
        return !batch.isEmpty
    }
}
