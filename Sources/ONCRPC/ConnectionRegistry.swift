// The connections of a server: their bound, and their end at its shutdown. A connection is in here from
// its acceptance until it is closed and the last of its calls has ended: calls use what is torn down after the server.
// Above the bound the one that has been idle longest is closed for the new one.
//
// Lock order: `state` is taken alone; connections and the waiter are called after it is released.

internal import Synchronization

/// What others may ask of a connection, from any thread.
protocol RegisteredConnection: AnyObject, Sendable {
    var idleness: ConnectionIdleness { get }
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
    private struct State {
        var connections: [ConnectionNumber: any RegisteredConnection] = [:]
        /// Connections that are being closed for others; still in `connections`.
        var evicted: Set<ConnectionNumber> = []
        var isDraining = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())
    private let maxConnections: Int

    init(maxConnections: Int) { self.maxConnections = maxConnections }

    enum Admission {
        /// `evicting` has to be aborted, which is done without the lock.
        case admitted(evicting: (any RegisteredConnection)?)
        /// There are too many connections, and all have calls in flight.
        case refused
        /// The server is shutting down.
        case draining
    }

    func add(_ connection: any RegisteredConnection, _ number: ConnectionNumber) -> Admission {
        state.withLock { state in
            if state.isDraining { return .draining }
            var victim: (number: ConnectionNumber, connection: any RegisteredConnection)?
            if state.connections.count - state.evicted.count >= maxConnections {
                victim = Self.claimIdle(&state)
                guard let victim else { return .refused }
                state.evicted.insert(victim.number)
            }
            state.connections[number] = connection
            return .admitted(evicting: victim?.connection)
        }
    }

    /// Claims the connection that has been idle longest; looks at all of them.
    private static func claimIdle(
        _ state: inout State
    ) -> (number: ConnectionNumber, connection: any RegisteredConnection)? {
        while true {
            var oldest: (ticket: UInt64, number: ConnectionNumber, connection: any RegisteredConnection)?
            for (number, connection) in state.connections {
                if let ticket = connection.idleness.ticket, ticket < oldest?.ticket ?? .max {
                    oldest = (ticket, number, connection)
                }
            }
            guard let oldest else { return nil }
            // It may have begun a call since.
            if oldest.connection.idleness.claim(oldest.ticket) { return (oldest.number, oldest.connection) }
        }
    }

    /// nil when it is gone.
    func connection(_ number: ConnectionNumber) -> (any RegisteredConnection)? {
        state.withLock { $0.connections[number] }
    }

    func remove(_ number: ConnectionNumber) {
        let waiter = state.withLock { state in
            state.connections[number] = nil
            state.evicted.remove(number)
            return state.connections.isEmpty ? state.waiter.take() : nil
        }
        waiter?.resume()
    }

    /// Drains all connections and returns when they are gone or `giveUp` was called. Once only.
    func drain() async {
        let connections = state.withLock { state in
            state.isDraining = true
            return Array(state.connections.values)
        }
        for connection in connections { connection.drain() }
        await withCheckedContinuation { continuation in
            let isEmpty = state.withLock { state in
                if !state.connections.isEmpty { state.waiter = continuation }
                return state.connections.isEmpty
            }
            if isEmpty { continuation.resume() }
        }
    }

    /// Aborts what is left and ends the wait of `drain`.
    func giveUp() {
        let (connections, waiter) = state.withLock { state in
            (Array(state.connections.values), state.waiter.take())
        }
        for connection in connections { connection.abort() }
        waiter?.resume()
    }

    var count: Int { state.withLock { $0.connections.count } }
}
