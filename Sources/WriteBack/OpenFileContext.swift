// The state of one file that is being written (HDFS: OpenFileCtx): its live attributes, its pending writes,
// its one order of WRITE, truncate and remove, and the turns of its write-back task.
//
// A state machine without I/O behind one lock, and a lock-free map. Everything here returns at once; the `WriteBack`
// that drives it does what the answers say.
//
//   active ──demand──▶ scheduled ──takeTurn──▶ draining or settling ──finish──▶ active or scheduled
//   settling ──what is left is in the journal──▶ resting ──a turn with others──▶ settling ──▶ active: clean
//   draining or settling ──the drain fails──▶ failed (sticky: until a client was told) ──▶ active
//   any of them ──remove──▶ closed
//
// A WRITE puts its bytes into the map before it takes the lock, where nobody sees them; under the lock it gets its
// sequence and with that is visible, together with size and times. Readers and drains walk the map without the lock, up to
// the sequence that they found under it. The file's write-back task is the map's maintainer while a turn is out; in
// between it is whoever has the lock.
//
// Its place in the file's order is what a byte's durability goes by: `durableThrough`. Where the file's drains go on is
// what the drained ranges say: `nextOffset`. Drained is what is striped; what is journaled is durable and stays pending.
//
// Invariants: times are set at arrival, never by a drain; ctime strictly increases; `durableThrough` ≤
// `sequence`; everything written up to `durableThrough` is striped and published, or journaled, or something newer is in
// its place; at most one turn is out.
//
// Lock order: `state` is taken last; nothing is called while it is held but the map, which takes no lock.

public import Journal
public import LockFree
public import Model
internal import Platform
internal import Synchronization

/// One file's write state. May be used from any thread.
public final class OpenFileContext: Sendable {
    public let fileID: FileID
    let state: Mutex<State>
    let map: OffsetMap
    let epochs: EpochDomain
    /// Whether WRITEs may be refused at present, for those that have not put bytes into the map yet. Only a hint: `state`
    /// says so when they take their place.
    let refusesWrites = Atomic(false)

    /// What a file is at.
    enum Phase: Hashable, Sendable {
        /// It takes writes; no turn of its write-back task has been asked for.
        case active
        /// A turn has been asked for.
        case scheduled
        /// A turn is out.
        case draining
        /// A turn is out after which nothing is open for the file.
        case settling
        /// Nothing is open for it, and what is pending is in the journal.
        case resting
        /// A drain has failed: writes are refused until a client was told.
        case failed
        /// The file is gone. A last turn may still let the sink close what it has open.
        case closed
    }

    /// Where the one write-back task of the file is.
    enum WriteBackTask: Hashable {
        case none
        case scheduled
        case out(isSettling: Bool)
    }

    struct State {
        var attributes: FileAttributes
        /// Of what is visible in the map; where writes overlap each counts.
        var pendingBytes = 0
        /// Writes in the map, also those of which no byte is pending any more, until they are unlinked: they take memory.
        var linkedWrites = 0
        /// Memory that those keep, but for the map's nodes.
        var heldByWrites = 0
        /// What the budget has been told that this file holds.
        var heldBytes = 0
        /// Whether entries have died that nobody has unlinked, since a turn was out.
        var hasDeadEntries = false
        /// Of the last WRITE or truncate that was given its place.
        var sequence: WriteSequence
        var durableThrough: WriteSequence
        /// The last WRITE with bytes.
        var lastWrite = WriteSequence.zero
        /// The last WRITE that is answered before it is durable.
        var lastUnstable = WriteSequence.zero
        var demand = DrainDemand.none
        var task = WriteBackTask.none
        /// Since the file rested last.
        var drained: DrainedRanges
        var places: PendingPlaces
        /// Pending pieces that are in the journal, at most.
        var journaledCount: Int
        /// The sizes that the file was truncated to while a drain is out: its bytes from there on are void.
        var drainClip: UInt64?
        /// Whether the sink may hold something open for this file.
        var hasOpenOutput = false
        var failure: WriteBackError?
        /// Failures so far, and the last of them: for a write that waits after somebody else was told.
        var failureCount = 0
        var lastFailure: WriteBackError?
        /// After a failed drain the store could not say what it has of the file: the failure stays, told or not.
        var isNotReverted = false
        var wasLastingFailureTold = false
        /// Between the halves of a failure.
        var isLosing = false
        /// What is journaled could not be striped, and is to be left alone for so many ticks.
        var heldOffTicks = 0
        var isHeldOff: Bool { heldOffTicks > 0 }
        /// Nobody has written since a turn had all striped or journaled for good, with nothing left open.
        var isSettled = false
        /// All that is pending is in the journal, and nothing of it in memory.
        var isBare = false
        var isRemoved = false
        /// Whether some of what is pending may be in the dump.
        var mayBeDumped = false
        var waiters: [Waiter] = []
        var lastArrival = Duration.zero
        /// Pending bytes at which a turn is to look for full stripes again.
        var nextStripeCheck = 0
        /// Where the next turn begins if there are more runs than a turn takes.
        var nextRunOffset: UInt64 = 0
    }

