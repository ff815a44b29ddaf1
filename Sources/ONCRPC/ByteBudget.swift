// The memory that all connections of a server may use together: records being received, calls in flight, the replies
// that they will make, and replies that clients have not taken.
//
// Whoever gets no bytes waits in line; what is given back goes to the first in line, so a large request isn't
// overtaken for ever by small ones. Nobody may wait for more while he holds bytes that only more would set free: a
// connection asks once per call, for the record and the reply together, before it receives what is large.
//
// Invariants: `used` is what was taken and not given back; it exceeds `capacity` only by what was taken `regardless`.
// A waiter is in `line` until it was granted its bytes. `waiting` is the length of the line.
//
// Lock order: `line` is taken alone; waiters are called after it is released. Without a line no lock is taken.

internal import NIOCore
internal import Synchronization

/// Gets bytes that it has waited for; called from any thread.
protocol ByteBudgetWaiter: AnyObject, Sendable {
    /// The bytes are taken for the waiter, who gives them back in the end.
    func granted(_ bytes: Int)
}

/// Bytes that can be taken and given back. May be used from any thread.
final class ByteBudget: Sendable {
    private struct Waiter {
        let waiter: any ByteBudgetWaiter
        let bytes: Int
    }

    let capacity: Int
    private let usedBytes = Atomic<Int>(0)
    private let waiting = Atomic<Int>(0)
    private let line = Mutex(CircularBuffer<Waiter>())

    /// - Parameter capacity: at least as much as anyone asks for at once.
    init(capacity: Int) { self.capacity = capacity }

    var used: Int { usedBytes.load(ordering: .relaxed) }

    /// Takes the bytes if there are as many and nobody waits.
    func take(_ bytes: Int) -> Bool {
        waiting.load(ordering: .sequentiallyConsistent) == 0 && takeIfFree(bytes)
    }

    /// Takes the bytes, free or not.
    func takeRegardless(_ bytes: Int) { usedBytes.add(bytes, ordering: .sequentiallyConsistent) }

    /// Gets in line.
    /// - Precondition: not more than the capacity.
    func wait(for bytes: Int, _ waiter: any ByteBudgetWaiter) {
        precondition(bytes <= capacity, "would wait for ever")
        line.withLock { line in
            line.append(Waiter(waiter: waiter, bytes: bytes))
            waiting.store(line.count, ordering: .sequentiallyConsistent)
        }
        grant()  // what was given back before `waiting` changed
    }

    func give(_ bytes: Int) {
        let used = usedBytes.subtract(bytes, ordering: .sequentiallyConsistent).newValue
        precondition(used >= 0, "more given back than taken")
        if waiting.load(ordering: .sequentiallyConsistent) > 0 { grant() }
    }

    private func grant() {
        let granted = line.withLock { line in
            var granted: [Waiter] = []
            while let first = line.first, takeIfFree(first.bytes) { granted.append(line.removeFirst()) }
            waiting.store(line.count, ordering: .sequentiallyConsistent)
            return granted
        }
        for waiter in granted { waiter.waiter.granted(waiter.bytes) }
    }

    private func takeIfFree(_ bytes: Int) -> Bool {
        var used = usedBytes.load(ordering: .sequentiallyConsistent)
        while used + bytes <= capacity {
            let (isDone, original) = usedBytes.weakCompareExchange(
                expected: used, desired: used + bytes, ordering: .sequentiallyConsistent)
            if isDone { return true }
            used = original
        }
        return false
    }
}
