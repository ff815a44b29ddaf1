// The mirrors of an open namespace. Bodies read from any one that is free; the applier brings all of them forward. A
// mirror is taken before it is used and given back afterwards, so that no reader waits for one that a batch is applied
// to while another one is free.
//
// Invariants:
// * No volume has two of them.
// * A mirror that failed is never used again. The applier's thread closes it and tells of it, before it goes on: so
//   `onMirrorFailure` has said yes before the log hears that it need not keep what the failed mirror lacks.
// * Members are added on the applier's thread only, and told of there only.
// * One that takes too long for a batch has failed, too: what hangs with it is its own thread, which closes it when it comes
//   back. Nobody waits for that: the journal keeps what isn't on all mirrors.
//
// Lock order: `members` and `pending` are leaves.

internal import Logging
internal import Model
internal import Platform

final class MirrorSet: Sendable {
    private struct Condemned {
        let mirror: Mirror
        let error: MirrorError
        /// It hangs: its own thread closes it.
        var isAbandoned = false
    }

    private struct Members {
        var mirrors: [Mirror]
        /// Taken by somebody.
        var taken: Set<ObjectIdentifier> = []
        /// No members any more, and not told of yet.
        var condemned: [Condemned] = []
        var isClosed = false
    }

    private let members: Monitor<Members>
    /// Of the batch that is being applied, the mirrors that have not ended it.
    private let pending = Monitor<Set<ObjectIdentifier>>([])
    private let clock: SystemClock
    /// For a batch on a mirror.
    private let patience: Duration
    private let applying: WorkThread
    private let failure: FailureLatch
    private let onMirrorFailure: @Sendable (_ failed: [VolumeID], _ remaining: [VolumeID]) -> Bool
    private let logger: Logger

    /// - Parameters:
    ///   - mirrors: at least one, of different volumes.
    ///   - applying: the applier's thread.
    ///   - patience: for a batch on a mirror; `tick` must be called for it to end.
    init(
        _ mirrors: [Mirror], applying: WorkThread, failure: FailureLatch, clock: SystemClock, patience: Duration,
        logger: Logger,
        onMirrorFailure: @escaping @Sendable (_ failed: [VolumeID], _ remaining: [VolumeID]) -> Bool
    ) {
        precondition(!mirrors.isEmpty && Set(mirrors.map(\.location.volume)).count == mirrors.count)
        members = Monitor(Members(mirrors: mirrors))
        self.applying = applying
        self.failure = failure
        self.clock = clock
        self.patience = patience
        self.logger = logger
        self.onMirrorFailure = onMirrorFailure
    }

    /// Time has passed.
    func tick() { pending.withLock { _ in } }

    var volumes: [VolumeID] { members.withLock { $0.mirrors.map(\.location.volume) } }

    // MARK: Taking and giving back

    /// Waits for the mirror; false when it is no member any more.
    private func take(_ mirror: Mirror) -> Bool {
        members.wait { members in
            guard members.mirrors.contains(where: { $0 === mirror }) else { return false }
            return members.taken.insert(ObjectIdentifier(mirror)).inserted ? true : nil
        }
    }

    /// The first that is free; waits when none is, of those that may be. nil when there is none of them.
    private func takeAny(but excluded: [Mirror]) -> Mirror? {
        members.wait { members in
            let candidates = members.mirrors.filter { mirror in !excluded.contains { $0 === mirror } }
            guard !candidates.isEmpty else { return .some(nil) }
            for mirror in candidates where members.taken.insert(ObjectIdentifier(mirror)).inserted { return mirror }
            return nil
        }
    }

    private func giveBack(_ mirror: Mirror) {
        members.withLock { _ = $0.taken.remove(ObjectIdentifier(mirror)) }
    }

    // MARK: Reading

