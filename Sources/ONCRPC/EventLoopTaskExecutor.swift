// Lets the tasks of calls run on their connection's event loop, so that neither a call nor its reply changes
// threads unless the program waits for something.

internal import NIOCore

/// Runs jobs on an event loop, in the order in which they come. May be used from any thread.
final class EventLoopTaskExecutor: TaskExecutor {
    private let eventLoop: any EventLoop

    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
