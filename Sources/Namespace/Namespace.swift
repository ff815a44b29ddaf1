// The namespace: inodes, entries, extents and block groups, in SQLite on several mirrors, with the log in front.
//
// Bodies run on the namespace thread, one after another, each on what the ones before it left. What a body changed is
// one record. It is appended to the log, and the thread goes on with the next body; who changed something is answered
// when the log has made it durable, and never waits for a mirror. A body that needs no mirror runs in place of the thread
// while that has nothing to do. The applier (Applying) brings the mirrors forward later; until then the rows are in memory
// (Overlay).
//
// Lock order: `queue` is taken alone, and never held while a body runs.

public import Journal
public import Model
internal import Platform
internal import Synchronization

/// The rows that a body looks at, where these are few.
public enum Footprint: Sendable {
    case inode(FileID)
    /// A directory and this entry of it, and if there is none, nothing else but new ids.
    case newName(FileName, in: FileID)
}

/// An open namespace. Thread-safe. `close` must be called before the last reference goes.
public final class Namespace: Sendable {
    /// The most bodies that are run before their entries are appended.
    static let maxBatch = 1024

    /// A body with its caller.
    fileprivate struct Request: Sendable {
        /// Whether the answer may say something only once it is durable.
        let waits: Bool
        /// Whether somebody takes the claims on bytes that the body journals.
        let mayJournal: Bool
        /// The body looks at no other rows.
        let footprint: Footprint?
        let run: @Sendable (inout Transaction) -> Outcome
        /// Answers without running the body.
        let refuse: @Sendable (NamespaceError) -> Void
    }

    fileprivate enum Outcome {
        /// The body returned; to be called when that is true: with an error, if it doesn't become durable.
        case returned(@Sendable (Result<[JournaledBytes], NamespaceError>) -> Void)
        /// The body threw; with an error, if what it saw doesn't become durable.
        case threw(@Sendable (NamespaceError?) -> Void)
    }

    private struct Queue {
        var requests: [Request] = []
        /// Whether the thread has been told to look.
        var isScheduled = false
        var isClosed = false
    }

    /// Lets the state, which only the namespace thread uses, be held by a Sendable class.
    struct Confined: @unchecked Sendable { let state: MetadataState }

    private let queue = Mutex(Queue())
    let thread: WorkThread
    private let confined: Confined
    private let cache: MetadataCache
    private let backlog: Backlog
    private let failure: FailureLatch
    private let log: MetadataLog?
    let mirrors: MirrorSet
    let applier: Applier
    let fileSystem: FileSystem

    /// - Parameter log: nil: for reading only.
    init(
        _ state: MetadataState, backlog: Backlog, failure: FailureLatch, applying: WorkThread, log: MetadataLog?,
        fileSystem: FileSystem
    ) {
        let confined = Confined(state: state)
        let thread = WorkThread(name: "namespace")
        self.confined = confined
        self.thread = thread
        cache = state.cache
        mirrors = state.mirrors
        self.backlog = backlog
        self.failure = failure
        self.log = log
        self.fileSystem = fileSystem
        applier = Applier(
            thread: applying, mirrors: state.mirrors, backlog: backlog, log: log,
            onApplied: { batch in thread.submit { confined.state.dropApplied(batch) } })
    }

    /// Runs `body` on the namespace thread, in the order of the calls. It reads through the transaction and
    /// changes through `Transaction.mutate`; all its changes become one record.
    ///
    /// * This returns when what the body changed, and what it saw of earlier bodies, is durable in the log:
    ///   also a body that found nothing to change may be answered to a client as done.
    /// * If it throws, its changes are dropped and the error is passed on, no sooner than that.
    /// * If the changes, or those it saw, can't be made durable, this throws the `NamespaceError` as a `Failure`. It is
    ///   then not known whether they are.
    /// * Since bodies run one at a time and in the order of their records, a body may also change state of
    ///   the caller that must follow that order, under the caller's own short locks. It must not wait for
    ///   anything else. Note that this happens before the record is durable.
    ///
    /// Does not suspend before the place of the body in the order is fixed.
    /// - Parameter footprint: the body looks at no other rows. Then it needs no mirror if these are known, and may run at once
    ///   on the caller's thread, in place of the namespace thread.
    public nonisolated(nonsending) func perform<Value: Sendable, Failure: NamespaceFailure>(
        _ footprint: Footprint? = nil, _ body: @escaping @Sendable (inout Transaction) throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        try await run(body, waits: true, footprint).value
    }

