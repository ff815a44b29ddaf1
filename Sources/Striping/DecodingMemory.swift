// Bounds the memory of reads that have to decode: each holds k times what it was asked for, until the slowest of its
// blocks has answered.
//
// Invariants: `used` ≤ `capacity`, but for one that wants more than all, which goes alone. Who waits is served in order.
//
// Lock order: `state` is a leaf; continuations are resumed after it is released.

internal import Synchronization

/// Bytes that readers of degraded groups may hold together. May be used by several tasks at once.
public final class DecodingMemory: Sendable {
    private struct Waiter {
        let bytes: Int
        let continuation: UnsafeContinuation<Void, Never>
    }

    private struct State {
        var used = 0
        var waiters: [Waiter] = []
    }

    private let capacity: Int
    private let state = Mutex(State())

    public init(capacity: Int) { self.capacity = capacity }

    /// Bytes that are taken.
    var used: Int { state.withLock { $0.used } }

    /// Calls `body` with so many bytes taken, once they are free. `body` must need no others of this memory.
    public func with<Result, Failure: Error>(
        _ bytes: Int, _ body: () async throws(Failure) -> Result
    ) async throws(Failure) -> Result {
        let bytes = min(bytes, capacity)
        await withUnsafeContinuation { continuation in
            let isTaken = state.withLock { state in
                guard state.waiters.isEmpty, state.used + bytes <= capacity else {
                    state.waiters.append(Waiter(bytes: bytes, continuation: continuation))
                    return false
                }
                state.used += bytes
                return true
            }
            if isTaken { continuation.resume() }
        }
        defer { give(bytes) }
        return try await body()
    }

    private func give(_ bytes: Int) {
        let ready = state.withLock { state in
            state.used -= bytes
            var ready: [Waiter] = []
            while let next = state.waiters.first, state.used + next.bytes <= capacity {
                state.used += next.bytes
                ready.append(state.waiters.removeFirst())
            }
            return ready
        }
        for waiter in ready { waiter.continuation.resume() }
    }
}
