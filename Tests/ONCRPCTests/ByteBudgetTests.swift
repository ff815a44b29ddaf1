// The budget of all connections: its line, and that nothing is lost when many threads use it.

import FaultInjection
import Synchronization
import Testing

@testable import ONCRPC

@Suite("byte budget")
struct ByteBudgetTests {
    /// Notes what it is granted.
    private final class Waiter: ByteBudgetWaiter {
        let name: Int
        let log: EventLog<Int>
        init(_ name: Int, _ log: EventLog<Int>) {
            self.name = name
            self.log = log
        }
        func granted(_ bytes: Int) { log.append(name) }
    }

    @Test("who waits is granted in order, and nobody overtakes")
    func order() {
        let budget = ByteBudget(capacity: 100)
        let log = EventLog<Int>()
        #expect(budget.take(90))
        budget.wait(for: 80, Waiter(1, log))
        budget.wait(for: 10, Waiter(2, log))
        budget.wait(for: 20, Waiter(3, log))
        #expect(!budget.take(5), "there would be room, but others wait")
        budget.give(50)
        #expect(log.entries == [])
        budget.give(30)
        #expect(log.entries == [1, 2])
        budget.give(80)
        #expect(log.entries == [1, 2, 3])
        #expect(budget.used == 40)
        #expect(budget.take(5))
    }

    @Test("what was taken regardless is given back like the rest")
    func regardless() {
        let budget = ByteBudget(capacity: 100)
        let log = EventLog<Int>()
        budget.takeRegardless(150)
        #expect(!budget.take(1))
        budget.wait(for: 100, Waiter(1, log))
        budget.give(149)
        #expect(log.entries == [])
        budget.give(1)
        #expect(log.entries == [1])
    }

    /// Gives back what it was granted, and asks again.
    private final class Worker: ByteBudgetWaiter {
        let budget: ByteBudget
        let waits = Atomic<Int>(0)
        let grants = Atomic<Int>(0)
        init(_ budget: ByteBudget) { self.budget = budget }
        func granted(_ bytes: Int) {
            budget.give(bytes)
            grants.add(1, ordering: .relaxed)
        }
    }

    @Test("many threads: every waiter is granted, and in the end nothing is in use")
    func threads() async {
        let budget = ByteBudget(capacity: 1000)
        let worker = Worker(budget)
        await withTaskGroup(of: Void.self) { group in
            for seed in 0..<4 {
                group.addTask {
                    var generator = SeededGenerator(seed: UInt64(seed))
                    for _ in 0..<20_000 {
                        let bytes = Int.random(in: 1...1000, using: &generator)
                        if budget.take(bytes) {
                            budget.give(bytes)
                        } else {
                            worker.waits.add(1, ordering: .relaxed)
                            budget.wait(for: bytes, worker)
                        }
                    }
                }
            }
        }
        #expect(worker.grants.load(ordering: .relaxed) == worker.waits.load(ordering: .relaxed))
        #expect(budget.used == 0)
        #expect(budget.take(1000))
    }
}
