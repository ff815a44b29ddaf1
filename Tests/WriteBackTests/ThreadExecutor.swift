// Runs asynchronous work on a thread of its own, so that a test has real threads where the pool of tasks has as many as there
// are processors.
//
// Lock order: `lock` is taken alone and not held while a job runs.

import Glibc

final class ThreadExecutor: TaskExecutor, @unchecked Sendable {
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let wakeUp = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var jobs: [UnownedJob] = []
    private var hasEnded = false

    private init() {
        pthread_mutex_init(lock, nil)
        pthread_cond_init(wakeUp, nil)
    }

    deinit {
        pthread_cond_destroy(wakeUp)
        pthread_mutex_destroy(lock)
        wakeUp.deallocate()
        lock.deallocate()
    }

    /// Runs the work on the calling thread. Returns when it has ended.
    static func run(_ work: @escaping @Sendable () async -> Void) {
        let executor = ThreadExecutor()
        Task(executorPreference: executor) {
            await work()
            executor.change { executor.hasEnded = true }
        }
        while let job = executor.next() { job.runSynchronously(on: executor.asUnownedTaskExecutor()) }
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        change { jobs.append(job) }
    }

    private func change(_ body: () -> Void) {
        pthread_mutex_lock(lock)
        body()
        pthread_cond_signal(wakeUp)
        pthread_mutex_unlock(lock)
    }

    /// nil when the work has ended.
    private func next() -> UnownedJob? {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while jobs.isEmpty && !hasEnded { pthread_cond_wait(wakeUp, lock) }
        return jobs.isEmpty ? nil : jobs.removeFirst()
    }
}
