// The memory that all connections of a server may use together: records being received, calls in flight, the replies
// that they will make, and replies that clients have not taken. And how much of it one client gets.
//
// The rule: a connection is given bytes if it then holds no more than its client address could still be given, and
// an address if it then holds no more than is left free; an address that holds nothing gets whatever is free. So one
// connection gets a third of all, one address half, and n addresses that take what they can get 1/(n + 1) each: as
// much is left free, and nobody new waits for them until the largest request no longer fits, which takes
// 224 MiB / 2.06 MiB, some 107, addresses (15 for the newcomers' 32 MiB).
//
// Who gets no bytes waits in line, for one thing at a time. First is the address that holds least, and of it the
// connection that holds least; among equals who has waited longest. Nobody is granted bytes before who is first, and
// nobody takes any unless he holds less: his address than the first one, or, of the same address, his connection. So a
// large request is not overtaken for ever by small ones, and who holds much keeps nobody waiting who holds little.
// Nobody may wait for more while he holds bytes of this budget that only more would set free. Who no longer wants his
// bytes leaves the line: there are at most as many in it as connections, and nobody waits behind the dead.
//
// Everything takes O(log n) in those who wait, since the lock is that of all connections.
//
// Invariants: `used` is the sum of what accounts hold; it exceeds `capacity` only by what was taken `regardless`.
// `addresses` has those that hold something or have connections in line. An account is in its address's line while it
// awaits something, an address in `State.line` while its own isn't empty.
//
// Lock order: `state` is taken alone, and guards what accounts and addresses have; waiters are called after it is
// released.

internal import Synchronization

/// Gets bytes that it has waited for; called from any thread.
protocol ByteBudgetWaiter: AnyObject, Sendable {
    /// The bytes are taken for the waiter, who gives them back in the end.
    func granted(_ bytes: Int)
}

/// Bytes that can be taken and given back through accounts. May be used from any thread.
final class ByteBudget: Sendable {
    /// What one connection holds of a budget. Its variables are guarded by the budget's lock.
    final class Account: Ranked, @unchecked Sendable {
        fileprivate let budget: ByteBudget
        fileprivate let client: ClientAddress?
        fileprivate var held = 0
        fileprivate var awaited: Awaited?
        var place: Int?

        fileprivate init(_ budget: ByteBudget, client: ClientAddress?) {
            self.budget = budget
            self.client = client
        }

        func precedes(_ other: Account) -> Bool {
            (held, awaited?.ticket ?? 0) < (other.held, other.awaited?.ticket ?? 0)
        }

        /// Takes the bytes if the rule has it and nobody waits who comes first.
        func take(_ bytes: Int) -> Bool { budget.take(bytes, for: self) }
        /// Takes the bytes, free or not.
        func takeRegardless(_ bytes: Int) { budget.takeRegardless(bytes, for: self) }
        /// Gets in line.
        /// - Precondition: not more than the capacity; not in line already.
        func wait(for bytes: Int, _ waiter: any ByteBudgetWaiter) { budget.wait(for: bytes, waiter, self) }
        /// Leaves the line. false when it isn't in it any more: the bytes are granted, and the waiter is being told.
        func cancelWait() -> Bool { budget.cancelWait(of: self) }
        func give(_ bytes: Int) { budget.give(bytes, of: self) }
        /// Whether somebody waits for what accounts of this budget hold.
        var isContended: Bool { budget.waiting > 0 }
    }

    fileprivate struct Awaited: Sendable {
        let bytes: Int
        let waiter: any ByteBudgetWaiter
        /// The lower, the longer it has waited.
        let ticket: UInt64
    }

    /// What the connections of one address hold together, and those that are in line.
    private final class Address: Ranked, @unchecked Sendable {
        var held = 0
        var line = RankedQueue<Account>()
        var place: Int?

        private var ticket: UInt64 { line.first?.awaited?.ticket ?? 0 }

        func precedes(_ other: Address) -> Bool { (held, ticket) < (other.held, other.ticket) }
    }

    private struct State {
        let capacity: Int
        var used = 0
        var addresses: [ClientAddress?: Address] = [:]
        var line = RankedQueue<Address>()
        /// How many accounts are in line.
        var waiting = 0
        var lastTicket: UInt64 = 0

