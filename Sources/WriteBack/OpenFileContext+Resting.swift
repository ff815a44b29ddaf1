// A file that rests: nothing is open for it, and all that is pending is in the journal, so that it can wait until it is packed
// with others.

public import Journal
internal import LockFree
public import Model
internal import Synchronization

/// What a start found of a file in the journal and must be striped yet.
public struct JournaledPart: Sendable {
    public let claim: JournaledBytes
    /// Of these the bytes that are in no newer extent: what is pending hides what is striped.
    public let range: ByteRange

    public init(_ claim: JournaledBytes, _ range: ByteRange) {
        precondition(claim.range.contains(range))
        self.claim = claim
        self.range = range
    }
}

extension OpenFileContext {
    /// Bytes that wait to be packed; nil if the file doesn't rest.
    var restingBytes: Int? { state.withLock { $0.isResting ? $0.pendingBytes : nil } }

    /// The bytes are in the journal: makes them pending. Of a file that nobody else has yet.
    func insert(_ journaled: [JournaledPart]) {
        state.withLock { state in
            for part in journaled {
                let total = Int(part.range.count)
                for start in stride(from: 0, to: total, by: OffsetMap.maxEntryBytes) {
                    let count = min(total - start, OffsetMap.maxEntryBytes)
                    let value = PendingPayload(.journaled(part.claim, nil))
                    let insertion = map.insert(
                        value, at: part.range.lowerBound + UInt64(start), count: count, charge: value.heldBytes)
                    map.publish(insertion, part.claim.sequence)
                    state.pendingBytes += count
                    state.linkedWrites += 1
                    state.heldByWrites += value.heldBytes
                }
                state.sequence = max(state.sequence, part.claim.sequence)
                state.attributes.size = max(state.attributes.size, part.range.upperBound)
            }
            state.durableThrough = state.sequence
            state.isBare = true
            state.isSettled = true
        }
    }

    /// Whether the file rests, and no turn was in vain lately.
    var isPackable: Bool { state.withLock { $0.isResting && !$0.isHeldOff } }

    /// Memory that the file holds and the budget hasn't been told of, which is told by this.
    func takeCharge() -> Int { state.withLock { $0.heldChange(map) } }

    /// What can be done to have a file's bytes out of memory, or out of the journal.
    enum Remedy {
        /// Nothing, or it is being done.
        case none
        /// The caller must queue it for a turn.
        case queue
        /// The file rests: it is to be packed.
        case pack
    }

    /// Asks for memory to be freed. Where all is in the journal, and nothing in memory, that needs it to be striped.
    func requestRelief() -> Remedy {
        state.withLock { state in
            if state.pendingBytes == 0 { return .none }
            if state.isBare { return state.requestUnjournal() }
            state.demand = max(state.demand, .relief)
            return state.schedule() ? .queue : .none
        }
    }

    /// Asks for all that is pending to be striped.
    func requestUnjournal() -> Remedy { state.withLock { $0.requestUnjournal() } }

    /// Begins a turn that takes part in a pack; nil if the file doesn't rest, or is to be left alone.
    func beginPack() -> PackTurn? {
        let through: WriteSequence? = state.withLock { state in
            guard state.isResting, !state.isHeldOff else { return nil }
            state.task = .out(isSettling: true)
            state.drainClip = nil
            return state.sequence
        }
        guard let through else { return nil }
        return PackTurn(self, DrainPlanner(map, through: through), through)
    }

    /// Gives a turn back.
    fileprivate func cancelPack() -> (freedBytes: Int, mustSchedule: Bool) { state.withLock { $0.endTurn(map) } }
}

extension OpenFileContext.State {
    /// Whether some of what is pending may not be in the journal.
    var hasNew: Bool { pendingBytes > 0 && lastWrite > durableThrough }

    var isResting: Bool {
        isSettled && pendingBytes > 0 && !hasNew && task == .none && !hasOpenOutput && !isNotReverted && !isRemoved
    }

    /// All that was written up to this has been settled.
    mutating func settle(_ through: WriteSequence) { if lastWrite <= through { isSettled = true } }

    mutating func requestUnjournal() -> OpenFileContext.Remedy {
        guard pendingBytes > 0, !isHeldOff, !isNotReverted, !isRemoved else { return .none }
        if isResting { return .pack }
        demand = max(demand, .unjournal)
        return schedule() ? .queue : .none
    }
}

/// A file's turn in a pack, from when it is taken until it is ended, once. Not thread-safe: the packer's.
final class PackTurn {
    let file: OpenFileContext
    private let planner: DrainPlanner
    private let through: WriteSequence
    private var turn: DrainTurn?
    private(set) var isTaken = false

    fileprivate init(_ file: OpenFileContext, _ planner: DrainPlanner, _ through: WriteSequence) {
        self.file = file
        self.planner = planner
        self.through = through
    }

    var runCount: Int { planner.runs.count }

    /// Of the first so many runs.
    func byteCount(maxRuns: Int) -> UInt64 { planner.runs.prefix(maxRuns).reduce(0) { $0 + $1.range.count } }

    /// Decides for the first so many runs, as far as the bytes go.
    func take(maxRuns: Int, bytes: UInt64, mayPad: Bool) -> PackedPart {
        var choice = DrainPlanner.Choice()
        choice.parts = planner.runs.prefix(maxRuns).map { DrainPlanner.Choice.Part(run: $0, end: $0.range.upperBound) }
        choice.cut(to: bytes)
        choice.mayPad = mayPad
        let planned = planner.plan(choice, DrainPlanner.Place(through: through, rests: true))
        turn = DrainTurn(
            file: file.fileID, planned, journaledCount: planner.journaledCount, maxJournaledCount: .max)
        isTaken = true
        return PackedPart(file: file, plan: planned.plan)
    }

    /// Returns the bytes freed and whether the file must be queued.
    /// - Parameter heldOffTicks: for how long it is to be left alone if it isn't packed.
    func end(isPacked: Bool, heldOffTicks: Int = 1) -> (freedBytes: Int, mustSchedule: Bool) {
        guard let turn = turn.take() else {
            precondition(!isTaken)
            return file.cancelPack()
        }
        return isPacked
            ? file.finishDrain(turn, hasOpenOutput: false)
            : file.endInVain(turn, hasOpenOutput: false, heldOffTicks: heldOffTicks)
    }
}
