// The memory for cells that are being filled or written, made when the store starts and never more, so that
// freeing cached writes never needs memory that isn't there.
//
// Invariants: a buffer is free or has one owner. Who waits is served in order of asking, so a stream with
// wide stripes is not starved by narrow ones. A stream takes the buffers of a stripe at once and needs no
// more to get rid of them, so streams can't wait for each other in a circle.
//
// A reused buffer holds old bytes: its owner sends only what it has written or zeroed.
//
// Lock order: `state` is a leaf; continuations are resumed after it is released.

internal import Platform
internal import Synchronization

/// A fixed number of buffers of one cell each. May be used by several tasks at once.
public final class CellBufferPool: Sendable {
    public let cellSizeBytes: Int
    /// The number of buffers there are.
    public let capacity: Int

    private struct Waiter {
        let count: Int
        let continuation: UnsafeContinuation<[AlignedBuffer], Never>
    }

    private struct State {
        var free: [AlignedBuffer]
        var waiters: [Waiter] = []

        mutating func take(_ count: Int) -> [AlignedBuffer] {
            let taken = Array(free.suffix(count))
            free.removeLast(count)
            return taken
        }
    }

    private let state: Mutex<State>

    public init(cellSizeBytes: Int, capacity: Int) {
        self.cellSizeBytes = cellSizeBytes
        self.capacity = capacity
        state = Mutex(State(free: (0..<capacity).map { _ in AlignedBuffer(count: cellSizeBytes) }))
    }

    /// Buffers that nobody owns.
    public var freeCount: Int { state.withLock { $0.free.count } }

    /// Takes buffers, once so many are free. Not cancellable.
    /// - Precondition: `count` ≤ `capacity`.
    func take(_ count: Int) async -> [AlignedBuffer] {
        precondition(count <= capacity, "a stripe must fit into the pool")
        return await withUnsafeContinuation { continuation in
            let taken = state.withLock { state -> [AlignedBuffer]? in
                guard state.waiters.isEmpty, state.free.count >= count else {
                    state.waiters.append(Waiter(count: count, continuation: continuation))
                    return nil
                }
                return state.take(count)
            }
            if let taken { continuation.resume(returning: taken) }
        }
    }

    func give(back buffers: [AlignedBuffer]) {
        let served = state.withLock { state in
            state.free.append(contentsOf: buffers)
            var served: [(Waiter, [AlignedBuffer])] = []
            while let first = state.waiters.first, state.free.count >= first.count {
                served.append((state.waiters.removeFirst(), state.take(first.count)))
            }
            return served
        }
        for (waiter, buffers) in served { waiter.continuation.resume(returning: buffers) }
    }
}
