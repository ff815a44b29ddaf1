// Runs asynchronous code on this thread, so that a fuzzer's input is done when its function returns.

import Synchronization

/// Holds jobs until `run`.
private final class JobQueue: TaskExecutor {
    private let jobs = Mutex<[UnownedJob]>([])

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.withLock { $0.append(job) }
    }

    func run() {
        while let job = jobs.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) {
            job.runSynchronously(on: asUnownedTaskExecutor())
        }
    }
}

private final class Slot<Value: Sendable>: Sendable {
    let value = Mutex<Value?>(nil)
}

/// - Precondition: the body waits for nothing that another thread does.
func runToEnd<Value: Sendable>(_ body: @escaping @Sendable () async -> Value) -> Value {
    let queue = JobQueue()
    let slot = Slot<Value>()
    Task(executorPreference: queue) {
        let value = await body()
        slot.value.withLock { $0 = value }
    }
    queue.run()
    guard let value = slot.value.withLock({ $0 }) else { fatalError("the call waits for something") }
    return value
}
