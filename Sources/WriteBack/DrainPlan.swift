// What one turn of a file's write-back task takes from the pending writes to the sink.

internal import LockFree
public import Model
public import Platform

/// A stretch of the file without a gap, to be drained as one.
public struct DrainRun: Sendable {
    public let range: ByteRange
    /// In order, without gaps: together they are `range`.
    public let pieces: [PendingWrite]
}

/// Reads the bytes of a run from its beginning to its end, in portions that fit in memory.
public struct DrainReader {
    /// Small pieces come together, so that each costs the sink no step of its own; of what was dumped no more is in memory
    /// at a time.
    private static let portionBytes = 4 << 20

    private let run: DrainRun
    private var next = 0
    private var dumped = DumpedBytes()

    public init(_ run: DrainRun) { self.run = run }

    /// The next bytes; nil at the end. Throws if what was dumped can't be read back.
    public mutating func nextPortion() async throws(WriteBackError) -> Payload? {
        var portion = Payload()
        while next < run.pieces.count, portion.count < Self.portionBytes {
            portion.append(try await run.pieces[next].bytes.load(&dumped))
            next += 1
        }
        return portion.isEmpty ? nil : portion
    }
}

/// What a turn of the write-back task makes durable: some by striping it, some in the journal. The bytes stay visible to
/// readers in the pending writes; what is striped until the sink has published it.
public struct DrainPlan: Sendable {
    /// To be striped: in offset order, not overlapping, none empty. Some of it may be in the journal already. Together a
    /// multiple of a stripe, unless `mayPad`.
    public let runs: [DrainRun]
    /// To be journaled: each one write, or what has not been striped of one, in offset order, each in one go. They may
    /// overlap each other, never a run.
    public let journaling: [PendingWrite]
    /// The runs may end inside of a stripe: nobody can wait until it is full.
    public let mayPad: Bool
    /// Every byte in `runs` was written with at most this sequence, and no older byte of the same place is
    /// still pending: what the runs publish carries it.
    public let sequence: WriteSequence
    /// The lowest sequence of what was pending, is not durable, and is not made so by this, even if something newer was on
    /// top; nil if nothing is left.
    let oldestLeft: WriteSequence?
    /// The file rests: the sink is to keep nothing open for it afterwards.
    public let rests: Bool
    /// Where the next turn begins, if there were more runs than one takes.
    let nextRunOffset: UInt64?

    /// Whether all that was written up to `sequence` is durable afterwards.
    public var coversEverything: Bool { oldestLeft == nil }

    /// Everything up to this is durable when the plan is carried out.
    var reaches: WriteSequence {
        oldestLeft.map { min(sequence, WriteSequence(rawValue: $0.rawValue - 1)) } ?? sequence
    }

    /// To be striped.
    public var byteCount: Int { runs.reduce(0) { $0 + Int($1.range.count) } }

    /// To be journaled.
    public var journalingByteCount: Int { journaling.reduce(0) { $0 + Int($1.range.count) } }

    /// Whether something is striped, and all that there is to lose is in the journal already.
    public var losesNothing: Bool {
        journaling.isEmpty && !runs.isEmpty && runs.allSatisfy { $0.pieces.allSatisfy(\.bytes.isJournaled) }
    }
}

/// A turn of one file's write-back task: the plan and the right to carry it out. There is at most one of a
/// file at a time: it can't be copied, the context hands it out and takes it back with the outcome.
struct DrainTurn: ~Copyable {
    let file: FileID
    let plan: DrainPlan
    /// Those of `plan.journaling`.
    let journaling: [OffsetMap.Finding]
    /// What lies wholly below what is durable when the plan is carried out.
    let covered: [OffsetMap.Finding]
    /// How many pieces of the file are in the journal afterwards, at most.
    let journaledCount: Int
    /// That is so many that they are to be striped.
    let hasTooManyPieces: Bool

    /// - Parameter journaledCount: pieces that are in the journal now, at most.
    init(file: FileID, _ planned: DrainPlanner.Planned, journaledCount: Int, maxJournaledCount: Int) {
        self.file = file
        plan = planned.plan
        journaling = planned.journaling
        covered = planned.covered
        self.journaledCount = max(0, journaledCount + journaling.count - planned.formerlyJournaled)
        hasTooManyPieces = !journaling.isEmpty && self.journaledCount > maxJournaledCount
    }
}

/// A turn on its way to the task that carries it out, which captures it: closures can't capture what can't be copied.
final class HandedTurn: @unchecked Sendable {
    private var turn: DrainTurn?

    init(_ turn: consuming DrainTurn) { self.turn = consume turn }

    /// Once.
    func take() -> DrainTurn {
        guard let turn = turn.take() else { preconditionFailure("a turn is carried out once") }
        return turn
    }
}

/// A turn that moves payload from memory to the dump.
struct DumpTurn: ~Copyable {
    let file: FileID
    let findings: [OffsetMap.Finding]

    /// In the order of the findings.
    var payloads: [Payload] {
        findings.map { finding in
            guard case .memory(let payload) = finding.pending.content else {
                preconditionFailure("only what is in memory is dumped")
            }
            return payload
        }
    }
}

/// Why files could not be packed.
public struct PackFailure: Error, Hashable, Sendable {
    public let error: WriteBackError
    /// The file whose bytes can't be read back from the journal, if that is why: the others can do without it.
    public let unreadable: FileID?

    public init(_ error: WriteBackError, unreadable: FileID? = nil) {
        self.error = error
        self.unreadable = unreadable
    }
}

/// Why bytes that were accepted could not be made durable.
public enum WriteBackError: Error, Hashable, Sendable {
    /// Too many targets failed, or the namespace could not be written.
    case inputOutput
    /// No room.
    case noSpace
    /// The file was removed meanwhile.
    case removed
    /// What was dumped can't be read back. Clients still have the bytes, unless they were told that they are durable, which
    /// nobody was: a changed verifier has them sent again.
    case dumpLost
    /// There is no memory for it now.
    case busy
}
