// Brings the mirrors forward, off the path of any reply: takes durable records in order, in batches, and applies what
// a batch comes to on all mirrors. Then the overlay may forget it, and the log need not keep it.
//
// Changes of the set of mirrors run on its thread, too, between two batches: then all mirrors are level, unless the
// records that were recovered have not been applied yet.

internal import Model
internal import Platform

final class Applier: Sendable {
    let thread: WorkThread
    private let mirrors: MirrorSet
    private let backlog: Backlog
    /// nil: nothing is applied, the namespace is open for reading only.
    private let log: MetadataLog?
    /// Is told what all mirrors have applied, up to which record.
    private let onApplied: @Sendable (AppliedBatch) -> Void

    /// What was applied. Given from one thread to the other, and not used by the first any more.
    struct AppliedBatch: @unchecked Sendable {
        let changes: Overlay
        let number: LogNumber
    }

    init(
        thread: WorkThread, mirrors: MirrorSet, backlog: Backlog, log: MetadataLog?,
        onApplied: @escaping @Sendable (AppliedBatch) -> Void
    ) {
        self.thread = thread
        self.mirrors = mirrors
        self.backlog = backlog
        self.log = log
        self.onApplied = onApplied
    }

    /// Applies a batch soon. One batch for each piece of work, so that others get their turn in between.
    func schedule() {
        guard log != nil else { return }
        thread.submit { [self] in
            do throws(NamespaceError) {
                let count = try applyBatch()
                if count > 0, backlog.removeApplied(count) { schedule() }
            } catch {
                // The latch keeps it for whoever asks next.
            }
        }
    }

    /// Applies everything that is durable. On the applier's thread.
    func applyAll() throws(NamespaceError) {
        guard log != nil else { return }
        while case let count = try applyBatch(), count > 0 { _ = backlog.removeApplied(count) }
    }

    /// Applies everything that has to be applied before the mirrors are level. On the applier's thread.
    func level() throws(NamespaceError) {
        while let (low, high) = mirrors.positions, low < high {
            let count = try applyBatch()
            guard count > 0 else { throw .inputOutput("the mirrors are not level") }
            _ = backlog.removeApplied(count)
        }
    }

    /// Returns how many records it took.
    private func applyBatch() throws(NamespaceError) -> Int {
        try mirrors.tellFailures()
        let batch = backlog.nextBatch()
        guard let number = batch.last?.number else { return 0 }
        let changes = Overlay(batch)
        try mirrors.apply(changes.mutations, upTo: number, sparesReaders: !backlog.isHigh)
        // Every mirror that failed on the way has been told of.
        log?.noteApplied(number)
        onApplied(AppliedBatch(changes: changes, number: number))
        return batch.count
    }
}
