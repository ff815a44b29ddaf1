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

/// What a turn of the write-back task drains. The bytes stay visible to readers in the pending writes
/// until the sink has published them.
public struct DrainPlan: Sendable {
    /// In offset order, not overlapping, none empty.
    public let runs: [DrainRun]
    /// Every byte in `runs` was written with at most this sequence, and no older byte of the same place is
    /// still pending: what the runs publish carries it.
    public let sequence: WriteSequence
    /// The lowest sequence of what was pending and is not in `runs`, even if something newer was on top; nil if nothing
    /// is left.
    let oldestLeft: WriteSequence?
    /// The file rests: the sink is to keep nothing open for it afterwards.
    public let rests: Bool
    /// Where the next turn begins, if there were more runs than one takes.
    let nextRunOffset: UInt64?

    /// Whether `runs` is all that was written up to `sequence`.
    public var coversEverything: Bool { oldestLeft == nil }

    /// Everything up to this is durable when the plan is carried out.
    var reaches: WriteSequence {
        oldestLeft.map { min(sequence, WriteSequence(rawValue: $0.rawValue - 1)) } ?? sequence
    }

    public var byteCount: Int { runs.reduce(0) { $0 + Int($1.range.count) } }
}

/// A turn of one file's write-back task: the plan and the right to carry it out. There is at most one of a
/// file at a time: it can't be copied, the context hands it out and takes it back with the outcome.
struct DrainTurn: ~Copyable {
    let file: FileID
    let plan: DrainPlan
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