    /// Reads from a mirror. One that fails is given up; one with a damaged row only if another one has it whole.
    func read<Value>(_ read: (Mirror) throws(MirrorError) -> Value) throws(NamespaceError) -> Value {
        var damaged: [(mirror: Mirror, error: MirrorError)] = []
        while true {
            if let error = failure.error { throw error }
            guard let mirror = takeAny(but: damaged.map(\.mirror)) else {
                if let (_, error) = damaged.first { throw .damaged("\(error)") }
                throw failure.error ?? .closed
            }
            do throws(MirrorError) {
                let value = try read(mirror)
                giveBack(mirror)
                condemn(damaged)
                return value
            } catch {
                if case .damagedRow = error {
                    giveBack(mirror)
                    damaged.append((mirror, error))
                } else {
                    condemn([(mirror, error)])
                    giveBack(mirror)
                }
            }
        }
    }

    /// Makes mirrors members no more; without any the namespace has failed. Those who use one finish.
    private func condemn(_ failed: [(mirror: Mirror, error: MirrorError)]) {
        guard !failed.isEmpty else { return }
        let isEmpty = members.withLock { members in
            for (mirror, error) in failed where members.mirrors.contains(where: { $0 === mirror }) {
                members.mirrors.removeAll { $0 === mirror }
                members.condemned.append(Condemned(mirror: mirror, error: error))
            }
            return members.mirrors.isEmpty
        }
        for (mirror, error) in failed {
            logger.error(
                "a metadata mirror has failed", metadata: ["path": "\(mirror.location.path)", "error": "\(error)"])
        }
        if isEmpty { failure.fail(Self.failure(because: failed.map { Condemned(mirror: $0.mirror, error: $0.error) })) }
        applying.submit { [self] in
            // What it throws is kept by the latch.
            try? tellFailures()
        }
    }

    private static func failure(because failed: [Condemned]) -> NamespaceError {
        .failed(failed.map { "\($0.mirror.location.path): \($0.error)" }.joined(separator: "; "))
    }

    // MARK: On the applier's thread

    /// Tells of the mirrors that have failed. Throws when the namespace has failed, by that perhaps.
    func tellFailures() throws(NamespaceError) {
        while true {
            let (failed, remaining) = members.withLock { members in
                defer { members.condemned = [] }
                return (members.condemned, members.mirrors.map(\.location.volume))
            }
            guard !failed.isEmpty else { break }
            // A reader that had taken one has condemned it itself, or gives it back.
            for each in failed where !each.isAbandoned { close(each.mirror, properly: false) }
            // With no mirror left there is nothing to write down: who were the last ones must stay known.
            guard !remaining.isEmpty, onMirrorFailure(failed.map(\.mirror.location.volume), remaining) else {
                throw failure.fail(Self.failure(because: failed))
            }
        }
        if let error = failure.error { throw error }
    }

    /// The lowest and the highest of the mirrors; nil when there is none.
    var positions: (low: LogNumber, high: LogNumber)? {
        let applied = members.withLock { $0.mirrors }.map(\.applied)
        guard let low = applied.min(), let high = applied.max() else { return nil }
        return (low, high)
    }

    /// Brings the mirrors that lack something up to a record, durably, each in one transaction. They need not be level at
    /// the start: one that has some of the changes gets them once more, which makes no difference.
    ///
    /// - Parameter sparesReaders: leaves one mirror to readers until the others are done.
    func apply(_ mutations: [Mutation], upTo number: LogNumber, sparesReaders: Bool) throws(NamespaceError) {
        let behind = members.withLock { $0.mirrors }.filter { $0.applied < number }
        let turns =
            sparesReaders && behind.count > 1 ? [Array(behind.dropFirst()), Array(behind.prefix(1))] : [behind]
        for mirrors in turns {
            let since = clock.elapsed()
            pending.withLock { $0 = Set(mirrors.map(ObjectIdentifier.init)) }
            for mirror in mirrors {
                mirror.thread.submit { [self] in
                    apply(mutations, upTo: number, to: mirror)
                    let isAwaited = pending.withLock { $0.remove(ObjectIdentifier(mirror)) != nil }
                    if isAwaited { return }
                    waitUntilFree(mirror)
                    mirror.giveUpOnItsThread()
                }
            }
            let (clock, patience) = (clock, patience)
            let hanging = pending.wait { pending in
                pending.isEmpty || clock.elapsed() - since > patience ? pending : nil
            }
            for mirror in mirrors where hanging.contains(ObjectIdentifier(mirror)) { abandon(mirror) }
        }
        try tellFailures()
    }

