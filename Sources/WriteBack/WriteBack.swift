// Drives the open file contexts: queues those that want draining, runs a bounded number of drains at once,
// settles files that rest, packs what is left of them, and holds writers back while too much is pending.
//
// Memory: what pending writes keep, which is more than their payload, is charged to one budget. From three quarters of it
// on, and for a file that has a quarter to itself, full stripes are drained wherever in the file they are; where there are
// none, what is journaled is let go, and then payload is moved to the dump, what lies highest in the file first; and what can't be dumped is drained as it is, out
// of order (the sink takes any order). Over the budget replies to WRITEs wait as well (PendingBudget); a connection with many
// unanswered calls is not read any further, so the clients slow down. The same for a file in very many pieces. None of this
// needs bytes from any socket, so it can't lock up.
//
// The table of open files is bounded, too: those that rest longest are settled before their time when it is full, and then
// packed.
//
// Lock order: `state`, then a context's lock.

public import LockFree
public import Model
public import Platform
internal import Synchronization

/// The write-back of a store.
public final class WriteBack<Sink: WriteBackSink>: Sendable {
    let sink: Sink
    let clock: SystemClock
    public let limits: WriteBackLimits
    private let epochs: EpochDomain
    private let dump: DumpLog?
    let state: Mutex<State>
    /// What the budget says, for WRITEs that have not taken its lock.
    let isStuck = Atomic(false)

    struct State {
        /// Files with something pending or open, by id.
        var active: [FileID: OpenFileContext] = [:] {
            didSet { budget.openFiles = active.count }
        }
        /// Files whose turn has been asked for, in order.
        var queue: [OpenFileContext] = []
        var runningDrains = 0
        /// Turns that are carried out where somebody waits for them.
        var littleTurns = 0
        /// Turns that dump: a quarter of all at most, so that a dump on a slow disk doesn't hold up the drains; and what a disk
        /// that hangs keeps of memory, though it was given up, is theirs.
        var dumpTurns = 0
        /// Failed reads of the dump that something was done about.
        var failedReads: UInt64 = 0
        /// Files whose turn has been asked for to free memory, and what they held then.
        var relieving: [FileID: Int] = [:]
        /// Files whose turn has been asked for to free their place in the table.
        var settling: Set<FileID> = []
        /// Whether somebody will look for such files soon.
        var isLookComing = false
        /// Whether somebody is looking for them, or has since the last turn ended: looking at all files costs, and a
        /// second look would find the same.
        var hasLookedForMemory = false
        var hasLookedForPlaces = false
        var packing = Packing()
        var budget: PendingBudget
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
        state = Mutex(State(budget: PendingBudget(limits)))
    }

    /// Accepts a write and, when `isStable`, waits until it is durable. Throws `busy` if there is no memory for it in time.
    ///
    /// The write has its place in the file's order before the first suspension, unless the store is stuck. What makes it
    /// durable may run on the caller's executor, also after this has returned, until `settleAll` has.
    /// - Parameter clearingModeBits: mode bits that a write by this caller takes away (setuid, setgid).
    /// - Precondition: the payload ends at or below `Limits.maxFileBytes`.
    public func write(
        _ payload: Payload, to file: OpenFileContext, at offset: UInt64, isStable: Bool, clearingModeBits: UInt32 = 0
    ) async throws(WriteBackError) -> (before: FileAttributes, after: FileAttributes) {
        if isStuck.load(ordering: .relaxed), await wait(for: .stuckStore) == .timedOut { throw .busy }
        let accepted = try file.write(
            payload, at: offset, isStable: isStable, now: clock.now(), elapsed: clock.elapsed(),
            clearingModeBits: clearingModeBits, limits: limits)
        let (mustLook, shortage) = state.withLock { state in
            // A clean file's context may have been forgotten and made anew, with the old one still in the table.
            let isNew = state.active[file.fileID] !== file
            if isNew { state.active[file.fileID] = file }
            state.packing.forget(file.fileID)
            state.budget.charge(accepted.addedBytes)
            return (beginsLook(&state), state.budget.shortage(fileBytes: accepted.heldBytes, isNew: isNew))
        }
        if accepted.mustSchedule { enqueue(file) }
        // Not here: this may be an event loop.
        if mustLook { Task.detached { self.relievePressure() } }
        if isStable || accepted.hasTooManyWrites {
            try await file.waitUntilDurable(since: accepted.failureCount) { begin(file) }
        }
        // Whatever comes of it, the bytes are in.
        if let shortage { _ = await wait(for: shortage) }
        return accepted.change
    }