    struct Waiter {
        let sequence: WriteSequence
        /// A COMMIT, which says by the verifier that bytes were lost; a stable WRITE can't.
        let isCommit: Bool
        let continuation: UnsafeContinuation<WriteBackError?, Never>
    }

    /// - Parameters:
    ///   - sequence: the highest that the store knows of this file.
    ///   - epochs: those of all files, for what their maps let go of.
    ///   - journaled: what the journal has of this file that is not in its extents, nor truncated away; to be given to
    ///     `WriteBack.adopt`.
    public init(
        attributes: FileAttributes, sequence: WriteSequence, epochs: EpochDomain, journaled: [JournaledPart] = []
    ) {
        fileID = attributes.fileID
        self.epochs = epochs
        map = OffsetMap(epochs)
        state = Mutex(
            State(
                attributes: attributes, sequence: sequence, durableThrough: sequence,
                drained: DrainedRanges(upTo: attributes.size), places: PendingPlaces(isEmpty: journaled.isEmpty),
                journaledCount: journaled.count))
        if !journaled.isEmpty { insert(journaled) }
    }

    /// With whole claims, none of which is older than an extent where it is.
    public convenience init(
        attributes: FileAttributes, sequence: WriteSequence, epochs: EpochDomain, journaled: [JournaledBytes]
    ) {
        self.init(
            attributes: attributes, sequence: sequence, epochs: epochs,
            journaled: journaled.map { JournaledPart($0, $0.range) })
    }

    // MARK: Attributes

    /// As readers see them: size and times include what is still pending.
    public var attributes: FileAttributes { state.withLock { $0.liveAttributes } }

    /// Attributes right before and right after a change, with no other change between.
    public typealias AttributeStep = (before: FileAttributes, after: FileAttributes)

    /// Applies a change that the store records. `change` must not touch the size; see `truncate`. When it throws,
    /// nothing has changed.
    @discardableResult
    public func updateAttributes<Refusal: Error>(
        _ change: (inout FileAttributes) throws(Refusal) -> Void
    ) throws(Refusal) -> AttributeStep {
        let result: Result<AttributeStep, Refusal> = state.withLock { state in
            let before = state.liveAttributes
            var attributes = state.attributes
            do throws(Refusal) { try change(&attributes) } catch { return .failure(error) }
            precondition(state.attributes.size == attributes.size)
            state.attributes = attributes
            return .success((before, state.liveAttributes))
        }
        return try result.get()
    }

    /// What the file is at.
    var phase: Phase { state.withLock { $0.phase } }

    /// Up to here the file has been drained without a gap, or rests (HDFS: nextOffset).
    var nextOffset: UInt64 { state.withLock { $0.drained.nextOffset } }

    /// Whether the file is gone.
    public var isRemoved: Bool { state.withLock { $0.isRemoved } }

    /// The highest sequence given out.
    public var sequence: WriteSequence { state.withLock { $0.sequence } }

    // MARK: Writing

    /// What an accepted write leads to.
    public struct Acceptance: Sendable {
        public let sequence: WriteSequence
        public let change: AttributeStep
        /// Bytes of memory that this file holds more than the budget was told before.
        let addedBytes: Int
        /// What it holds.
        let heldBytes: Int
        let mustSchedule: Bool
        /// The file has so many pending writes that the writer must wait until it is drained.
        let hasTooManyWrites: Bool
        /// Failed drains before this write.
        let failureCount: Int
    }

