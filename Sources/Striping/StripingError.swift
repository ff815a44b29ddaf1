// What can go wrong with a block group as a whole.

public import BlockStore
public import ErasureCoding
public import Model

/// A target that could not take what it was given.
public struct TargetFailure: Hashable, Sendable {
    /// Index of the internal block in its group.
    public let index: Int
    public let error: BlockWriteError

    public init(index: Int, error: BlockWriteError) {
        self.index = index
        self.error = error
    }
}

/// An internal block that could not be read.
public struct BadBlock: Hashable, Sendable {
    public let block: BlockID
    public let generationStamp: GenerationStamp
    public let reason: BlockReadError

    public init(block: BlockID, generationStamp: GenerationStamp, reason: BlockReadError) {
        self.block = block
        self.generationStamp = generationStamp
        self.reason = reason
    }
}

/// Why a block group could not be written or read.
public enum StripingError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Too few targets to begin a group on.
    case tooFewTargets(present: Int, needed: Int)
    /// These targets failed; the group takes no more bytes. What was synchronized is durable, the rest may be
    /// written again to another group, without these targets.
    case targetsFailed([TargetFailure])
    /// More internal blocks than the group's parity makes up for can't be read, all that were found bad.
    case tooManyBadBlocks([BadBlock])
    /// The codec could not; can't happen with the policies' matrices.
    case undecodable(ErasureCodingError)

    public var description: String {
        switch self {
        case .tooFewTargets(let present, let needed): "only \(present) of at least \(needed) targets are there"
        case .targetsFailed(let failures):
            failures.map { "target \($0.index) failed: \($0.error)" }.joined(separator: ", ")
        case .tooManyBadBlocks(let blocks):
            "too many bad blocks: " + blocks.map { "\($0.block): \($0.reason)" }.joined(separator: ", ")
        case .undecodable(let error): "\(error)"
        }
    }
}
