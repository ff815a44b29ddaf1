// The namespace: inodes, entries, extents and block groups, in SQLite on several mirrors.
//
// Bodies run on the namespace thread, one after another, each on what the ones before it left. Those that
// queued up while a commit was going on share the next transaction: one sync for each mirror, however many
// they are. Who changed something is answered when the change is durable on every mirror.
//
// Lock order: `queue` is the only lock, taken alone, and never held while a body runs.

public import Model
internal import Platform
internal import Synchronization

/// An open namespace. Thread-safe. `close` must be called before the last reference goes.
public final class Namespace: Sendable {
    /// The most bodies that share a transaction: bounds how long the first of them waits for the last.
    static let maxBatch = 1024

    /// A body with its caller.
    fileprivate struct Request: Sendable {
        /// Whether the answer may say something only once it is durable.
        let waits: Bool
        let run: @Sendable (inout Transaction) -> Outcome
        /// Answers without running the body.
        let refuse: @Sendable (NamespaceError) -> Void
    }

    fileprivate enum Outcome {
        /// The body returned; to be called when that is true: with an error, if it doesn't become durable.
        case returned(@Sendable (NamespaceError?) -> Void)
        /// The body threw.
        case threw(@Sendable () -> Void)
    }

    private struct Queue {
        var requests: [Request] = []
        /// Whether the thread has been told to look.
        var isScheduled = false
        var isClosed = false
    }

    /// Lets the state, which only the namespace thread uses, be held by a Sendable class.
    private struct Confined: @unchecked Sendable { let state: MetadataState }

    private let queue = Mutex(Queue())
    private let thread = WorkThread(name: "namespace")
    private let confined: Confined
    private let cache: MetadataCache
    private let fileSystem: FileSystem
    private let isForReading: Bool

    init(_ state: MetadataState, _ fileSystem: FileSystem, isForReading: Bool) {
        self.isForReading = isForReading
        confined = Confined(state: state)
        cache = state.cache
        self.fileSystem = fileSystem
    }

    /// Runs `body` on the namespace thread, in the order of the calls. It reads through the transaction and
    /// changes through `Transaction.mutate`; all its changes become one record.
    ///
    /// * This returns when what the body changed, and what it saw of earlier bodies, is durable on every mirror:
    ///   also a body that found nothing to change may be answered to a client as done.
    /// * If it throws, its changes are dropped and the error is passed on, no sooner than that.
    /// * If the changes can't be made durable, this throws the `NamespaceError` as a `Failure`. It is then
    ///   not known whether they are.
    /// * Since bodies run one at a time and in the order of their records, a body may also change state of
    ///   the caller that must follow that order, under the caller's own short locks. It must not wait for
    ///   anything else. Note that this happens before the record is durable.
    ///
    /// Does not suspend before the place of the body in the order is fixed.
    public nonisolated(nonsending) func perform<Value: Sendable, Failure: NamespaceFailure>(
        _ body: @escaping @Sendable (inout Transaction) throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        try await run(body, waits: true)
    }

    /// Like `perform`, for bodies that only look: answered at once after they ran. What they saw of earlier
    /// bodies may still be on its way to the disks.
    public nonisolated(nonsending) func read<Value: Sendable, Failure: NamespaceFailure>(
        _ body: @escaping @Sendable (inout Transaction) throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        try await run(body, waits: false)
    }

