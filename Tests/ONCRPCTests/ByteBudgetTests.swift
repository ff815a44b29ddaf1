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
        let first = try account(budget, 10)
        let sameAddress = try account(budget, 10)
        let second = try account(budget, 11)
        #expect(full.take(90))
        first.takeRegardless(1)
        sameAddress.takeRegardless(1)
        second.takeRegardless(3)
        first.wait(for: 20, Waiter(1, log))
        second.wait(for: 2, Waiter(2, log))
        sameAddress.wait(for: 2, Waiter(3, log))
        #expect(budget.waiting == 3)
        #expect(!(try account(budget, 11).take(1)), "its address holds more than one who waits for 20")
        #expect(try account(budget, 10).take(1), "its address is first, and it holds nothing")
        #expect(try account(budget, 12).take(1), "its address holds nothing")
        full.give(40)
        #expect(log.entries == [])
        full.give(50)
        #expect(log.entries == [1, 2, 3] || log.entries == [1, 3, 2])
        #expect(budget.waiting == 0)
        #expect(budget.used == 31)
    }

    @Test("who gives up waiting leaves the line, and who waits behind him comes next")
    func cancel() throws {
        let budget = ByteBudget(capacity: 100)
        let log = EventLog<Int>()
        let full = try account(budget, 1)
        #expect(full.take(90))
        let dead = try (0..<1000).map { _ in try account(budget, 2) }
        for account in dead { account.wait(for: 100, Waiter(0, log)) }
        let live = try account(budget, 2)
        live.wait(for: 10, Waiter(1, log))
        #expect(log.entries == [], "a request of 100 is first")
        #expect(budget.waiting == 1001)
        // Not in their order.
        for index in dead.indices { #expect(dead[index * 7 % 1000].cancelWait()) }
        #expect(log.entries == [1])
        #expect(budget.waiting == 0)
        #expect(!live.cancelWait(), "it is granted already")
        live.give(10)
        full.give(90)
        #expect(budget.used == 0)
        for account in dead { #expect(!account.cancelWait()) }
    }

    @Test("against a model: of all that wait the first is the one who holds least, and no one else is granted bytes")
    func model() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        let budget = ByteBudget(capacity: 1000)
        let log = EventLog<Int>()
        let accounts = try (0..<24).map { try account(budget, UInt8($0 % 5)) }
        var held = [Int](repeating: 0, count: 24)
        // In the order in which they began to wait.
        var line: [(index: Int, bytes: Int)] = []
        func ofAddress(_ index: Int) -> Int {
            held.indices.filter { $0 % 5 == index % 5 }.map { held[$0] }.reduce(0, +)
        }
        func fits(_ index: Int, _ bytes: Int) -> Bool {
            let free = 1000 - held.reduce(0, +) - bytes
            return free >= 0 && (ofAddress(index) == 0 || held[index] + bytes <= free - ofAddress(index) - bytes)
        }
        /// The first in line: first of the addresses, by what they hold and how long the first of theirs has waited.
        func first() -> Int? {
            func ofOne(_ address: Int) -> Int? {
                line.indices.filter { line[$0].index % 5 == address }.min {
                    held[line[$0].index] < held[line[$1].index]
                }
            }
            return (0..<5).compactMap(ofOne).min {
                (ofAddress(line[$0].index), $0) < (ofAddress(line[$1].index), $1)
            }
        }
        var expected: [Int] = []
        func grant() {
            while let place = first(), fits(line[place].index, line[place].bytes) {
                let (index, bytes) = line.remove(at: place)
                held[index] += bytes
                expected.append(index)
            }
        }
        for step in 0..<5_000 {
            let index = Int.random(in: 0..<24, using: &generator)
            let bytes = Int.random(in: 1...(Bool.random(using: &generator) ? 20 : 600), using: &generator)
            let place = line.firstIndex { $0.index == index }
            switch Int.random(in: 0..<4, using: &generator) {
            case 0 where held[index] > 0:
                let given = Int.random(in: 1...held[index], using: &generator)
                held[index] -= given
                grant()
                accounts[index].give(given)
            case 1 where place == nil:
                line.append((index, bytes))
                grant()
                accounts[index].wait(for: bytes, Waiter(index, log))
            case 2:
                if let place { line.remove(at: place) }
                grant()
                #expect(accounts[index].cancelWait() == (place != nil), "seed \(seed) step \(step)")
            default:
                let next = first().map { line[$0].index }
                let isFirst = next.map {
                    $0 % 5 == index % 5 ? held[index] < held[$0] : ofAddress(index) < ofAddress($0)
                }
                let isTaken = fits(index, bytes) && isFirst ?? true
                if isTaken { held[index] += bytes }
                #expect(accounts[index].take(bytes) == isTaken, "seed \(seed) step \(step)")
            }
            #expect(budget.used == held.reduce(0, +), "seed \(seed) step \(step)")
            #expect(budget.waiting == line.count, "seed \(seed) step \(step)")
            if log.entries.count != expected.count { break }
        }
        #expect(log.entries == expected, "seed \(seed)")
        #expect(expected.count > 100)
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

    /// Gives back what it was granted, and goes on.
    private final class Worker: ByteBudgetWaiter {
        let budget: ByteBudget.Account
        private let turns: AsyncStream<Void>.Continuation
        private let granted: AsyncStream<Void>
        init(_ budget: ByteBudget.Account) {
            self.budget = budget
            (granted, turns) = AsyncStream.makeStream()
        }
        func granted(_ bytes: Int) {
            budget.give(bytes)
            turns.yield()
        }
        func turn() async { for await _ in granted { return } }
    }

    @Test("many threads: who waits is granted or gave up, and in the end nothing is in use", .timeLimit(.minutes(1)))
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
                            worker.budget.wait(for: bytes, worker)
                            if Bool.random(using: &generator), worker.budget.cancelWait() { continue }
                            await worker.turn()
                        }
                    }
                }
            }
        }
        #expect(budget.used == 0)
        #expect(budget.waiting == 0)
        #expect(workers[0].budget.take(1000))
    }
}
