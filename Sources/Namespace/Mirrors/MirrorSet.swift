// The mirrors of an open namespace: the primary, which is read and on which bodies work, and the others,
// which follow at commit. Keeps what the primary has and is not committed, so that another mirror can
// take over in the midst of a batch.
//
// Invariants:
// * `mirrors[0]` is the primary. Outside of `commit`, no other mirror has a transaction.
// * The primary's transaction is `batch`, then, behind the savepoint, `body`.
// * No volume has two of them.
// * A mirror that failed is never used again, and `onMirrorFailure` knows of it before anybody is answered.
// * `onFailure` is told once, before anybody is answered, that nothing works any more.
//
// Only used on the namespace thread. No locks.

internal import Glibc
internal import Logging
internal import Model
internal import Platform
internal import Synchronization

final class MirrorSet {
    private var mirrors: [Mirror]
    /// Records that the primary has applied and not committed.
    private var batch: [MetadataRecord] = []
    /// What the running body has changed.
    private(set) var body: [Mutation] = []
    /// The last record that was made, committed or not.
    private var lastNumber: LogNumber
    /// Why nothing works any more.
    private(set) var failure: NamespaceError?
    private let onMirrorFailure: @Sendable (_ failed: [VolumeID], _ remaining: [VolumeID]) -> Bool
    private let onFailure: @Sendable (NamespaceError) -> Void
    private let logger: Logger

    /// - Parameter mirrors: at least one, of different volumes, all with the state of `lastNumber`.
    init(
        _ mirrors: [Mirror], lastNumber: LogNumber, logger: Logger,
        onMirrorFailure: @escaping @Sendable (_ failed: [VolumeID], _ remaining: [VolumeID]) -> Bool,
        onFailure: @escaping @Sendable (NamespaceError) -> Void
    ) {
        precondition(!mirrors.isEmpty && Set(mirrors.map(\.location.volume)).count == mirrors.count)
        self.mirrors = mirrors
        self.lastNumber = lastNumber
        self.logger = logger
        self.onMirrorFailure = onMirrorFailure
        self.onFailure = onFailure
    }

    var volumes: [VolumeID] { mirrors.map(\.location.volume) }

    // MARK: Reading

    /// Reads from the primary. When that fails, another mirror takes its place; when a row is damaged, only
    /// if the other one has it whole.
    func read<Value>(_ read: (Mirror) throws(MirrorError) -> Value) throws(NamespaceError) -> Value {
        while true {
            let primary = try primary()
            do throws(MirrorError) {
                return try read(primary)
            } catch {
                guard case .damagedRow = error else {
                    try drop([(primary, error)])
                    continue
                }
                return try readElsewhere(read, after: error)
            }
        }
    }

    private func readElsewhere<Value>(
        _ read: (Mirror) throws(MirrorError) -> Value, after damage: MirrorError
    ) throws(NamespaceError) -> Value {
        let damaged = try primary()
        var failed: [(Mirror, MirrorError)] = []
        for candidate in mirrors.dropFirst() {
            let value: Value
            do throws(MirrorError) {
                try bringLevel(candidate)
                value = try read(candidate)
            } catch {
                do throws(MirrorError) {
                    guard case .damagedRow = error else { throw error }
                    try candidate.rollBack()
                } catch {
                    failed.append((candidate, error))
                }
                continue
            }
            mirrors.removeAll { $0 === candidate }
            mirrors.insert(candidate, at: 0)
            try drop(failed + [(damaged, damage)])
            return value
        }
        try drop(failed)
        throw .damaged("\(damage)")
    }

    private func primary() throws(NamespaceError) -> Mirror {
        if let failure { throw failure }
        return mirrors[0]
    }

    // MARK: Bodies

    /// Applies a mutation of the running body.
    func apply(_ mutation: Mutation) throws(NamespaceError) {
        try onPrimary { primary throws(MirrorError) in
            if body.isEmpty {
                try primary.begin()
                try primary.beginBody()
            }
            try primary.apply(mutation)
        }
        body.append(mutation)
    }

    /// Makes the running body's mutations the next record.
    func keepBody() throws(NamespaceError) {
        guard !body.isEmpty else { return }
        try onPrimary { primary throws(MirrorError) in try primary.keepBody() }
        lastNumber = lastNumber.next
        batch.append(MetadataRecord(number: lastNumber, mutations: body))
        body = []
    }

    /// Takes the running body's mutations back.
    func dropBody() throws(NamespaceError) {
        guard !body.isEmpty else { return }
        try onPrimary { primary throws(MirrorError) in try primary.rollBackBody() }
        body = []
    }

    /// Runs `work` on the primary; if it fails there, on the next one, brought to the same state.
    private func onPrimary(_ work: (Mirror) throws(MirrorError) -> Void) throws(NamespaceError) {
        while true {
            let primary = try primary()
            do throws(MirrorError) {
                return try work(primary)
            } catch {
                try drop([(primary, error)])
            }
        }
    }

    /// Applies to a mirror what the primary has beyond the last commit.
    private func bringLevel(_ mirror: Mirror) throws(MirrorError) {
        guard !batch.isEmpty || !body.isEmpty else { return }
        try mirror.apply(batch)
        guard !body.isEmpty else { return }
        try mirror.beginBody()
        for mutation in body { try mirror.apply(mutation) }
    }

    // MARK: Commits

