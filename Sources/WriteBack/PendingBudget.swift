// The memory of pending writes, and the WRITEs that wait for some of it: they are answered later, and their connections are
// not read any further than the requests' own bounds allow.
//
// A WRITE waits with its bytes in their file, charged to its connection as well, so that all that wait are bounded. Not for
// ever, as clients ask again after a minute. After the longest wait the store is stuck: a disk hangs, or all are very slow.
// Then those that wait are answered, their bytes being in; what comes from then on waits outside, with nothing charged here,
// and is told to come again later if that takes as long. So memory stays bounded by the budget and what connections may
// have under way, whatever hangs.
//
// Fairness: who writes to a file that holds more than its share of memory waits earlier than others do. A client with one
// small file isn't held up by one that fills the memory, as long as there is some left.
//
// A state machine without I/O; whoever has it calls the continuations that it gives back, with its lock not held.

internal import Model

/// What is held, and who waits. Not synchronised.
struct PendingBudget {
    /// What a WRITE waits for.
    enum Shortage {
        /// Memory; with more than its share the file of the WRITE has less of it.
        case memory(isLarge: Bool)
        /// A place in the table of open files.
        case places
        /// The end of the time in which the store is stuck.
        case stuckStore
    }

    enum Outcome {
        case goOn
        /// It took too long.
        case timedOut
    }

    typealias Continuation = UnsafeContinuation<Outcome, Never>

    struct Stalled {
        let shortage: Shortage
        let since: Duration
        let continuation: Continuation
    }

    /// May be below zero for a moment: a drain can be faster than the writer's own charge.
    private(set) var heldBytes = 0
    /// Files with something pending or open.
    var openFiles = 0
    /// Whether somebody has waited too long, and memory isn't there yet.
    private(set) var isStuck = false
    /// WRITEs that had to wait, since the start.
    private(set) var stalledWrites: UInt64 = 0
    /// WRITEs that were told to come again later, since the start.
    private(set) var refusedWrites: UInt64 = 0
    /// In order of arrival.
    private var stalled: [Stalled] = []
    /// Whether writers wait at all.
    private var isClosing = false
    private let limits: WriteBackLimits
    /// A file has at least this part of memory as its share, however many files there are: most of them hold little.
    private static let mostShares = 64

    init(_ limits: WriteBackLimits) { self.limits = limits }

    mutating func charge(_ bytes: Int) { heldBytes += bytes }

    var needsRelief: Bool { heldBytes > limits.reliefBytes }

    /// What a WRITE must wait for whose bytes are in.
    /// - Parameters:
    ///   - fileBytes: memory that its file holds; 0 if the WRITE is to keep none.
    ///   - isNew: whether its file had nothing pending or open before.
    func shortage(fileBytes: Int, isNew: Bool) -> Shortage? {
        let isLarge = fileBytes > limits.maxPendingBytes / min(Self.mostShares, max(1, openFiles))
        let memory = Shortage.memory(isLarge: isLarge)
        if fileBytes > 0 && lasts(memory) { return memory }
        return isNew && openFiles > limits.maxOpenContexts ? .places : nil
    }

    private func lasts(_ shortage: Shortage) -> Bool {
        if isClosing { return false }
        switch shortage {
        case .memory(let isLarge):
            return heldBytes > (isLarge ? limits.maxPendingBytesForLarge : limits.maxPendingBytes)
        case .places: return openFiles > limits.maxOpenContexts
        case .stuckStore: return isStuck
        }
    }

    /// Has a WRITE wait, if the shortage still lasts; otherwise the caller goes on.
    mutating func wait(for shortage: Shortage, at now: Duration, _ continuation: Continuation) -> Bool {
        guard lasts(shortage) else { return false }
        stalled.append(Stalled(shortage: shortage, since: now, continuation: continuation))
        stalledWrites += 1
        return true
    }

    /// Takes back what was freed, or a place. Returns who goes on.
    mutating func giveBack(_ bytes: Int = 0) -> [Continuation] {
        heldBytes -= bytes
        if heldBytes <= limits.maxPendingBytes { isStuck = false }
        guard !stalled.isEmpty else { return [] }
        var (released, waiting): ([Continuation], [Stalled]) = ([], [])
        for each in stalled {
            if lasts(each.shortage) { waiting.append(each) } else { released.append(each.continuation) }
        }
        stalled = waiting
        return released
    }

    /// Nobody waits from here on: everything is drained soon. Returns who does now.
    mutating func close() -> [Continuation] {
        isClosing = true
        return giveBack()
    }

    /// Returns who has waited too long.
    mutating func expire(at now: Duration) -> [Continuation] {
        let expired = stalled.prefix { now - $0.since >= limits.maxStall }
        stalled.removeFirst(expired.count)
        for each in expired {
            if case .stuckStore = each.shortage { refusedWrites += 1 }
        }
        if !expired.isEmpty && heldBytes > limits.maxPendingBytes { isStuck = true }
        return expired.map(\.continuation)
    }
}
