// What one turn of a file's write-back task takes from the pending writes to the sink.

public import Model
public import Platform

/// A stretch of the file without a gap, to be drained as one.
public struct DrainRun: Sendable {
    public let range: ByteRange
    /// As long as `range`.
    public let payload: Payload
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

    public var byteCount: Int { runs.reduce(0) { $0 + $1.payload.count } }
}

/// A turn of one file's write-back task: the plan and the right to carry it out. There is at most one of a
/// file at a time: it can't be copied, the context hands it out and takes it back with the outcome.
struct DrainTurn: ~Copyable {
    let file: FileID
    let plan: DrainPlan
}

/// Why bytes that were accepted could not be made durable.
public enum WriteBackError: Error, Hashable, Sendable {
    /// Too many targets failed, or the namespace could not be written.
    case inputOutput
    /// No room.
    case noSpace
    /// The file was removed meanwhile.
    case removed
}