    /// Gives the write its place in the file's order and makes it visible. `now` becomes the time of the file.
    ///
    /// Throws the sticky error of an earlier write-back, which is told by this, or `removed`.
    /// - Precondition: the payload ends at or below `Limits.maxFileBytes`.
    func write(
        _ payload: Payload, at offset: UInt64, isStable: Bool, now: Timestamp, elapsed: Duration,
        clearingModeBits mask: UInt32, limits: WriteBackLimits
    ) throws(WriteBackError) -> Acceptance {
        // What will be refused is not to take memory until then: while a turn is out nobody unlinks what was abandoned.
        if refusesWrites.load(ordering: .relaxed) {
            let refusal = state.withLock { state in
                let refusal = state.refusal()
                // With the lock held, so that it doesn't undo what another failure says.
                if refusal == nil { refusesWrites.store(false, ordering: .relaxed) }
                return refusal
            }
            if let refusal { throw refusal }
        }
        let parts = Parts(payload, at: offset, in: map)
        interruption()
        let result: Result<Acceptance, WriteBackError> = state.withLock { state in
            if let refusal = state.refusal() {
                parts.forEach { map.abandon($0) }
                state.unlinkDead(map, ByteRange(offset: offset, count: UInt64(payload.count)))
                return .failure(refusal)
            }
            let before = state.liveAttributes
            if !payload.isEmpty {
                state.sequence = state.sequence.next
                parts.forEach { map.publish($0, state.sequence) }
                state.pendingBytes += payload.count
                state.linkedWrites += parts.count
                state.heldByWrites += parts.heldBytes
                state.lastWrite = state.sequence
                state.places.insert(ByteRange(offset: offset, count: UInt64(payload.count)), state.sequence)
                state.isBare = false
                state.isSettled = false
                if !isStable { state.lastUnstable = state.sequence }
                state.attributes.size = max(state.attributes.size, offset + UInt64(payload.count))
                state.attributes.mode &= ~mask
                state.attributes.touch(now)
                // Two at once may have asked the clock in the other order.
                state.lastArrival = max(state.lastArrival, elapsed)
                if state.pendingBytes >= max(limits.drainChunkBytes, state.nextStripeCheck) {
                    state.demand = max(state.demand, .fullStripes)
                    // Looking for full stripes costs a turn: do it once a quarter chunk, not at each write.
                    state.nextStripeCheck = state.pendingBytes + limits.drainChunkBytes / 4
                }
                if state.heldByWrites >= limits.maxFileBytes { state.demand = max(state.demand, .relief) }
                if state.linkedWrites >= limits.maxWrites / 2 { state.demand = max(state.demand, .unjournal) }
            }
            let addedBytes = state.heldChange(map)
            return .success(
                Acceptance(
                    sequence: state.sequence, change: (before, state.liveAttributes),
                    addedBytes: addedBytes, heldBytes: state.heldBytes, mustSchedule: state.schedule(),
                    hasTooManyWrites: state.linkedWrites >= limits.maxWrites, failureCount: state.failureCount))
        }
        return try result.get()
    }

    /// The bytes of a write in the map, invisible: one entry, if the write isn't longer than any client's.
    private struct Parts {
        private var first: OffsetMap.Insertion?
        private var others: [OffsetMap.Insertion] = []
        private(set) var heldBytes = 0

        init(_ payload: Payload, at offset: UInt64, in map: OffsetMap) {
            for start in stride(from: 0, to: payload.count, by: OffsetMap.maxEntryBytes) {
                let count = min(payload.count - start, OffsetMap.maxEntryBytes)
                // A small write must not keep the large buffer that it came in with others.
                let part = PendingPayload(payload.slice(start..<start + count).compacted())
                let insertion = map.insert(part, at: offset + UInt64(start), count: count, charge: part.heldBytes)
                heldBytes += part.heldBytes
                if first == nil { first = insertion } else { others.append(insertion) }
            }
        }

