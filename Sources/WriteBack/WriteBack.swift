// Drives the open file contexts: queues those that want draining, runs a bounded number of drains at once,
// settles files that rest, and holds writers back while too much is pending.
//
// Memory: what pending writes keep, which is more than their payload, is charged to one budget. From three quarters of it
// on, and for a file that has a quarter to itself, full stripes are drained wherever in the file they are; where there are
// none, payload is moved to the dump, what lies highest in the file first; and what can't be dumped is drained as it is, out
// of order (the sink takes any order). Over the budget replies to WRITEs wait as well; a connection with many unanswered
// calls is not read any further, so the clients slow down. The same for a file in very many pieces. None of this needs bytes
// from any socket, so it can't lock up.
//
// Lock order: `state`, then a context's lock.

public import LockFree
public import Model
public import Platform
internal import Synchronization

/// The bounds of write-back.
public struct WriteBackLimits: Sendable {
    /// Pending bytes in full stripes at which a file is drained without being asked: large enough that the
    /// syncs and the record of a drain (a few ms) are small beside writing it (32 MiB: some 50 ms a disk).
    public var drainChunkBytes = 32 << 20
    /// The most that one turn drains while nobody waits, so that a waiter's turn comes soon.
    public var maxDrainBytes = 64 << 20
    /// The most runs that one turn drains: they become one record of the namespace, which all other files wait for;
    /// 4,096 extents take some 50 ms.
    public var maxRunsPerTurn = 4096
    /// Pending writes of a file at which its writers wait, however few bytes they are: a turn looks at all of them. At
    /// half as many the file is drained without being asked.
    public var maxWrites = 65_536
    /// Memory of the pending writes of all files above which writers wait.
    public var maxPendingBytes = 256 << 20
    /// Memory of all files from which on it is freed: writers should not come to wait.
    var reliefBytes: Int { maxPendingBytes / 4 * 3 }
    /// Memory of one file from which on it is freed: others need some, too.
    var maxFileBytes: Int { maxPendingBytes / 4 }
    /// The most that one turn dumps, so that a waiter's turn comes soon: 16 MiB take some 10 ms.
    public var maxDumpBytes = 16 << 20
    /// Drains at once. More hide the latency of syncs, each holds a stripe of buffers.
    public var concurrentDrains = 8
    /// A file that nobody wrote to for this long is settled.
    public var idleTime = Duration.seconds(10)

    public init() {}

    /// For so much memory. Less than the 256 MiB of the default makes smaller turns, so that several files have theirs.
    public init(maxPendingBytes: Int) {
        self.maxPendingBytes = maxPendingBytes
        drainChunkBytes = min(drainChunkBytes, maxPendingBytes / 8)
        maxDrainBytes = 2 * drainChunkBytes
        maxDumpBytes = min(maxDumpBytes, maxPendingBytes / 8)
    }
}

/// The write-back of a store.
public final class WriteBack<Sink: WriteBackSink>: Sendable {
    private let sink: Sink
    private let clock: SystemClock
    private let limits: WriteBackLimits
    private let epochs: EpochDomain
    private let dump: DumpLog?
    private let state = Mutex(State())

    private struct State {
        /// Files with something pending or open, by id.
        var active: [FileID: OpenFileContext] = [:]
        /// Files whose turn has been asked for, in order.
        var queue: [OpenFileContext] = []
        var runningDrains = 0
        /// Files whose turn has been asked for to free memory.
        var relieving: Set<FileID> = []
        var pendingBytes = 0
        /// Writers that wait for the budget.
        var stalled: [UnsafeContinuation<Void, Never>] = []
        var stalledWrites: UInt64 = 0
    }

    /// - Parameters:
    ///   - epochs: those that the contexts were made with.
    ///   - dump: where payload goes that memory has no room for; without one it is drained. Its owner closes it, after this
    ///     has settled everything.
    public init(sink: Sink, clock: SystemClock, limits: WriteBackLimits, epochs: EpochDomain, dump: DumpLog? = nil) {
        self.dump = dump
        self.epochs = epochs
        self.sink = sink
        self.clock = clock
        self.limits = limits
    }

