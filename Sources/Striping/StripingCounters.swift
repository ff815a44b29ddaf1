// What the striped readers had to do beyond reading, since the store was started.

internal import Synchronization

/// Counts of decoding and its causes. May be used by several threads at once.
public final class StripingCounters: Sendable {
    /// The counts at one moment, each for itself.
    public struct Snapshot: Hashable, Sendable {
        /// Stripes of which a read had to decode a cell, counted at each read.
        public var decodedStripes: UInt64 = 0
        /// Cells that a read decoded wholly or in part, counted at each read.
        public var decodedCells: UInt64 = 0
        /// Reads of an internal block that was not there, or whose target is missing.
        public var missingBlocks: UInt64 = 0
        public var shortBlocks: UInt64 = 0
        /// Reads that met a chunk without its checksum, or a damaged checksum file.
        public var corruptChunks: UInt64 = 0
        public var readErrors: UInt64 = 0
        /// Reads that failed for too many bad blocks.
        public var failedReads: UInt64 = 0

        public init() {}
    }

    let decodedStripes = Atomic<UInt64>(0)
    let decodedCells = Atomic<UInt64>(0)
    let missingBlocks = Atomic<UInt64>(0)
    let shortBlocks = Atomic<UInt64>(0)
    let corruptChunks = Atomic<UInt64>(0)
    let readErrors = Atomic<UInt64>(0)
    let failedReads = Atomic<UInt64>(0)

    public init() {}

    public var snapshot: Snapshot {
        var snapshot = Snapshot()
        snapshot.decodedStripes = decodedStripes.load(ordering: .relaxed)
        snapshot.decodedCells = decodedCells.load(ordering: .relaxed)
        snapshot.missingBlocks = missingBlocks.load(ordering: .relaxed)
        snapshot.shortBlocks = shortBlocks.load(ordering: .relaxed)
        snapshot.corruptChunks = corruptChunks.load(ordering: .relaxed)
        snapshot.readErrors = readErrors.load(ordering: .relaxed)
        snapshot.failedReads = failedReads.load(ordering: .relaxed)
        return snapshot
    }
}
