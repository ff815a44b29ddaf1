// How much write-back may hold, and when it does what.

/// The bounds of write-back.
public struct WriteBackLimits: Sendable {
    /// Pending bytes that go on where the file has been drained up to, at which it is drained without being asked; twice as
    /// many in full stripes anywhere. Large enough that the syncs and the record of a drain (a few ms) are small beside
    /// writing it (32 MiB: some 50 ms a disk).
    public var drainChunkBytes = 32 << 20
    /// The most that one turn drains while nobody waits, so that a waiter's turn comes soon.
    public var maxDrainBytes = 64 << 20
    /// The most runs that one turn drains, and the most pieces that one journals: they become one record of the namespace,
    /// which all other files wait for; 4,096 extents take some 50 ms. A file with more pieces in the journal is striped, as
    /// a turn may have to look at all of them.
    public var maxRunsPerTurn = 4096
    /// Pending writes of a file at which its writers wait, however few bytes they are: a turn looks at all of them. At
    /// half as many the file is drained without being asked.
    public var maxWrites = 65_536
    /// Memory of the pending writes of all files above which writers wait.
    public var maxPendingBytes = 256 << 20
    /// Memory of all files from which on it is freed: writers should not come to wait.
    var reliefBytes: Int { maxPendingBytes / 4 * 3 }
    /// Memory of all files above which those wait that write to a file with more than its share of it, so that they don't
    /// hold up the others: the last eighth is for these.
    var maxPendingBytesForLarge: Int { maxPendingBytes / 8 * 7 }
    /// Memory of one file from which on it is freed: others need some, too.
    var maxFileBytes: Int { maxPendingBytes / 4 }
    /// The most that one turn dumps, so that a waiter's turn comes soon: 16 MiB take some 10 ms.
    public var maxDumpBytes = 16 << 20
    /// The most that one turn journals, which all who wait for the journal wait for: beyond it stripes are made of small pieces.
    public var maxJournaledBytes = 8 << 20
    /// Drains at once. More hide the latency of syncs, each holds a stripe of buffers.
    public var concurrentDrains = 8
    /// Turns at once that only journal a little. Each is a file's, and holds what was written anyway: enough for all who sync at
    /// the same moment to share a sync.
    public var maxLittleTurns = 256
    /// A file that nobody wrote to for this long is settled.
    public var idleTime = Duration.seconds(10)
    /// Files with something pending or open. Beyond it those that were written to least recently are settled, and who writes
    /// to a further one waits. A quarter of the nodes that a store keeps in memory, which these need.
    public var maxOpenContexts = 16_384
    /// How long a WRITE waits for memory. Well below the minute after which a Linux client asks again.
    public var maxStall = Duration.seconds(15)

    public init() {}

    /// For so much memory. Less than the 256 MiB of the default makes smaller turns, so that several files have theirs.
    public init(maxPendingBytes: Int) {
        self.maxPendingBytes = maxPendingBytes
        drainChunkBytes = min(drainChunkBytes, maxPendingBytes / 8)
        maxDrainBytes = 2 * drainChunkBytes
        maxDumpBytes = min(maxDumpBytes, maxPendingBytes / 8)
        maxJournaledBytes = min(maxJournaledBytes, maxPendingBytes / 8)
    }
}