    /// Like `perform`, for bodies that also journal bytes of files (`Transaction.journal`): these become durable with
    /// what the body changed, or not at all. Returns the claims on them, in their order.
    public nonisolated(nonsending) func performJournaling<Value: Sendable, Failure: NamespaceFailure>(
        _ footprint: Footprint? = nil, _ body: @escaping @Sendable (inout Transaction) throws(Failure) -> Value
    ) async throws(Failure) -> (value: Value, claims: [JournaledBytes]) {
        try await run(body, waits: true, mayJournal: true, footprint)
    }

    /// Like `perform`, for bodies that only look: answered at once after they ran. What they saw of earlier
    /// bodies may still be on its way to the disks.
    public nonisolated(nonsending) func read<Value: Sendable, Failure: NamespaceFailure>(
        _ body: @escaping @Sendable (inout Transaction) throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        try await run(body, waits: false).value
    }

    private nonisolated(nonsending) func run<Value: Sendable, Failure: NamespaceFailure>(
        _ body: @escaping @Sendable (inout Transaction) throws(Failure) -> Value, waits: Bool, mayJournal: Bool = false,
        _ footprint: Footprint? = nil
    ) async throws(Failure) -> (value: Value, claims: [JournaledBytes]) {
        let result: Result<(value: Value, claims: [JournaledBytes]), Failure> = await withUnsafeContinuation {
            continuation in
            submit(
                Request(
                    waits: waits, mayJournal: mayJournal, footprint: footprint,
                    run: { transaction in
                        do throws(Failure) {
                            let value = try body(&transaction)
                            return .returned { result in
                                continuation.resume(returning: result.map { (value, $0) }.mapError { Failure($0) })
                            }
                        } catch {
                            return .threw { lost in
                                continuation.resume(returning: .failure(lost.map { Failure($0) } ?? error))
                            }
                        }
                    },
                    refuse: { continuation.resume(returning: .failure(Failure($0))) }))
        }
        return try result.get()
    }

    /// What a cache knows about a row.
    public enum Glance<Value: Sendable>: Sendable {
        case present(Value)
        case absent
        /// To be asked in a body.
        case unknown
    }

    /// The inode as the bodies before this moment left it, without waiting for one. Never blocks.
    public func glance(at id: FileID) -> Glance<Inode> {
        switch cache.inode(id) {
        case .present(let inode): .present(inode)
        case .absent: .absent
        case nil: .unknown
        }
    }

    /// The same for an entry of a directory.
    public func glance(at name: FileName, in directory: FileID) -> Glance<NamespaceEntry> {
        switch cache.entry(MetadataCache.EntryKey(directory: directory, name: name)) {
        case .present(let row): .present(NamespaceEntry(name: row.name, cookie: row.cookie, child: row.child))
        case .absent: .absent
        case nil: .unknown
        }
    }

    /// Sees to it that what has waited for a second is applied to the mirrors. To be called about once a second;
    /// doesn't block.
    public func tick() {
        mirrors.tick()
        if backlog.tick() { applier.schedule() }
    }

    /// Finishes what was submitted, applies all of it to the mirrors, and closes them: a start finds nothing to apply
    /// then. Later calls throw `closed`.
    public func close() async {
        let wasClosed = queue.withLock { queue in
            defer { queue.isClosed = true }
            return queue.isClosed
        }
        guard !wasClosed else { return }
        await thread.run { [self] in
            while runBatch() {}
        }
        if let log {
            // An error is one of the entries before, too, and has failed the namespace.
            await withUnsafeContinuation { continuation in log.barrier { _ in continuation.resume() } }
        }
        await applier.thread.run { [self] in
            do throws(NamespaceError) {
                try applier.applyAll()
                // What was only looked at is left as it is.
                mirrors.close(properly: log != nil)
            } catch {
                // It was told of. The next start applies what is missing here.
                mirrors.close(properly: false)
            }
        }
        applier.thread.stop()
        thread.stop()
    }

    var isClosed: Bool { queue.withLock { $0.isClosed } }

    /// Bodies that wait for the next batch.
    var queuedRequests: Int { queue.withLock { $0.requests.count } }

    // MARK: The thread

    private func submit(_ request: Request) {
        let (isClosed, mustSchedule) = queue.withLock { queue in
            guard !queue.isClosed else { return (true, false) }
            queue.requests.append(request)
            defer { queue.isScheduled = true }
            return (false, !queue.isScheduled)
        }
        if isClosed { request.refuse(.closed) }
        if mustSchedule, request.footprint == nil || !thread.runIfIdle(runInPlaceOfThread) { schedule() }
    }