    /// Makes the batch durable on all mirrors. Those that fail are dropped; throws when none is left or
    /// those that are left may not go on.
    func commit() throws(NamespaceError) {
        precondition(body.isEmpty)
        _ = try primary()
        guard !batch.isEmpty else { return }
        let records = batch
        let number = lastNumber
        let failed = onEach { mirror, isPrimary throws(MirrorError) in
            if !isPrimary { try mirror.apply(records) }
            try mirror.commit(upTo: number)
        }
        batch = []
        try drop(failed)
    }

    /// Moves the mirrors' write-ahead logs into their databases when they have grown.
    func checkpointIfDue() throws(NamespaceError) {
        guard failure == nil, mirrors[0].needsCheckpoint else { return }
        try drop(onEach { mirror, _ throws(MirrorError) in try mirror.checkpoint() })
    }

    /// Does the work on all mirrors at once, each on its own thread, and waits for all.
    private func onEach(
        _ work: @escaping @Sendable (Mirror, _ isPrimary: Bool) throws(MirrorError) -> Void
    ) -> [(Mirror, MirrorError)] {
        let results = Results(count: mirrors.count)
        for (index, mirror) in mirrors.enumerated().dropFirst() {
            mirror.thread.submit { results.run(index) { () throws(MirrorError) in try work(mirror, false) } }
        }
        let primary = mirrors[0]
        results.run(0) { () throws(MirrorError) in try work(primary, true) }
        return zip(mirrors, results.wait()).compactMap { mirror, error in error.map { (mirror, $0) } }
    }

    // MARK: Members

    /// Adds a mirror that has the state of the last commit; only between batches. It becomes one when `record` has
    /// said so where the next start looks; otherwise it is given up again, as one that failed.
    ///
    /// Throws when the volume has a mirror already, or when `record` said no.
    func add(
        _ mirror: Mirror, record: (_ mirrors: [VolumeID]) -> Bool
    ) throws(NamespaceError) {
        precondition(batch.isEmpty && body.isEmpty)
        let volume = mirror.location.volume
        if failure != nil || volumes.contains(volume) {
            mirror.giveUp()
            throw failure ?? .inputOutput("\(mirror.location.path) is a mirror already")
        }
        mirrors.append(mirror)
        guard record(volumes) else {
            let reason = MirrorError.notAMirror("it could not be recorded as a mirror")
            // Its name may be in superblocks by now: an epoch that was begun by half.
            try drop([(mirror, reason)])
            throw .inputOutput("\(mirror.location.path): \(reason)")
        }
    }

    /// Gives up the mirror on a volume, if there is one; only between batches.
    func giveUp(_ volume: VolumeID, because reason: String) throws(NamespaceError) {
        precondition(batch.isEmpty && body.isEmpty)
        guard let mirror = mirrors.first(where: { $0.location.volume == volume }) else { return }
        try drop([(mirror, .notAMirror(reason))])
    }

    /// All mirrors, which are level, for copying; only between batches.
    func committed() throws(NamespaceError) -> [Mirror] {
        precondition(batch.isEmpty && body.isEmpty)
        _ = try primary()
        return mirrors
    }

    /// Gives mirrors up and says so. If the primary was one of them, the next is brought to its state first.
    private func drop(_ failed: [(mirror: Mirror, error: MirrorError)]) throws(NamespaceError) {
        guard !failed.isEmpty else { return }
        let primary = mirrors[0]
        var failed = failed
        for (mirror, error) in failed { giveUp(mirror, error) }
        while let next = mirrors.first, next !== primary, !next.connection.isInTransaction {
            do throws(MirrorError) {
                try bringLevel(next)
                break
            } catch {
                giveUp(next, error)
                failed.append((next, error))
            }
        }
        // With no mirror left there is nothing to write down: who were the last ones must stay known.
        guard !mirrors.isEmpty, onMirrorFailure(failed.map(\.mirror.location.volume), volumes) else {
            let failure = NamespaceError.failed(
                failed.map { "\($0.mirror.location.path): \($0.error)" }.joined(separator: "; "))
            self.failure = failure
            for mirror in mirrors { mirror.giveUp() }
            mirrors = []
            batch = []
            body = []
            onFailure(failure)
            throw failure
        }
    }

    private func giveUp(_ mirror: Mirror, _ error: MirrorError) {
        logger.error(
            "a metadata mirror has failed",
            metadata: ["path": "\(mirror.location.path)", "error": "\(error)"])
        mirrors.removeAll { $0 === mirror }
        mirror.giveUp()
    }

    /// Closes all mirrors. To be called last.
    func close() {
        for mirror in mirrors { mirror.close() }
        mirrors = []
        if failure == nil { failure = .closed }
    }
}

/// Gathers how pieces of work on several threads ended, and lets one thread wait for them.
private final class Results: @unchecked Sendable {
    private let errors: Mutex<[MirrorError?]>
    private let count: Int
    private let done = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init(count: Int) {
        self.count = count
        errors = Mutex(Array(repeating: nil, count: count))
        sem_init(done, 0, 0)
    }

    deinit {
        sem_destroy(done)
        done.deallocate()
    }

    /// Runs the piece with this index; each once.
    func run(_ index: Int, _ work: () throws(MirrorError) -> Void) {
        do throws(MirrorError) {
            try work()
        } catch {
            errors.withLock { $0[index] = error }
        }
        sem_post(done)
    }

    /// Waits for all of them; nil for those that succeeded.
    func wait() -> [MirrorError?] {
        for _ in 0..<count {
            while sem_wait(done) != 0 { precondition(errno == EINTR) }
        }
        return errors.withLock { $0 }
    }
}
