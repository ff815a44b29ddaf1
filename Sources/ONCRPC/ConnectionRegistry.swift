// The connections of a server, for its shutdown. A connection is in here from its acceptance until it is
// closed and the last of its calls has ended: calls use what is torn down after the server.
//
// Lock order: `state` is taken alone; connections and the waiter are called after it is released.

internal import Synchronization

/// What the registry knows of a connection; may be called from any thread.
protocol RegisteredConnection: AnyObject, Sendable {
    /// Start no more calls; close when those in flight have ended and their replies are sent.
    func drain()
    /// Close now; calls in flight end without a reply.
    func abort()
}

/// The open connections. May be used from any thread.
final class ConnectionRegistry: Sendable {
    private struct State {
        var connections: [ObjectIdentifier: any RegisteredConnection] = [:]
        var isDraining = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    /// false when the server is shutting down: the connection must be closed.
    func add(_ connection: any RegisteredConnection) -> Bool {
        state.withLock { state in
            if state.isDraining { return false }
            state.connections[ObjectIdentifier(connection)] = connection
            return true
        }
    }

    func remove(_ connection: any RegisteredConnection) {
        let waiter = state.withLock { state in
            state.connections[ObjectIdentifier(connection)] = nil
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