    /// Runs the bodies that wait, or leaves them to the thread: if one of them may need a mirror, or must wait for room.
    private func runInPlaceOfThread() {
        let footprints = queue.withLock { $0.requests.prefix(Self.maxBatch).map(\.footprint) }
        let needsNobody = footprints.allSatisfy { $0.map(confined.state.knows) ?? false }
        if !needsNobody || !backlog.hasRoom || runBatch(footprints.count) { schedule() }
    }

    /// One batch for each piece of work, so that the overlay may forget what was applied in between.
    private func schedule() {
        thread.submit { [self] in
            if runBatch() { schedule() }
        }
    }

    /// Runs the bodies that wait and appends what they leave to the log. Returns whether more wait by now; if not,
    /// the next one schedules again.
    private func runBatch(_ count: Int = Namespace.maxBatch) -> Bool {
        let requests = queue.withLock { queue in
            let batch = Array(queue.requests.prefix(count))
            queue.requests.removeFirst(batch.count)
            return batch
        }
        if !requests.isEmpty { run(requests) }
        return queue.withLock { queue in
            queue.isScheduled = !queue.requests.isEmpty
            return queue.isScheduled
        }
    }

    private func run(_ requests: [Request]) {
        let state = confined.state
        precondition(!state.isRunning, "bodies run one after another")
        state.isRunning = true
        defer { state.isRunning = false }
        backlog.waitForRoom { applier.schedule() }
        var kept: [(MetadataState.KeptBody, @Sendable (Result<[JournaledBytes], NamespaceError>) -> Void)] = []
        var waiting: [@Sendable (NamespaceError?) -> Void] = []
        if log != nil, failure.error == nil, let reservation = state.reserveGroupIDs() {
            kept.append((reservation, { _ in }))
        }
        for request in requests {
            if let error = failure.error {
                request.refuse(error)
                continue
            }
            state.mayJournal = request.mayJournal
            log?.noteBegun(state.lastNumber.next)
            var transaction = Transaction(state: state)
            switch request.run(&transaction) {
            case .returned(let answer):
                if let body = state.keepBody() {
                    kept.append((body, answer))
                } else if request.waits {
                    waiting.append { answer($0.map { .failure($0) } ?? .success([])) }
                } else {
                    answer(.success([]))
                }
            case .threw(let answer):
                state.dropBody()
                if request.waits { waiting.append(answer) } else { answer(nil) }
            }
        }
        log?.noteBegun(state.lastNumber)
        for (index, (body, answer)) in kept.enumerated() {
            interruption()
            append(body, isLast: index == kept.count - 1, answer)
        }
        guard !waiting.isEmpty else { return }
        guard let log, !backlog.isDurable(through: state.lastNumber) else {
            for answer in waiting { answer(failure.error) }
            return
        }
        log.barrier { [failure, waiting] error in
            let outcome = error.map { failure.fail(.failed("\($0)")) }
            for answer in waiting { answer(outcome) }
        }
    }

    /// Appends what a body left to the log; `answer` is called when it is durable.
    private func append(
        _ body: MetadataState.KeptBody, isLast: Bool,
        _ answer: @escaping @Sendable (Result<[JournaledBytes], NamespaceError>) -> Void
    ) {
        guard let log else { preconditionFailure("a change of what is open for reading") }
        let entry = JournalEntry(number: body.record.number, record: body.record.encoded(), payloads: body.payloads)
        backlog.append(body.record, bytes: entry.record.count)
        log.append(entry, isLast) { [backlog, applier, failure] result in
            switch result {
            case .success(let claims):
                body.whenDurable?()
                if backlog.noteDurable(entry.number) { applier.schedule() }
                answer(.success(claims))
            case .failure(let error):
                answer(.failure(failure.fail(.failed("\(error)"))))
            }
        }
    }

    /// Begins an epoch and reserves ids: blocks until that is durable. Before the first body.
    func begin(_ epoch: Epoch) throws(NamespaceError) {
        let state = confined.state
        state.set(.epoch, epoch.rawValue)
        guard let body = state.reserveGroupIDs() else { preconditionFailure("no ids are there at the start") }
        let outcome = Monitor<NamespaceError??>(nil)
        log?.noteBegun(state.lastNumber)
        append(body, isLast: true) { result in
            let error: NamespaceError? = if case .failure(let error) = result { error } else { nil }
            outcome.withLock { $0 = .some(error) }
        }
        if let error = outcome.wait({ $0 }) { throw error }
    }

    /// Gives up what `open` has begun.
    func abandon() {
        applier.thread.stop()
        mirrors.close(properly: false)
        thread.stop()
    }
}