    /// Accepts a write and, when `isStable`, waits until it is durable.
    ///
    /// The write has its place in the file's order before the first suspension.
    /// - Parameter clearingModeBits: mode bits that a write by this caller takes away (setuid, setgid).
    /// - Precondition: the payload ends at or below `Limits.maxFileBytes`.
    public func write(
        _ payload: Payload, to file: OpenFileContext, at offset: UInt64, isStable: Bool, clearingModeBits: UInt32 = 0
    ) async throws(WriteBackError) -> (before: FileAttributes, after: FileAttributes) {
        let accepted = try file.write(
            payload, at: offset, isStable: isStable, now: clock.now(), elapsed: clock.elapsed(),
            clearingModeBits: clearingModeBits, limits: limits)
        let (needsRelief, isOverBudget) = state.withLock { state in
            state.active[file.fileID] = file
            state.pendingBytes += accepted.addedBytes
            return (state.pendingBytes > limits.reliefBytes, state.pendingBytes > limits.maxPendingBytes)
        }
        if accepted.mustSchedule { enqueue(file) }
        if isStable || accepted.hasTooManyWrites {
            try await file.waitUntilDurable(since: accepted.failureCount) { enqueue(file) }
        } else {
            if needsRelief { relievePressure() }
            if isOverBudget { await waitForBudget() }
        }
        return accepted.change
    }

    /// Returns when everything that was written to the file before the call is durable.
    public func commit(_ file: OpenFileContext) async throws(WriteBackError) {
        try await file.waitUntilDurable { enqueue(file) }
    }

    /// A file was truncated or removed: the budget gets its bytes back. (Or some that a WRITE at the same moment took, then
    /// it is a negative number.)
    public func release(_ bytes: Int) {
        // Not only when the next drain ends: a client may write and truncate in a circle.
        epochs.collectAll()
        returnToBudget(bytes)
    }

    /// Lets the sink close what it holds for a file that was removed.
    public func settle(_ file: OpenFileContext) {
        if file.request(.rest) { enqueue(file) }
    }

    /// Settles files that rest; to be called about once a second.
    public func tick() {
        let now = clock.elapsed()
        for file in state.withLock({ Array($0.active.values) }) {
            if file.isIdle(for: limits.idleTime, at: now) { settle(file) }
            if file.isClean { forgetIfClean(file) }
        }
        // What truncates and removals have let go of.
        epochs.collectAll()
    }

    /// Drains and closes everything; returns when nothing is pending. No writes may arrive any more.
    ///
    /// Returns how many files' last bytes could not be made durable; why was logged where it arose.
    public func settleAll() async -> Int {
        var failures = 0
        while true {
            let files = state.withLock { Array($0.active.values) }
            if files.isEmpty { return failures }
            for file in files {
                do throws(WriteBackError) {
                    try await file.waitUntilDurable { enqueue(file) }
                } catch {
                    if error != .removed { failures += 1 }
                }
                settle(file)
                forgetIfClean(file)
            }
            await Task.yield()
        }
    }

    /// What write-back holds at the moment.
    public struct Usage: Sendable {
        public let openFiles: Int
        /// Memory that pending writes keep.
        public let pendingBytes: Int
        /// WRITEs whose reply had to wait for the budget, since the start.
        public let stalledWrites: UInt64
    }

    public var usage: Usage {
        state.withLock {
            Usage(openFiles: $0.active.count, pendingBytes: $0.pendingBytes, stalledWrites: $0.stalledWrites)
        }
    }

    // MARK: The drains

    private func enqueue(_ file: OpenFileContext) {
        let mustStart = state.withLock { state in
            state.active[file.fileID] = file
            state.queue.append(file)
            guard state.runningDrains < limits.concurrentDrains else { return false }
            state.runningDrains += 1
            return true
        }
        if mustStart { Task.detached { await self.drainQueue() } }
    }

