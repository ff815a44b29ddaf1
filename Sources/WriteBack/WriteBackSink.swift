// Where a file's bytes go: the embedded store, or (later) an HDFS cluster.

public import Model

/// The order of offsets that a sink takes.
public enum DrainOrder: Hashable, Sendable {
    /// Any, also over what was drained before.
    case any
    /// Only on at the end, without gaps (HDFS).
    case appendOnly
}

/// Takes drained runs and makes them durable.
public protocol WriteBackSink: Sendable {
    /// Bytes that make one full stripe: drains that can wait come in multiples of it.
    var stripeSizeBytes: Int { get }

    var order: DrainOrder { get }

    /// Returns when all runs of the plan are durable and published, so that a reader who looks at the pending
    /// writes first and at the store second finds each byte in one of them. Never called twice at once for
    /// one file. With no runs it waits until all that was recorded of the file is durable.
    func drain(_ plan: DrainPlan, of file: OpenFileContext) async throws(WriteBackError)

    /// Whether something is open for the file after its last drain, which a plan that rests would close. To be asked by
    /// the file's write-back task.
    func hasOpenOutput(for file: FileID) -> Bool

    /// Makes the file in memory what the store has of it (`OpenFileContext.revert`). Called after a failed drain.
    /// Returns false if the store can't say what that is.
    func revert(_ file: OpenFileContext) async -> Bool

    /// Acknowledged unstable bytes of the file were lost: the write verifier must change, unless it has since the last of
    /// them arrived; then who has sent them was answered with an old one. Returns after it did.
    /// - Parameter arrivedUntil: by the clock's `elapsed`, which was asked after the verifier that the WRITE is answered with.
    func acknowledgedBytesWereLost(in file: FileID, arrivedUntil: Duration, because error: WriteBackError)
}