    /// Returns when everything that was written to the file before the call is durable.
    ///
    /// Also when it returns because bytes were lost with the dump: then the verifier has changed before.
    public func commit(_ file: OpenFileContext) async throws(WriteBackError) {
        try await file.waitUntilDurable(isCommit: true) { begin(file) }
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

    /// Settles files that rest, and answers who has waited too long; to be called about once a second.
    public func tick() {
        let now = clock.elapsed()
        resume(.timedOut) { state in
            // In case that the last look found nothing, and no turn has ended since.
            state.hasLookedForMemory = false
            state.hasLookedForPlaces = false
            return state.budget.expire(at: now)
        }
        state.withLock { state in
            state.packing.isHeldOff = false
            state.packing.leftOut = 0
            state.packing.leastBytes = 0
        }
        dump?.giveUpHanging()
        // One loss is seldom alone: what else is in the dump is drained while it can be, and what can't be is known soon.
        if let dump, hasNewFailedReads(dump.usage.failedReads) { drainWhatIsDumped() }
        for file in state.withLock({ Array($0.active.values) }) {
            file.holdOffLess()
            if file.isIdle(for: limits.idleTime, at: now) { settle(file) }
            if file.isClean { forgetIfClean(file) }
            noteResting(file)
        }
        relievePressure()
        packIfWorthwhile()
        // What truncates and removals have let go of.
        epochs.collectAll()
    }

    /// The end is near: WRITEs don't wait for memory any more, so that the last calls are answered.
    public func stopHoldingBack() { resume(.goOn) { $0.budget.close() } }

    /// Drains and closes everything, and packs what is left; returns when nothing is pending, or nothing but what stays in
    /// the journal as it can't be packed. No writes may arrive any more.
    ///
    /// Returns how many files' last bytes could not be made durable; why was logged where it arose.
    public func settleAll() async -> Int {
        var failures = 0
        let heldOff = state.withLock { state in
            state.packing.isHeldOff = false
            state.packing.leftOut = 0
            return state.packing.heldOff
        }
        for file in state.withLock({ Array($0.active.values) }) { file.tryAgain() }
        while true {
            let files = state.withLock { Array($0.active.values) }
            if files.isEmpty { return failures }
            let unsettled = files.filter { $0.phase != .resting && !$0.isFailingForEver }
            if unsettled.isEmpty {
                let (isPacking, hasFailed) = state.withLock {
                    ($0.packing.isOut, $0.packing.heldOff > heldOff)
                }
                if !isPacking {
                    // What fails for ever is the next start's.
                    if hasFailed || !files.contains(where: \.isPackable) { return failures }
                    for file in files { noteResting(file) }
                    pack()
                }
            }
            for file in unsettled {
                do throws(WriteBackError) {
                    try await file.waitUntilDurable { enqueue(file) }
                } catch {
                    if error != .removed { failures += 1 }
                }
                settle(file)
                forgetIfClean(file)
            }
            await yieldToOthers()
        }
    }

    /// What write-back holds at the moment.
    public struct Usage: Sendable {
        public let openFiles: Int
        /// Of these, which wait until they are packed.
        public let restingFiles: Int
        /// What these have in the journal.
        public let restingBytes: Int
        /// Packs, since the start.
        public let packs: UInt64
        /// Packs that failed, and will be tried again, since the start.
        public let failedPacks: UInt64
        /// Memory that pending writes keep.
        public let pendingBytes: Int
        /// WRITEs whose reply had to wait for the budget, since the start.
        public let stalledWrites: UInt64
        /// WRITEs that were told to come again later, since the start.
        public let refusedWrites: UInt64
        /// WRITEs have waited too long for memory, and there is none yet.
        public let isStuck: Bool
    }

    public var usage: Usage {
        state.withLock {
            Usage(
                openFiles: $0.active.count, restingFiles: $0.packing.files.count, restingBytes: $0.packing.bytes,
                packs: $0.packing.count, failedPacks: $0.packing.failures,
                pendingBytes: $0.budget.heldBytes, stalledWrites: $0.budget.stalledWrites,
                refusedWrites: $0.budget.refusedWrites, isStuck: $0.budget.isStuck)
        }
    }

    // MARK: The drains

    func enqueue(_ file: OpenFileContext) {
        let mustStart = state.withLock { state in
            state.active[file.fileID] = file
            state.queue.append(file)
            guard state.runningDrains < limits.concurrentDrains else { return false }
            state.runningDrains += 1
            return true
        }
        if mustStart { Task.detached { await self.drainQueue() } }
    }

    /// Sees to the turn that was asked for: carries it out where the caller runs, and at once, if it takes little, since handing
    /// it to others takes longer than that; otherwise queues it. Such turns need no cells, so they don't count as drains, and
    /// those of all files share a sync of the journal.
    func begin(_ file: OpenFileContext) {
        let mayBegin = state.withLock { state in
            guard state.littleTurns < limits.maxLittleTurns else { return false }
            state.littleTurns += 1
            state.active[file.fileID] = file
            return true
        }
        guard mayBegin else { return enqueue(file) }
        let turn = file.takeLittleTurn(
            stripeSizeBytes: sink.stripeSizeBytes, limits: limits, journalHasRoom: sink.journalHasRoom)
        guard let turn else {
            state.withLock { $0.littleTurns -= 1 }
            return enqueue(file)
        }
        let handed = HandedTurn(turn)
        let executor = withUnsafeCurrentTask { $0?.unownedTaskExecutor?.asTaskExecutor() }
        Task.immediate(executorPreference: executor) {
            await drain(handed.take(), of: file)
            followTurn(of: file)
            let mustLook = state.withLock { state in
                state.littleTurns -= 1
                noteTurnEnded(of: file, &state)
                return beginsLook(&state)
            }
            // Not here: this may be an event loop.
            if mustLook { Task.detached { self.relievePressure() } }
        }
    }

    func noteTurnEnded(of file: OpenFileContext, _ state: inout State) {
        state.relieving[file.fileID] = nil
        state.settling.remove(file.fileID)
        state.hasLookedForMemory = false
        state.hasLookedForPlaces = false
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
            state.withLock { noteTurnEnded(of: file, &$0) }
            relievePressure()
        }
    }