    private nonisolated(nonsending) func run<Value: Sendable, Failure: NamespaceFailure>(
        _ body: @escaping @Sendable (inout Transaction) throws(Failure) -> Value, waits: Bool
    ) async throws(Failure) -> Value {
        let result: Result<Value, Failure> = await withUnsafeContinuation { continuation in
            submit(
                Request(
                    waits: waits,
                    run: { transaction in
                        do throws(Failure) {
                            let value = try body(&transaction)
                            return .returned { error in
                                continuation.resume(returning: error.map { .failure(Failure($0)) } ?? .success(value))
                            }
                        } catch {
                            return .threw { continuation.resume(returning: .failure(error)) }
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

    /// Copies the state to a new mirror, in place of whatever is there, and makes it one of the mirrors. Bodies
    /// wait meanwhile.
    ///
    /// When this returns, everything that was answered is on the mirror, and `record` has said that it counts as one.
    /// If this throws it is none; a copy that failed has left nothing behind that wasn't there before.
    /// - Parameter record: is given all mirrors, the new one included, on the namespace thread, so that none can fail
    ///   or be dropped between the copy and its record: the place to write down, durably, which those are. It may
    ///   block. Returns whether the new one is recorded; if not, it is given up and `onMirrorFailure` is told.
    public func addMirror(
        _ location: MirrorLocation, record: @escaping @Sendable (_ mirrors: [VolumeID]) -> Bool
    ) async throws(NamespaceError) {
        let isClosed = queue.withLock { $0.isClosed }
        guard !isClosed else { throw .closed }
        try await thread.run { [self] () throws(NamespaceError) in
            let mirrors = confined.state.mirrors
            guard !mirrors.volumes.contains(location.volume) else {
                throw .inputOutput("\(location.path) is a mirror already")
            }
            try mirrors.add(try copy(to: location, from: try mirrors.committed()), record: record)
        }
    }

    /// Builds and opens a mirror with the content of the first of the sources that is whole.
    private func copy(to location: MirrorLocation, from sources: [Mirror]) throws(NamespaceError) -> Mirror {
        var reasons: [String] = []
        for source in sources {
            do throws(MirrorError) {
                try Mirror.build(at: location, fileSystem, copying: source.connection)
                return try Mirror(location, fileSystem)
            } catch {
                reasons.append("\(location.path), from \(source.location.path): \(error)")
                // Another source wouldn't make the target's disk better.
                if case .sqlite = error { break }
            }
        }
        throw .inputOutput(reasons.joined(separator: "; "))
    }

    /// Gives up the mirror on a volume that has failed, if there is one; `onMirrorFailure` is told as of any other.
    public func dropMirror(on volume: VolumeID) async throws(NamespaceError) {
        let isClosed = queue.withLock { $0.isClosed }
        guard !isClosed else { throw .closed }
        try await thread.run { [self] () throws(NamespaceError) in
            try confined.state.mirrors.giveUp(volume, because: "its volume has failed")
        }
    }

    /// The volumes whose mirrors are in use; throws when nothing works any more.
    public func mirrorVolumes() async throws(NamespaceError) -> [VolumeID] {
        try await withMirrors { $0 }
    }

    /// Runs `body` with the volumes whose mirrors are in use, on the namespace thread, so that they are what they are
    /// until it returns. It may block. Throws when nothing works any more.
    public func withMirrors<Value: Sendable>(
        _ body: @escaping @Sendable (_ mirrors: [VolumeID]) -> Value
    ) async throws(NamespaceError) -> Value {
        let isClosed = queue.withLock { $0.isClosed }
        guard !isClosed else { throw .closed }
        return try await thread.run { [self] () throws(NamespaceError) in
            body(try confined.state.mirrors.committed().map(\.location.volume))
        }
    }

    /// Finishes what was submitted, and closes the mirrors. Later calls throw `closed`.
    public func close() async {
        let wasClosed = queue.withLock { queue in
            defer { queue.isClosed = true }
            return queue.isClosed
        }
        guard !wasClosed else { return }
        await thread.run { [self] in
            while runBatch() {}
            confined.state.mirrors.close()
        }
        thread.stop()
    }

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
        if mustSchedule { schedule() }
    }

    /// One batch for each piece of work, so that `addMirror` and `close` get their turn in between.
    private func schedule() {
        thread.submit { [self] in
            if runBatch() { schedule() }
        }
    }

    /// Runs the bodies that wait and makes their changes durable. Returns whether more wait by now; if not,
    /// the next one schedules again.
    private func runBatch() -> Bool {
        let requests = queue.withLock { queue in
            let batch = Array(queue.requests.prefix(Self.maxBatch))
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
        var waiting: [@Sendable (NamespaceError?) -> Void] = []
        do throws(NamespaceError) {
            if !isForReading { try state.reserveGroupIDs() }
        } catch {
            for request in requests { request.refuse(error) }
            return
        }
        for request in requests {
            if let failure = state.mirrors.failure {
                request.refuse(failure)
                continue
            }
            var transaction = Transaction(state: state)
            switch request.run(&transaction) {
            case .returned(let answer):
                do throws(NamespaceError) {
                    let changed = try state.keepBody()
                    if changed || request.waits { waiting.append(answer) } else { answer(nil) }
                } catch {
                    answer(error)
                }
            case .threw(let answer):
                // If taking its changes back fails, so does the namespace, and that is told to all others.
                try? state.dropBody()
                if request.waits { waiting.append { _ in answer() } } else { answer() }
            }
        }
        var outcome: NamespaceError?
        do throws(NamespaceError) {
            try state.commit()
        } catch {
            outcome = error
        }
        for answer in waiting { answer(outcome) }
        // A failure is kept by the mirror set, for the next batch.
        try? state.mirrors.checkpointIfDue()
    }
}
