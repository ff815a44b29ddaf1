// The budget of all connections: its line, and that nothing is lost when many threads use it.

import FaultInjection
import NIOCore
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

    private func account(_ budget: ByteBudget, _ client: UInt8) throws -> ByteBudget.Account {
        budget.account(of: ClientAddress(try SocketAddress(ipAddress: "10.0.0.\(client)", port: 700)))
    }

    @Test("who waits is granted in order; only who holds less overtakes")
    func order() throws {
        let budget = ByteBudget(capacity: 100)
        let log = EventLog<Int>()
        let full = try account(budget, 1)
        let others = try (0..<4).map { try account(budget, 10 + UInt8($0)) }
        #expect(full.take(90))
        others[0].takeRegardless(1)
        others[0].wait(for: 20, Waiter(1, log))
        others[1].takeRegardless(2)
        others[1].wait(for: 2, Waiter(2, log))
        others[0].wait(for: 2, Waiter(3, log))
        #expect(budget.isContended)
        #expect(!others[1].take(1), "it holds more than one who waits for 20")
        #expect(others[2].take(1), "it holds nothing")
        full.give(40)
        #expect(log.entries == [])
        full.give(50)
        #expect(log.entries == [1, 2, 3])
        #expect(!budget.isContended)
        #expect(budget.used == 28)
    }

    @Test("what was taken regardless is given back like the rest")
    func regardless() throws {
        let budget = ByteBudget(capacity: 100)
        let log = EventLog<Int>()
        let account = try account(budget, 1)
        account.takeRegardless(150)
        #expect(!account.take(1))
        account.wait(for: 100, Waiter(1, log))
        account.give(149)
        #expect(log.entries == [])
        account.give(1)
        #expect(log.entries == [1])
    }

    /// Takes ten bytes by each account in turn, until none gets any more.
    private func exhaust(_ accounts: [ByteBudget.Account]) -> [Int] {
        var taken = [Int](repeating: 0, count: accounts.count)
        while true {
            let before = taken
            for (index, account) in accounts.enumerated() where account.take(10) { taken[index] += 10 }
            if taken == before { return taken }
        }
    }

    @Test("a connection gets a third of all, an address half, n addresses 1/(n + 1) each; a new one always some")
    func shares() throws {
        #expect(exhaust([try account(ByteBudget(capacity: 900), 1)]) == [300])
        let connections = ByteBudget(capacity: 900)
        #expect(exhaust(try (0..<10).map { _ in try account(connections, 1) }).reduce(0, +) <= 450)
        #expect(try account(connections, 1).take(10), "another connection of the same address")
        #expect(try account(connections, 2).take(200), "another address")
        for count in 1...20 {
            let budget = ByteBudget(capacity: 10_000)
            // Three connections of each address, so that the bound on connections isn't what holds them.
            let hungry = try (0..<3 * count).map { try account(budget, UInt8($0 % count)) }
            let taken = exhaust(hungry)
            #expect(taken.reduce(0, +) <= 10_000 * count / (count + 1))
            #expect(try account(budget, 200).take(10_000 / (count + 1) / 2))
        }
    }

    @Test("who asks for much isn't overtaken for ever by others who hold as much and ask for little")
    func large() throws {
        let budget = ByteBudget(capacity: 100)
        let log = EventLog<Int>()
        let small = try (0..<8).map { try account(budget, UInt8($0)) }
        for account in small { account.takeRegardless(12) }
        try account(budget, 100).wait(for: 50, Waiter(1, log))
        for _ in 0..<5 {
            for account in small {
                account.give(6)
                if log.entries.isEmpty { #expect(!account.take(6)) }
            }
            if !log.entries.isEmpty { break }
        }
        #expect(log.entries == [1])
    }

    /// Gives back what it was granted, and asks again.
    private final class Worker: ByteBudgetWaiter {
        let budget: ByteBudget.Account
        let waits = Atomic<Int>(0)
        let grants = Atomic<Int>(0)
        init(_ budget: ByteBudget.Account) { self.budget = budget }
        func granted(_ bytes: Int) {
            budget.give(bytes)
            grants.add(1, ordering: .relaxed)
        }
    }

    @Test("many threads: every waiter is granted, and in the end nothing is in use")
    func threads() async throws {
        let budget = ByteBudget(capacity: 1000)
        let workers = try (0..<4).map { Worker(try account(budget, UInt8($0 / 2))) }
        await withTaskGroup(of: Void.self) { group in
            for (seed, worker) in workers.enumerated() {
                group.addTask {
                    var generator = SeededGenerator(seed: UInt64(seed))
                    for _ in 0..<20_000 {
                        let bytes = Int.random(in: 1...1000, using: &generator)
                        if worker.budget.take(bytes) {
                            worker.budget.give(bytes)
                        } else {
                            worker.waits.add(1, ordering: .relaxed)
                            worker.budget.wait(for: bytes, worker)
                        }
                    }
                }
            }
        }
        for worker in workers {
            #expect(worker.grants.load(ordering: .relaxed) == worker.waits.load(ordering: .relaxed))
        }
        #expect(budget.used == 0)
        #expect(!budget.isContended)
        #expect(workers[0].budget.take(1000))
    }
}
