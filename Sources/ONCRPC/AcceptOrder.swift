// Numbers connections in the order in which they were accepted. Each begins its life on an event loop of its own, in any
// order, so the listening socket's loop must number them. Which of two connections is younger decides where a client
// waits for the answer to a call that it sent on both (DuplicateRequestCache).
//
// Lock order: `state` is a leaf.

internal import NIOCore
internal import Synchronization

/// The numbers of connections that were accepted and have not begun. May be used from any thread.
final class AcceptOrder: Sendable {
    private struct State {
        var lastNumber: UInt64 = 0
        var waiting: [ObjectIdentifier: ConnectionNumber] = [:]
    }

    private let state = Mutex(State())

    /// Numbers a connection; in the order of acceptance.
    func number(_ channel: any Channel) {
        let key = ObjectIdentifier(channel)
        state.withLock { state in
            state.lastNumber += 1
            state.waiting[key] = ConnectionNumber(rawValue: state.lastNumber)
        }
        // Who is gone before it begins leaves nothing behind.
        channel.closeFuture.whenComplete { _ in self.state.withLock { $0.waiting[key] = nil } }
    }

    /// The number of a connection that begins; a new one for a connection that is being closed already.
    func take(_ channel: any Channel) -> ConnectionNumber {
        state.withLock { state in
            if let number = state.waiting.removeValue(forKey: ObjectIdentifier(channel)) { return number }
            state.lastNumber += 1
            return ConnectionNumber(rawValue: state.lastNumber)
        }
    }
}
