// What a striped output stream has handed to its targets and not heard of again. Apart from the stream, so
// that a stream that is given up ends at once, and its packets when the targets are done with them.
//
// Lock order: `state` is a leaf; the continuation is resumed and buffers are given back after it is released.

internal import BlockStore
internal import Platform
internal import Synchronization

/// The calls under way to the targets of one stream. One task begins them and waits, any thread ends them.
final class StripeFlight: Sendable {
    private struct State {
        var bytes = 0
        var calls = 0
        var failures: [TargetFailure] = []
        var waiter: Waiter?
    }

    private struct Waiter {
        /// nil: wait for all calls.
        let maxBytes: Int?
        let continuation: UnsafeContinuation<Void, Never>

        func isServed(_ state: State) -> Bool {
            guard let maxBytes else { return state.calls == 0 }
            return state.bytes <= maxBytes || !state.failures.isEmpty
        }
    }

    private let pool: CellBufferPool
    private let state = Mutex(State())

    init(pool: CellBufferPool) { self.pool = pool }

    var hasFailed: Bool { state.withLock { !$0.failures.isEmpty } }

    /// The first failure of each target that failed, by index.
    var failures: [TargetFailure] { state.withLock { $0.failures.sorted { $0.index < $1.index } } }

    func begin(bytes: Int) {
        state.withLock {
            $0.bytes += bytes
            $0.calls += 1
        }
    }

    func end(
        _ index: Int, bytes: Int, buffer: AlignedBuffer?, _ result: Result<BlockAcknowledgement, BlockWriteError>
    ) {
        if let buffer { pool.give(back: [buffer]) }
        let waiter = state.withLock { state -> Waiter? in
            state.bytes -= bytes
            state.calls -= 1
            if case .failure(let error) = result, !state.failures.contains(where: { $0.index == index }) {
                state.failures.append(TargetFailure(index: index, error: error))
            }
            guard let waiter = state.waiter, waiter.isServed(state) else { return nil }
            state.waiter = nil
            return waiter
        }
        waiter?.continuation.resume()
    }

    /// Waits until at most so many bytes are under way, or a target has failed.
    func wait(maxBytes: Int) async { await wait(maxBytes) }

    /// Waits for all calls, failed or not.
    func waitForAll() async { await wait(nil) }

    private func wait(_ maxBytes: Int?) async {
        await withUnsafeContinuation { continuation in
            let waiter = Waiter(maxBytes: maxBytes, continuation: continuation)
            let isServed = state.withLock { state in
                if waiter.isServed(state) { return true }
                precondition(state.waiter == nil, "one task at a time uses a stream")
                state.waiter = waiter
                return false
            }
            if isServed { continuation.resume() }
        }
    }
}
