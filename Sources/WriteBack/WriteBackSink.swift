// Where a file's bytes go: the embedded store, or (later) an HDFS cluster.

public import Journal
public import Model

/// The order of offsets that a sink takes.
public enum DrainOrder: Hashable, Sendable {
    /// Any, also over what was drained before.
    case any
    /// Only on at the end, without gaps (HDFS).
    case appendOnly
}

/// A file's part of what is packed.
public struct PackedPart: Sendable {
    public let file: OpenFileContext
    /// Its pending bytes, or the first of them. Nothing is to be journaled.
    public let plan: DrainPlan

    public init(file: OpenFileContext, plan: DrainPlan) {
        self.file = file
        self.plan = plan
    }
}

/// Takes drained runs and makes them durable; and what isn't worth a stripe, by way of the journal.
public protocol WriteBackSink: Sendable {
    /// Bytes that make one full stripe: drains that can wait come in multiples of it.
    var stripeSizeBytes: Int { get }

    var order: DrainOrder { get }

    /// Whether so many bytes may go to the journal now. If not they are striped, in a group that is sealed for them: a turn
    /// never waits for the journal, since what frees the journal is turns.
    func journalHasRoom(forBytes count: Int) -> Bool

    /// Returns when all runs of the plan are durable and published, so that a reader who looks at the pending
    /// writes first and at the store second finds each byte in one of them, and when what is to be journaled is durable
    /// there. Never called twice at once for one file. With nothing to do it waits until all that was recorded of the file
    /// is durable.
    ///
    /// Both must come to their place in the order of truncates when they are recorded: what `drainClip` says then is left
    /// out. Returns the claims in the order of `plan.journaling`, each on the bytes of its piece from the first up to the
    /// clip; nil for a piece of which nothing was left. If it fails nothing stays open for the file.
    func drain(_ plan: DrainPlan, of file: OpenFileContext) async throws(WriteBackError) -> [JournaledBytes?]

    /// Drains several files that rest at once, one behind the other: together full stripes, unless `mayPad`. Returns when
    /// all are published, in one record or in several. All their bytes are in the journal, so if it fails nothing is lost;
    /// what was published then all the same stays so.
    func pack(_ parts: [PackedPart], mayPad: Bool) async throws(PackFailure)

    /// Whether something is open for the file after its last drain, which a plan that rests would close. To be asked by
    /// the file's write-back task.
    func hasOpenOutput(for file: FileID) -> Bool

    /// Makes the file in memory what the store has of it (`OpenFileContext.revert`). Called after a failed drain that had
    /// bytes which are not in the journal.
    /// Returns false if the store can't say what that is.
    func revert(_ file: OpenFileContext) async -> Bool

    /// Acknowledged unstable bytes of the file were lost: the write verifier must change, unless it has since the last of
    /// them arrived; then who has sent them was answered with an old one. Returns after it did.
    /// - Parameter arrivedUntil: by the clock's `elapsed`, which was asked after the verifier that the WRITE is answered with.
    func acknowledgedBytesWereLost(in file: FileID, arrivedUntil: Duration, because error: WriteBackError)
}
