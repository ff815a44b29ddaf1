// The connections of a server, for its shutdown. A connection is in here from its acceptance until it is
// closed and the last of its calls has ended: calls use what is torn down after the server.
//
// Lock order: `state` is taken alone; connections and the waiter are called after it is released.

internal import Synchronization

/// What others may ask of a connection, from any thread.
protocol RegisteredConnection: AnyObject, Sendable {
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
        var lastNumber: UInt64 = 0
        var isDraining = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    /// The number of the connection; nil when the server is shutting down: the connection must be closed.
    func add(_ connection: any RegisteredConnection) -> ConnectionNumber? {
        state.withLock { state in
            if state.isDraining { return nil }
            state.lastNumber += 1
            let number = ConnectionNumber(rawValue: state.lastNumber)
            state.connections[number] = connection
            return number
        }
    }

    /// nil when it is gone.
    func connection(_ number: ConnectionNumber) -> (any RegisteredConnection)? {
        state.withLock { $0.connections[number] }
    }

    func remove(_ number: ConnectionNumber) {
        let waiter = state.withLock { state in
            state.connections[number] = nil
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
