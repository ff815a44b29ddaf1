// Threads that wait for each other.

import FaultInjection
import Glibc
import Platform
import Synchronization
import Testing

@Suite("The monitor")
struct MonitorTests {
    @Test("a wait goes on when what it waits for is so, before or after, and takes it as one")
    func waits() {
        let places = Monitor(0)
        let done = Mutex(0)
        let group = ThreadGroup()
        @Sendable func take() {
            _ = places.wait { count in
                guard count > 0 else { return Bool?.none }
                count -= 1
                return true
            }
        }
        for _ in 0..<4 {
            group.start {
                take()
                done.withLock { $0 += 1 }
            }
        }
        for _ in 0..<3 { places.withLock { $0 += 1 } }
        while done.withLock({ $0 < 3 }) { sched_yield() }
        #expect(places.withLock { $0 } == 0)
        places.withLock { $0 += 1 }
        group.join()
        #expect(done.withLock { $0 } == 4)
        places.withLock { $0 += 1 }
        take()
        #expect(places.withLock { $0 } == 0)
    }
}