    private func drain(_ file: OpenFileContext) async {
        let turn = file.takeTurn(
            stripeSizeBytes: sink.stripeSizeBytes, limits: limits, journalHasRoom: sink.journalHasRoom,
            canDump: beginsDumpTurn, needsRelief: state.withLock { $0.budget.needsRelief })
        switch consume turn {
        case .drain(let turn):
            await drain(turn, of: file)
        case .dump(let turn):
            let places = await dump?.append(turn.payloads)
            state.withLock { $0.dumpTurns -= 1 }
            let (freed, mustSchedule) = file.finishDump(turn, places)
            returnToBudget(freed)
            if mustSchedule { enqueue(file) }
            if places == nil, dump?.isOutOfUse == true { drainWhatIsDumped() }
            return
        case .nothing(let freed, let mustSchedule):
            returnToBudget(freed)
            if mustSchedule { enqueue(file) }
        }
        followTurn(of: file)
    }

    private func followTurn(of file: OpenFileContext) {
        forgetIfClean(file)
        noteResting(file)
        packIfWorthwhile()
    }

    private func drain(_ turn: consuming DrainTurn, of file: OpenFileContext) async {
        do throws(WriteBackError) {
            let claims = try await sink.drain(turn.plan, of: file)
            end(
                file.finishDrain(turn, claims: claims, hasOpenOutput: sink.hasOpenOutput(for: file.fileID)), of: file)
        } catch {
            if turn.plan.losesNothing {
                return end(file.endInVain(turn, hasOpenOutput: sink.hasOpenOutput(for: file.fileID)), of: file)
            }
            // The verifier changes between the loss and the answers, so that no COMMIT can answer the old one.
            if file.beginFailure(error) {
                sink.acknowledgedBytesWereLost(in: file.fileID, arrivedUntil: file.lastArrival, because: error)
            }
            let isReverted = await sink.revert(file)
            end(file.endFailure(error, isReverted: isReverted, turn: turn), of: file)
        }
    }

    /// What follows the end of a turn.
    func end(_ turn: (freedBytes: Int, mustSchedule: Bool), of file: OpenFileContext) {
        returnToBudget(turn.freedBytes)
        if turn.mustSchedule { begin(file) }
    }

    /// Whether a turn may dump; then it counts until it has.
    private func beginsDumpTurn() -> Bool {
        guard dump?.isReady ?? false else { return false }
        return state.withLock { state in
            guard state.dumpTurns < max(1, limits.concurrentDrains / 4) else { return false }
            state.dumpTurns += 1
            return true
        }
    }

    private func hasNewFailedReads(_ count: UInt64) -> Bool {
        state.withLock { state in
            defer { state.failedReads = count }
            return count > state.failedReads
        }
    }

    /// The dump is full, or its disks fail: what is in it goes where it belongs, so that no old byte keeps
    /// its segment, and no file depends on these disks for longer than it must.
    private func drainWhatIsDumped() {
        for file in state.withLock({ Array($0.active.values) }) where file.requestDrainOfDumped() { enqueue(file) }
    }

    func forgetIfClean(_ file: OpenFileContext) {
        resume(.goOn) { state in
            // Checked again under the lock: a write that arrives puts the file back after it made it unclean.
            guard state.active[file.fileID] === file, file.isClean else { return [] }
            state.active[file.fileID] = nil
            state.packing.forget(file.fileID)
            return state.budget.giveBack()
        }
    }
}
