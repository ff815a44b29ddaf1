// A call to somebody who is made later than who calls.

internal import Synchronization

/// Nobody is called before `receiver` is set. May be used from any thread.
final class LateCall<Argument>: Sendable {
    private let body = Mutex<(@Sendable (Argument) -> Void)?>(nil)

    /// To be set once.
    func setReceiver(_ receiver: @escaping @Sendable (Argument) -> Void) { body.withLock { $0 = receiver } }

    func callAsFunction(_ argument: Argument) { body.withLock { $0 }?(argument) }
}