        var count: Int { first == nil ? 0 : 1 + others.count }

        func forEach(_ body: (OffsetMap.Insertion) -> Void) {
            if let first { body(first) }
            others.forEach(body)
        }
    }

    /// A truncate takes its place in the order, at the moment when the store records it (on the namespace
    /// thread): pending bytes beyond `size` go, also those that a drain has in hand. Returns the bytes freed, too.
    /// `change` sees the attributes as they were, but for the size; when it throws, nothing has changed.
    public func truncate<Refusal: Error>(
        to size: UInt64, change: (inout FileAttributes) throws(Refusal) -> Void
    ) throws(Refusal) -> (sequence: WriteSequence, freedBytes: Int, step: AttributeStep) {
        let result: Result<(WriteSequence, Int, AttributeStep), Refusal> = state.withLock { state in
            let before = state.liveAttributes
            var attributes = state.attributes
            attributes.size = size
            do throws(Refusal) { try change(&attributes) } catch { return .failure(error) }
            state.sequence = state.sequence.next
            let beyond = ByteRange(size, Self.endOfAll)
            if state.take(map.trim(beyond, through: state.sequence)) { state.unlinkDead(map, beyond) }
            if state.isTurnOut { state.drainClip = min(state.drainClip ?? size, size) }
            state.drained.truncate(to: size)
            state.attributes = attributes
            return .success((state.sequence, -state.heldChange(map), (before, state.liveAttributes)))
        }
        return try result.get()
    }

    /// Behind every byte of any file.
    static let endOfAll: UInt64 = 1 << 63

    /// The record of the truncate with this sequence is durable: a COMMIT that finds nothing written since
    /// has nothing to wait for.
    public func truncateIsDurable(_ sequence: WriteSequence) {
        state.withLock { state in
            if state.sequence == sequence, !state.hasNew, !state.isTurnOut {
                state.durableThrough = sequence
            }
        }
    }

    /// The file is gone. Returns the pending bytes that were freed; whoever waits for them is told.
    public func remove() -> Int {
        let (freed, waiters) = state.withLock { state in
            state.isRemoved = true
            refusesWrites.store(true, ordering: .relaxed)
            // Nobody can ask for it any more.
            state.failure = nil
            let freed = state.dropAll(map)
            if state.isTurnOut { state.drainClip = 0 }
            defer { state.waiters = [] }
            return (freed, state.waiters)
        }
        for waiter in waiters { waiter.continuation.resume(returning: .removed) }
        return freed
    }

    // MARK: Reading

    /// The pending bytes in `range`, newest on top, and the attributes at the same moment.
    ///
    /// Take this first and the store's extents second: a byte leaves the pending writes only after its
    /// extent was published, so it is in one of the two, and pending bytes are newer than any extent that
    /// was there at this moment. What truncates, and what publishes, must wait meanwhile.
    /// Throws while the bytes of a failed drain are gone and the size still counts them.
    /// - Parameter limit: of pieces; from the last one on there may be more.
    public func snapshot(
        _ range: ByteRange, limit: Int = .max
    ) throws(WriteBackError) -> (pending: [PendingWrite], attributes: FileAttributes) {
        while true {
            let start: Result<(WriteSequence, FileAttributes, Int), WriteBackError> = state.withLock { state in
                if let failure = state.failure, state.isLosing || state.isNotReverted { return .failure(failure) }
                return .success((state.sequence, state.liveAttributes, state.failureCount))
            }
            let (sequence, attributes, failureCount) = try start.get()
            let findings = map.overlapping(range, through: sequence)
            var overlay = PendingOverlay(findings[...], in: range)
            var pieces: [PendingWrite] = []
            while pieces.count < limit, let piece = overlay.nextPiece() { pieces.append(piece) }
            // A drain that has failed meanwhile took the bytes away, some of them before they were looked at.
            if state.withLock({ $0.failureCount == failureCount }) { return (pieces, attributes) }
        }
    }
}

extension OpenFileContext.State {
    /// With what is pending counted as used.
    var liveAttributes: FileAttributes {
        var attributes = attributes
        // Where writes overlap each counts, but a file never has more bytes than its size.
        attributes.usedBytes = max(
            attributes.usedBytes, min(attributes.usedBytes + UInt64(pendingBytes), attributes.size))
        return attributes
    }

