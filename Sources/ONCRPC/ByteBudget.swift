// The memory that all connections of a server may use together: records being received, calls in flight, the replies
// that they will make, and replies that clients have not taken. And how much of it one client gets.
//
// The rule: a connection is given bytes if it then holds no more than its client address could still be given, and
// an address if it then holds no more than is left free; an address that holds nothing gets whatever is free. So one
// connection gets a third of all, one address half, and n addresses that take what they can get 1/(n + 1) each: as
// much is left free, and nobody new waits for them until the largest request no longer fits, which takes
// 224 MiB / 2.06 MiB, some 107, addresses (15 for the newcomers' 32 MiB).
//
// Who gets no bytes waits in line. He may be overtaken only by those who hold less than he does: first by address, then
// by connection. So a large request is not overtaken for ever by small ones, and who holds much keeps nobody waiting
// who holds little. Nobody may wait for more while he holds bytes of this budget that only more would set free.
//
// Invariants: `used` is the sum of what accounts hold; it exceeds `capacity` only by what was taken `regardless`.
// `held` has the addresses that hold something. `waiting` is the length of the line.
//
// Lock order: `state` is taken alone; waiters are called after it is released.

internal import Synchronization

/// Gets bytes that it has waited for; called from any thread.
protocol ByteBudgetWaiter: AnyObject, Sendable {
    /// The bytes are taken for the waiter, who gives them back in the end.
    func granted(_ bytes: Int)
}

/// Bytes that can be taken and given back through accounts. May be used from any thread.
final class ByteBudget: Sendable {
    /// What one connection holds of a budget.
    final class Account: Sendable {
        fileprivate let budget: ByteBudget
        fileprivate let client: ClientAddress?
        /// Changed under the budget's lock only.
        fileprivate let held = Atomic<Int>(0)

        fileprivate init(_ budget: ByteBudget, client: ClientAddress?) {
            self.budget = budget
            self.client = client
        }

        /// Takes the bytes if the rule has it and nobody waits who comes first.
        func take(_ bytes: Int) -> Bool { budget.take(bytes, for: self) }
        /// Takes the bytes, free or not.
        func takeRegardless(_ bytes: Int) { budget.takeRegardless(bytes, for: self) }
        /// Gets in line.
        /// - Precondition: not more than the capacity.
        func wait(for bytes: Int, _ waiter: any ByteBudgetWaiter) { budget.wait(for: bytes, waiter, self) }
        func give(_ bytes: Int) { budget.give(bytes, of: self) }
        /// Whether somebody waits for what accounts of this budget hold.
        var isContended: Bool { budget.isContended }
    }

    private struct Waiter {
        let waiter: any ByteBudgetWaiter
        let account: Account
        let bytes: Int
    }

    /// What an account holds: the less, the earlier its turn.
    private struct Holding: Comparable {
        let byAddress: Int
        let byConnection: Int

        static func < (left: Holding, right: Holding) -> Bool {
            (left.byAddress, left.byConnection) < (right.byAddress, right.byConnection)
        }
    }

    private struct State {
        let capacity: Int
        var used = 0
        var held: [ClientAddress?: Int] = [:]
        var line: [Waiter] = []

        func holding(_ account: Account) -> Holding {
            Holding(
                byAddress: held[account.client] ?? 0, byConnection: account.held.load(ordering: .relaxed))
        }

        func fits(_ bytes: Int, _ holding: Holding) -> Bool {
            let free = capacity - used - bytes
            guard free >= 0 else { return false }
            return holding.byAddress == 0 || holding.byConnection + bytes <= free - (holding.byAddress + bytes)
        }

        mutating func change(_ account: Account, by bytes: Int) {
            used += bytes
            let ofAddress = (held[account.client] ?? 0) + bytes
            let ofConnection = account.held.wrappingAdd(bytes, ordering: .relaxed).newValue
            precondition(ofAddress >= 0 && ofConnection >= 0, "more given back than taken")
            held[account.client] = ofAddress == 0 ? nil : ofAddress
        }

        /// Takes for those in line what the rule has for them. Looks at all of them.
        mutating func grant() -> [Waiter] {
            var granted: [Waiter] = []
            var first: Holding?
            var rest: [Waiter] = []
            for waiter in line {
                let holding = holding(waiter.account)
                if first.map({ holding < $0 }) ?? true, fits(waiter.bytes, holding) {
                    change(waiter.account, by: waiter.bytes)
                    granted.append(waiter)
                } else {
                    first = min(first ?? holding, holding)
                    rest.append(waiter)
                }
            }
            if !granted.isEmpty { line = rest }
            return granted
        }
    }

    let capacity: Int
    private let state: Mutex<State>
    private let waiting = Atomic<Int>(0)

    /// - Parameter capacity: at least as much as anyone asks for at once.
    init(capacity: Int) {
        self.capacity = capacity
        state = Mutex(State(capacity: capacity))
    }

    /// For one connection.
    func account(of client: ClientAddress?) -> Account { Account(self, client: client) }

    var used: Int { state.withLock { $0.used } }
    var isContended: Bool { waiting.load(ordering: .relaxed) > 0 }

    private func take(_ bytes: Int, for account: Account) -> Bool {
        state.withLock { state in
            let holding = state.holding(account)
            guard state.fits(bytes, holding),
                state.line.allSatisfy({ holding < state.holding($0.account) })
            else { return false }
            state.change(account, by: bytes)
            return true
        }
    }

    private func takeRegardless(_ bytes: Int, for account: Account) {
        state.withLock { $0.change(account, by: bytes) }
    }

    private func wait(for bytes: Int, _ waiter: any ByteBudgetWaiter, _ account: Account) {
        precondition(bytes <= capacity, "would wait for ever")
        grant { $0.line.append(Waiter(waiter: waiter, account: account, bytes: bytes)) }
    }

    private func give(_ bytes: Int, of account: Account) {
        if bytes > 0 { grant { $0.change(account, by: -bytes) } }
    }

    private func grant(after change: (inout State) -> Void) {
        let granted = state.withLock { state in
            change(&state)
            if state.line.isEmpty { return [Waiter]() }
            let granted = state.grant()
            waiting.store(state.line.count, ordering: .relaxed)
            return granted
        }
        for waiter in granted { waiter.waiter.granted(waiter.bytes) }
    }
}
