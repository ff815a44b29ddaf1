// The log that stands in front of the mirrors, as far as the namespace needs it.

public import Journal
public import Model

/// Where records become durable. Entries are appended by one thread, in the order of their numbers; the completions come
/// in that order, on whichever thread, perhaps before `append` returns.
public struct MetadataLog: Sendable {
    public typealias Completion = @Sendable (Result<[JournaledBytes], JournalError>) -> Void

    /// Calls the completion when the entry is durable, with the claims on its payloads, or with an error when it never
    /// will be. Doesn't block. One that is not the last is followed by another at once, which may be waited for.
    let append: @Sendable (_ entry: JournalEntry, _ isLast: Bool, _ completion: @escaping Completion) -> Void
    /// Calls the completion when all that was appended before is durable. Doesn't block.
    let barrier: @Sendable (_ completion: @escaping @Sendable (JournalError?) -> Void) -> Void
    /// All mirrors hold the entries up to this one, durably: the log need not keep their records.
    let noteApplied: @Sendable (_ number: LogNumber) -> Void
    /// No entry after this one has been begun. What is let go of by who runs its body is needed until it is durable. To be
    /// called before the body runs.
    let noteBegun: @Sendable (_ number: LogNumber) -> Void

    public init(
        append: @escaping @Sendable (_ entry: JournalEntry, _ isLast: Bool, _ completion: @escaping Completion) -> Void,
        barrier: @escaping @Sendable (_ completion: @escaping @Sendable (JournalError?) -> Void) -> Void,
        noteApplied: @escaping @Sendable (_ number: LogNumber) -> Void,
        noteBegun: @escaping @Sendable (_ number: LogNumber) -> Void
    ) {
        self.append = append
        self.barrier = barrier
        self.noteApplied = noteApplied
        self.noteBegun = noteBegun
    }

    public init(_ journal: IntentJournal) {
        self.init(
            append: { journal.append($0, isLast: $1, completion: $2) }, barrier: { journal.barrier($0) },
            noteApplied: { journal.noteApplied(through: $0) }, noteBegun: { journal.noteBegun(through: $0) })
    }
}