    /// The mirror hangs.
    private func abandon(_ mirror: Mirror) {
        // Unless it came to its end just now. From here on its thread closes it when it does.
        guard pending.withLock({ $0.remove(ObjectIdentifier(mirror)) != nil }) else { return }
        condemn([(mirror, .notAMirror("it hangs"))])
        members.withLock { members in
            for index in members.condemned.indices where members.condemned[index].mirror === mirror {
                members.condemned[index].isAbandoned = true
            }
        }
    }

    private func apply(_ mutations: [Mutation], upTo number: LogNumber, to mirror: Mirror) {
        guard take(mirror) else { return }
        do throws(MirrorError) {
            try mirror.begin()
            for mutation in mutations { try mirror.apply(mutation) }
            try mirror.commit(upTo: number)
            mirror.applied = number
            if mirror.needsCheckpoint { try mirror.checkpoint() }
        } catch {
            condemn([(mirror, error)])
        }
        giveBack(mirror)
    }

    /// Builds and opens a mirror with the content of the first member that is whole. Only between batches, when all
    /// members are level.
    func copy(to location: MirrorLocation, _ fileSystem: FileSystem) throws(NamespaceError) -> Mirror {
        try tellFailures()
        var reasons: [String] = []
        for source in members.withLock({ $0.mirrors }) where take(source) {
            var isTaken = true
            defer { if isTaken { giveBack(source) } }
            do throws(MirrorError) {
                try Mirror.build(at: location, fileSystem, copying: source.connection) { () throws(MirrorError) in
                    giveBack(source)
                    isTaken = take(source)
                    if !isTaken { throw .notAMirror("it failed while it was copied") }
                }
                let mirror = try Mirror(location, fileSystem)
                mirror.applied = source.applied
                return mirror
            } catch {
                reasons.append("\(location.path), from \(source.location.path): \(error)")
                // Another source wouldn't make the target's disk better.
                if case .sqlite = error { break }
            }
        }
        throw .inputOutput(reasons.joined(separator: "; "))
    }

    /// Adds a mirror that is level with the others. It becomes one when `record` has said so where the next start looks;
    /// otherwise it is given up again, as one that failed.
    func add(_ mirror: Mirror, record: (_ mirrors: [VolumeID]) -> Bool) throws(NamespaceError) {
        do throws(NamespaceError) {
            try tellFailures()
        } catch {
            close(mirror, properly: false)
            throw error
        }
        members.withLock { $0.mirrors.append(mirror) }
        if record(volumes) { return try tellFailures() }
        let reason = MirrorError.notAMirror("it could not be recorded as a mirror")
        // Its name may be in superblocks by now: an epoch that was begun by half.
        condemn([(mirror, reason)])
        try tellFailures()
        throw .inputOutput("\(mirror.location.path): \(reason)")
    }

    /// Gives up the mirror on a volume, if there is one.
    func giveUp(_ volume: VolumeID, because reason: String) throws(NamespaceError) {
        if let mirror = members.withLock({ $0.mirrors.first { $0.location.volume == volume } }) {
            condemn([(mirror, .notAMirror(reason))])
        }
        try tellFailures()
    }

    /// Closes all mirrors, without touching their files any more unless `properly`. Later reads throw `closed`.
    func close(properly: Bool) {
        let all = members.withLock { members in
            defer {
                members.mirrors = []
                members.condemned = []
            }
            return members.mirrors.map { ($0, properly) }
                + members.condemned.filter { !$0.isAbandoned }.map { ($0.mirror, false) }
        }
        for (mirror, properly) in all { close(mirror, properly: properly) }
    }

    /// Closes one that is no member, when the last who uses it is done.
    private func close(_ mirror: Mirror, properly: Bool) {
        waitUntilFree(mirror)
        if properly { mirror.close() } else { mirror.giveUp() }
    }

    /// Waits until it is no member, and for the last who uses it.
    private func waitUntilFree(_ mirror: Mirror) {
        let id = ObjectIdentifier(mirror)
        members.wait { members in
            members.taken.contains(id) || members.mirrors.contains { $0 === mirror } ? nil : ()
        }
    }
}