    private func drainQueue() async {
        while true {
            let next: OpenFileContext? = state.withLock { state in
                if state.queue.isEmpty {
                    state.runningDrains -= 1
                    return nil
                }
                return state.queue.removeFirst()
            }
            guard let file = next else { return }
            await drain(file)
            let isStillOver = state.withLock { state in
                state.relieving.remove(file.fileID)
                return state.pendingBytes > limits.reliefBytes
            }
            if isStillOver { relievePressure() }
        }
    }

    private func drain(_ file: OpenFileContext) async {
        let turn: DrainTurn
        switch file.takeTurn(stripeSizeBytes: sink.stripeSizeBytes, limits: limits, canDump: dump?.isReady ?? false) {
        case .drain(let taken): turn = taken
        case .dump(let taken):
            let places = await dump?.append(taken.payloads)
            let (freed, mustSchedule) = file.finishDump(taken, places)
            returnToBudget(freed)
            if mustSchedule { enqueue(file) }
            return
        case .nothing(let freed, let mustSchedule):
            returnToBudget(freed)
            if mustSchedule { enqueue(file) }
            forgetIfClean(file)
            return
        }
        do throws(WriteBackError) {
            try await sink.drain(turn.plan, of: file)
            let (freed, mustSchedule) = file.finishDrain(turn)
            returnToBudget(freed)
            if mustSchedule { enqueue(file) }
        } catch {
            // The verifier changes between the loss and the answers, so that no COMMIT can answer the old one.
            if file.beginFailure(error) { sink.acknowledgedBytesWereLost(in: file.fileID, because: error) }
            let isReverted = await sink.revert(file)
            returnToBudget(file.endFailure(error, isReverted: isReverted, turn: turn))
        }
        forgetIfClean(file)
    }

    private func forgetIfClean(_ file: OpenFileContext) {
        // Checked again under the lock: a write that arrives puts the file back after it made it unclean.
        state.withLock { state in
            if state.active[file.fileID] === file, file.isClean { state.active[file.fileID] = nil }
        }
    }

    // MARK: The budget

    /// Has memory freed: by the largest files that together hold what is too much, so that small ones are left alone.
    private func relievePressure() {
        let (files, excess) = state.withLock { state in
            // Looking at all files costs, and writers come here at each write: not while there is work enough.
            guard state.relieving.count <= limits.concurrentDrains / 2 else { return ([OpenFileContext](), 0) }
            let files = state.active.values.filter { !state.relieving.contains($0.fileID) }
            return (files, state.pendingBytes - limits.maxPendingBytes / 2)
        }
        var chosen = 0
        for (heldBytes, file) in files.map({ ($0.heldBytes, $0) }).sorted(by: { $0.0 > $1.0 }).prefix(64) {
            guard chosen < excess else { return }
            chosen += heldBytes
            guard file.request(.relief) else { continue }
            state.withLock { _ = $0.relieving.insert(file.fileID) }
            enqueue(file)
        }
    }

    private func waitForBudget() async {
        await withUnsafeContinuation { continuation in
            let mustWait = state.withLock { state in
                guard state.pendingBytes > limits.maxPendingBytes else { return false }
                state.stalled.append(continuation)
                state.stalledWrites += 1
                return true
            }
            if !mustWait { continuation.resume() }
        }
    }

    private func returnToBudget(_ bytes: Int) {
        let released: [UnsafeContinuation<Void, Never>] = state.withLock { state in
            // May be below zero for a moment: a drain can be faster than the writer's own charge.
            state.pendingBytes -= bytes
            guard state.pendingBytes <= limits.maxPendingBytes else { return [] }
            defer { state.stalled = [] }
            return state.stalled
        }
        for continuation in released { continuation.resume() }
    }
}
