// Which connection has been without calls in flight for longest. It is closed when there are too many: Linux clients
// connect again when they need to.
//
// A connection takes a ticket when its last call has ended, and another one whenever bytes arrive: who sends a record
// slowly is no less alive than who has just begun one. The lowest ticket has been idle longest. Whoever closes an idle
// connection claims it first: from then on it starts no call.

internal import Synchronization

/// Whether a connection is idle, and since when. The connection's event loop begins and ends; anyone may claim.
final class ConnectionIdleness: Sendable {
    private static let busy: UInt64 = 0
    private static let claimed = UInt64.max
    private static let lastTicket = Atomic<UInt64>(0)

    private let state: Atomic<UInt64>

    /// Idle from now on.
    init() { state = Atomic(Self.nextTicket()) }

    private static func nextTicket() -> UInt64 { lastTicket.add(1, ordering: .relaxed).newValue }

    /// The ticket; nil when it is busy or claimed.
    var ticket: UInt64? {
        let value = state.load(ordering: .acquiring)
        return value == Self.busy || value == Self.claimed ? nil : value
    }

    /// Claims it if it is idle under this ticket.
    func claim(_ ticket: UInt64) -> Bool {
        state.compareExchange(expected: ticket, desired: Self.claimed, ordering: .acquiringAndReleasing).exchanged
    }

    /// A call begins. false if the connection was claimed: then none may begin.
    func end() -> Bool {
        guard let ticket else { return state.load(ordering: .acquiring) == Self.busy }
        return state.compareExchange(expected: ticket, desired: Self.busy, ordering: .acquiringAndReleasing).exchanged
    }

    /// Bytes have arrived. Nothing when it is busy or claimed.
    func renew() {
        guard let ticket else { return }
        _ = state.compareExchange(expected: ticket, desired: Self.nextTicket(), ordering: .acquiringAndReleasing)
    }

    /// No call is in flight any more.
    /// - Precondition: `end` returned true.
    func begin() { state.store(Self.nextTicket(), ordering: .releasing) }
}
