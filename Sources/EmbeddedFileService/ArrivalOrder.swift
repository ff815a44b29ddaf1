// Keeps the calls of a file in their order of arrival while its node is being read from the namespace.
//
// Waiting alone does not: a call whose answer is there before it has suspended goes on at once, past earlier
// ones that are queued to be resumed. So each call that has to wait takes a ticket, calls that come while
// there are tickets take one too, and each goes on when it is its turn.
//
// Invariant: a line exists exactly while a ticket of it is held.

internal import Model
internal import Synchronization

/// Lines of calls, one for each file that some call waits for.
final class ArrivalOrder: Sendable {
    private struct Line {
        var nextTicket = 0
        var turn = 0
        var parked: [Int: UnsafeContinuation<Void, Never>] = [:]
    }
    private let lines = Mutex<[FileID: Line]>([:])

    /// What `find` returns if that is something and nobody waits; otherwise a ticket, which must be handed to
    /// `leave`.
    func enter<Found>(_ file: FileID, orFind find: () -> Found?) -> (found: Found?, ticket: Int) {
        lines.withLock { lines in
            if lines[file] == nil, let found = find() { return (found, 0) }
            let ticket = lines[file, default: Line()].nextTicket
            lines[file, default: Line()].nextTicket += 1
            return (nil, ticket)
        }
    }

    /// Whether some call holds a ticket.
    func isWaited(for file: FileID) -> Bool { lines.withLock { $0[file] != nil } }

    /// Returns when all that entered before have left.
    func waitForTurn(_ ticket: Int, of file: FileID) async {
        if lines.withLock({ $0[file]!.turn == ticket }) { return }
        await withUnsafeContinuation { continuation in
            let isTurn = lines.withLock { lines in
                if lines[file]!.turn == ticket { return true }
                lines[file]!.parked[ticket] = continuation
                return false
            }
            if isTurn { continuation.resume() }
        }
    }

    /// Lets the next one go on. The caller's turn must have come.
    func leave(_ file: FileID) {
        let next = lines.withLock { lines -> UnsafeContinuation<Void, Never>? in
            lines[file]!.turn += 1
            let line = lines[file]!
            if line.turn == line.nextTicket { lines[file] = nil }
            return lines[file]?.parked.removeValue(forKey: line.turn)
        }
        next?.resume()
    }
}
