// Work on a thread of its own, and in place of it.

import Platform
import Synchronization
import Testing

@Suite("Work threads", .timeLimit(.minutes(10)))
struct WorkThreadTests {
    /// Touched only by work of one thread, or in its place: two at once lose counts.
    private final class Tally: @unchecked Sendable {
        var count = 0
        var order: [Int] = []
    }

    @Test("work in place of a thread never runs beside the thread's, and none is lost")
    func oneAtATime() async {
        let thread = WorkThread(name: "test")
        let tally = Tally()
        let (callers, calls) = (4, 50_000)
        await withTaskGroup(of: Void.self) { group in
            for caller in 0..<callers {
                group.addTask {
                    for call in 0..<calls {
                        // Some calls always go to the thread, so that it has something to do now and then.
                        if call % 8 != caller, thread.runIfIdle({ tally.count += 1 }) { continue }
                        thread.submit { tally.count += 1 }
                    }
                    // On a busy machine all of these may have met a thread that wasn't idle; in the end it is.
                    while !thread.runIfIdle({ tally.count += 1 }) { await Task.yield() }
                }
            }
        }
        thread.stop()
        #expect(tally.count == callers * (calls + 1))
    }

    @Test("what work in place of the thread submits comes after it, and it can't be nested")
    func nested() {
        let thread = WorkThread(name: "test")
        let tally = Tally()
        var wasNested: Bool?
        let wasRun = thread.runIfIdle {
            thread.submit { tally.order.append(2) }
            wasNested = thread.runIfIdle { tally.order.append(0) }
            tally.order.append(1)
        }
        thread.stop()
        #expect(wasRun && wasNested == false)
        #expect(tally.order == [1, 2])
    }

    /// Submits once more when it goes.
    private final class Last: Sendable {
        private let thread: WorkThread
        private let gone: @Sendable () -> Void

        init(_ thread: WorkThread, gone: @escaping @Sendable () -> Void) {
            self.thread = thread
            self.gone = gone
        }

        deinit { thread.submit(gone) }
    }

    @Test("what goes with a piece of work may submit another one")
    func destroyed() async {
        let thread = WorkThread(name: "test")
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            let last = Last(thread) { continuation.resume() }
            thread.submit { withExtendedLifetime(last) {} }
        }
        thread.stop()
    }

    @Test("a thread may be abandoned by what it runs: what was queued is run, and nothing else")
    func abandoned() async {
        let thread = WorkThread(name: "test")
        let order = Mutex<[Int]>([])
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            thread.submit {
                thread.submit {
                    order.withLock { $0.append(2) }
                    continuation.resume()
                }
                thread.abandon()
                thread.abandon()
                let isQueued = thread.submit { order.withLock { $0.append(3) } }
                order.withLock { $0.append(isQueued ? 0 : 1) }
            }
        }
        #expect(order.withLock { $0 } == [1, 2])
        thread.stop()
    }

    @Test("a thread that was stopped runs nothing in its place either")
    func stopped() {
        let thread = WorkThread(name: "test")
        thread.stop()
        let wasRun = thread.runIfIdle {}
        let isQueued = thread.submit {}
        #expect(!wasRun && !isQueued)
    }
}
