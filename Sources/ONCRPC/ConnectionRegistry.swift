// The connections of a server: their bound, and their end at its shutdown. A connection is in here from
// its acceptance until it is closed and the last of its calls has ended: calls use what is torn down after the server.
//
// Above the bound a connection is closed for the new one: of the address that has the most, so that nobody loses one
// to an address that has more than he. The one that has been idle longest if there is one; else, if that address has
// more than the new one's will have, one that has stalled, or its youngest. So one address may have all connections
// only until others come, whatever it does with them; n addresses that want all get an n-th each.
//
// Lock order: `state` is taken alone; connections and the waiter are called after it is released.

internal import Synchronization

/// What others may ask of a connection, from any thread.
protocol RegisteredConnection: AnyObject, Sendable {
    var idleness: ConnectionIdleness { get }
    /// Nothing has moved for a while though the client should send the rest of a record, or take replies.
    var isStalled: Bool { get }
    /// Start no more calls; close when those in flight have ended and their replies are sent.
    func drain()
    /// Close now; calls in flight end without a reply.
    func abort()
    /// The client uses a younger connection instead. From the return on no call is started; what was received
    /// is forgotten, and the connection closes when the calls in flight have ended.
    func giveUp()
    /// Sends the answer to a call that another connection carried out, and of which a copy came by this one.
    func deliver(_ message: ReplyMessage, xid: UInt32)
}

/// The open connections. May be used from any thread.
final class ConnectionRegistry: Sendable {
    private struct Member {
        let connection: any RegisteredConnection
        let client: ClientAddress
        /// It is being closed for another one.
        var isEvicted = false
    }

    private struct State {
        var members: [ConnectionNumber: Member] = [:]
        /// Members that are not evicted, in all and of each address.
        var count = 0
        var counts: [ClientAddress: Int] = [:]
        var isDraining = false
        var waiter: CheckedContinuation<Void, Never>?

        /// A member comes or goes, or will go.
        mutating func count(_ client: ClientAddress, _ change: Int) {
            count += change
            let ofAddress = (counts[client] ?? 0) + change
            counts[client] = ofAddress == 0 ? nil : ofAddress
        }
    }

    private let state = Mutex(State())
    private let maxConnections: Int

    init(maxConnections: Int) { self.maxConnections = maxConnections }

    enum Admission {
        /// `evicting` has to be aborted, which is done without the lock.
        case admitted(evicting: (any RegisteredConnection)?)
        /// There are too many connections, and none that may be closed for it.
        case refused
        /// The server is shutting down.
        case draining
    }

    func add(_ connection: any RegisteredConnection, _ number: ConnectionNumber, of client: ClientAddress) -> Admission
    {
        state.withLock { state in
            if state.isDraining { return .draining }
            var evicted: (any RegisteredConnection)?
            if state.count >= maxConnections {
                guard let victim = Self.victim(for: client, &state), let member = state.members[victim] else {
                    return .refused
                }
                state.members[victim]?.isEvicted = true
                state.count(member.client, -1)
                evicted = member.connection
            }
            state.members[number] = Member(connection: connection, client: client)
            state.count(client, 1)
            return .admitted(evicting: evicted)
        }
    }

    /// The connection to close for a new one. Looks at all of them.
    private static func victim(for client: ClientAddress, _ state: inout State) -> ConnectionNumber? {
        let own = state.counts[client] ?? 0
        let most = state.counts.values.max() ?? 0
        if most > own {
            func isOfLargest(_ member: Member) -> Bool { state.counts[member.client] == most }
            if let idle = claimIdle(state, isOfLargest) { return idle }
            // Otherwise they would only change places.
            if most > own + 1 {
                return youngest(state) { isOfLargest($0) && $0.connection.isStalled } ?? youngest(state, isOfLargest)
            }
        }
        func isOwn(_ member: Member) -> Bool { member.client == client }
        return claimIdle(state, isOwn) ?? youngest(state) { isOwn($0) && $0.connection.isStalled }
    }

    /// Claims the connection that has been idle longest.
    private static func claimIdle(_ state: State, _ isCandidate: (Member) -> Bool) -> ConnectionNumber? {
        while true {
            var oldest: (ticket: UInt64, number: ConnectionNumber, idleness: ConnectionIdleness)?
            for (number, member) in state.members where !member.isEvicted && isCandidate(member) {
                let idleness = member.connection.idleness
                if let ticket = idleness.ticket, ticket < oldest?.ticket ?? .max { oldest = (ticket, number, idleness) }
            }
            guard let oldest else { return nil }
            // It may have begun a call since.
            if oldest.idleness.claim(oldest.ticket) { return oldest.number }
        }
    }

    private static func youngest(_ state: State, _ isCandidate: (Member) -> Bool) -> ConnectionNumber? {
        var youngest: ConnectionNumber?
        for (number, member) in state.members where !member.isEvicted && isCandidate(member) {
            youngest = max(youngest ?? number, number)
        }
        return youngest
    }

    /// nil when it is gone.
    func connection(_ number: ConnectionNumber) -> (any RegisteredConnection)? {
        state.withLock { $0.members[number]?.connection }
    }

    func remove(_ number: ConnectionNumber) {
        let waiter = state.withLock { state in
            if let member = state.members.removeValue(forKey: number), !member.isEvicted {
                state.count(member.client, -1)
            }
            return state.members.isEmpty ? state.waiter.take() : nil
        }
        waiter?.resume()
    }

    /// Drains all connections and returns when they are gone or `giveUp` was called. Once only.
    func drain() async {
        let connections = state.withLock { state in
            state.isDraining = true
            return state.members.values.map(\.connection)
        }
        for connection in connections { connection.drain() }
        await withCheckedContinuation { continuation in
            let isEmpty = state.withLock { state in
                if !state.members.isEmpty { state.waiter = continuation }
                return state.members.isEmpty
            }
            if isEmpty { continuation.resume() }
        }
    }

    /// Aborts what is left and ends the wait of `drain`.
    func giveUp() {
        let (connections, waiter) = state.withLock { state in
            (state.members.values.map(\.connection), state.waiter.take())
        }
        for connection in connections { connection.abort() }
        waiter?.resume()
    }

    var count: Int { state.withLock { $0.members.count } }
}