    var isTurnOut: Bool { if case .out = task { true } else { false } }

    var phase: OpenFileContext.Phase {
        if isRemoved { return .closed }
        if failure != nil { return .failed }
        switch task {
        case .none: return isResting ? .resting : .active
        case .scheduled: return .scheduled
        case .out(let isSettling): return isSettling ? .settling : .draining
        }
    }

    /// Why a WRITE is refused. A sticky error is told by that, so the caller must pass it on.
    mutating func refusal() -> WriteBackError? { isRemoved ? .removed : tellFailure() }

    /// Accounts for what was trimmed. Returns whether something is to be unlinked.
    mutating func take(_ trimmed: OffsetMap.Trimmed) -> Bool {
        pendingBytes -= Int(trimmed.bytes)
        return trimmed.deadEntries > 0
    }

    /// Unlinks what is dead, unless a turn is out: that does so at its end, and until then it stays charged.
    mutating func unlinkDead(_ map: OffsetMap, _ range: ByteRange) {
        if isTurnOut { hasDeadEntries = true } else { unlinked(map.unlinkDead(in: range)) }
    }

    /// The end of a turn: what others have left to it.
    mutating func unlinkLeftovers(_ map: OffsetMap) {
        guard hasDeadEntries else { return }
        hasDeadEntries = false
        unlinked(map.unlinkDead())
    }

    /// Accounts for what was unlinked.
    mutating func unlinked(_ unlinked: OffsetMap.Unlinked) {
        linkedWrites -= unlinked.entries
        if linkedWrites == 0 { mayBeDumped = false }
        heldByWrites -= unlinked.charge
    }

    /// Memory that the file holds now less what the budget was told, which is told by this.
    mutating func heldChange(_ map: OffsetMap) -> Int {
        let held = linkedWrites == 0 ? 0 : heldByWrites + map.nodeBytes + Self.heldByFile
        defer { heldBytes = held }
        return held - heldBytes
    }

    /// Memory of a file with something pending: its context, node and places in tables.
    private static let heldByFile = 2048

    /// Gives up everything that is pending. Returns the bytes of memory that were freed.
    mutating func dropAll(_ map: OffsetMap) -> Int {
        let all = ByteRange(0, OpenFileContext.endOfAll)
        if take(map.trim(all, through: sequence)) { unlinkDead(map, all) }
        forgetPlaces()
        return -heldChange(map)
    }

    /// Where nothing is pending there is nothing to look for. A context outlives what was written by far.
    private mutating func forgetPlaces() {
        guard pendingBytes == 0 else { return }
        places = PendingPlaces(isEmpty: true)
        journaledCount = 0
    }

    /// Ends a turn. Returns the bytes of memory that were freed, and whether the file must be queued again.
    mutating func endTurn(_ map: OffsetMap) -> (freedBytes: Int, mustSchedule: Bool) {
        task = .none
        // A truncate may have come since the turn began; its memory is told now, as nobody else may come.
        unlinkLeftovers(map)
        forgetPlaces()
        return (-heldChange(map), schedule())
    }

    /// Whether the caller must queue the file; it then counts as queued.
    mutating func schedule() -> Bool {
        guard demand != .none, task == .none, !isNotReverted else { return false }
        task = .scheduled
        return true
    }

    /// The sticky error, which the caller promises to tell a client. While the failed drain is still being
    /// wound up the error stays: it must not be forgotten before the verifier changed.
    mutating func tellFailure() -> WriteBackError? {
        guard let failure else { return nil }
        if isNotReverted {
            wasLastingFailureTold = true
        } else if !isLosing {
            self.failure = nil
        }
        return failure
    }
}

extension FileAttributes {
    /// Sets modification and change time; the change time strictly increases whatever the clock does.
    public mutating func touch(_ now: Timestamp) {
        modificationTime = now
        touchChangeTime(now)
    }

    /// Sets the change time, which strictly increases whatever the clock does.
    public mutating func touchChangeTime(_ now: Timestamp) {
        changeTime = max(now, changeTime.successor)
    }
}