        init(capacity: Int) { self.capacity = capacity }

        func fits(_ bytes: Int, _ account: Account, heldByAddress: Int) -> Bool {
            let free = capacity - used - bytes
            guard free >= 0 else { return false }
            return heldByAddress == 0 || account.held + bytes <= free - (heldByAddress + bytes)
        }

        /// Whether it may take bytes before all that wait.
        func isFirst(_ account: Account, _ address: Address?) -> Bool {
            guard let first = line.first else { return true }
            guard first === address else { return (address?.held ?? 0) < first.held }
            return account.held < first.line.first?.held ?? 0
        }

        /// Calls `body` with the account's address, and then keeps the invariants of what it changed.
        private mutating func withAddress(of account: Account, _ body: (inout State, Address) -> Void) {
            let address = addresses[account.client] ?? Address()
            body(&self, address)
            let isInLine = address.line.first != nil
            switch (address.place != nil, isInLine) {
            case (true, true): line.rankChanged(address)
            case (true, false): line.remove(address)
            case (false, true): line.insert(address)
            case (false, false): break
            }
            addresses[account.client] = address.held == 0 && !isInLine ? nil : address
        }

        mutating func change(_ account: Account, by bytes: Int) {
            withAddress(of: account) { state, address in
                state.used += bytes
                address.held += bytes
                account.held += bytes
                precondition(address.held >= 0 && account.held >= 0, "more given back than taken")
                if account.awaited != nil { address.line.rankChanged(account) }
            }
        }

        mutating func enter(_ account: Account, for bytes: Int, _ waiter: any ByteBudgetWaiter) {
            precondition(account.awaited == nil, "waits already")
            withAddress(of: account) { state, address in
                state.lastTicket += 1
                state.waiting += 1
                account.awaited = Awaited(bytes: bytes, waiter: waiter, ticket: state.lastTicket)
                address.line.insert(account)
            }
        }

        /// Returns what it waited for; nil when it isn't in line.
        mutating func leave(_ account: Account) -> Awaited? {
            guard let awaited = account.awaited else { return nil }
            withAddress(of: account) { state, address in
                state.waiting -= 1
                address.line.remove(account)
                account.awaited = nil
            }
            return awaited
        }

        /// Takes for those in line what the rule has for them.
        mutating func grant() -> [Awaited] {
            var granted: [Awaited] = []
            while let address = line.first, let account = address.line.first, let bytes = account.awaited?.bytes,
                fits(bytes, account, heldByAddress: address.held), let awaited = leave(account)
            {
                change(account, by: bytes)
                granted.append(awaited)
            }
            return granted
        }
    }

    let capacity: Int
    private let state: Mutex<State>
    private let lineLength = Atomic<Int>(0)

    /// - Parameter capacity: at least as much as anyone asks for at once.
    init(capacity: Int) {
        self.capacity = capacity
        state = Mutex(State(capacity: capacity))
    }

    /// For one connection.
    func account(of client: ClientAddress?) -> Account { Account(self, client: client) }

    var used: Int { state.withLock { $0.used } }
    /// How many accounts are in line.
    var waiting: Int { lineLength.load(ordering: .relaxed) }

    private func take(_ bytes: Int, for account: Account) -> Bool {
        state.withLock { state in
            let address = state.addresses[account.client]
            guard state.fits(bytes, account, heldByAddress: address?.held ?? 0), state.isFirst(account, address)
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
        grant { $0.enter(account, for: bytes, waiter) }
    }

    private func cancelWait(of account: Account) -> Bool {
        // Who was behind may be first now.
        grant { $0.leave(account) != nil }
    }

    private func give(_ bytes: Int, of account: Account) {
        if bytes > 0 { grant { $0.change(account, by: -bytes) } }
    }

    private func grant<Result: Sendable>(after change: (inout State) -> Result) -> Result {
        let (result, granted) = state.withLock { state in
            let result = change(&state)
            let granted = state.grant()
            lineLength.store(state.waiting, ordering: .relaxed)
            return (result, granted)
        }
        for awaited in granted { awaited.waiter.granted(awaited.bytes) }
        return result
    }
}
