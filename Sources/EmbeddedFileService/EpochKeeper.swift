// Which volumes' metadata and journal count: the epoch, the mirror set and the journal's generation in the superblocks.
//
// A new epoch begins at each start, whenever a mirror is lost or added and whenever a replica of the journal is lost, and is
// on N − m volumes before any reply depends on it. Every start sees at least N − m volumes; since k > m, N − m of N and N − m of N share at
// least one volume, so a start sees the highest epoch there ever was, and with it who was a mirror then.
//
// No two epochs have the same number: one is begun in two steps. First N − m volumes promise a number higher than
// any that they have promised; then the superblocks get that epoch. Whoever begins another one, after a crash in
// between perhaps, and without the volumes that were written, meets the promise and takes a higher number.
//
// In the second step the mirrors come first: whoever sees the new epoch on any volume must find a mirror of it. The same goes
// for the replicas of a journal's generation: N − m volumes have it before the first segment is made.
//
// An epoch names each mirror once, and only mirrors that are level with the namespace: which those are, the namespace
// says. It may know more of them than are recorded, after a lack of descriptors say; never are more recorded than it
// has, once an answer was given. What superblocks may name since an epoch was begun by half is in `named`.
//
// The journal's thread begins generations, the mirrors' thread changes mirrors: they take turns, by `turn`, which is held while
// superblocks are written. These are written all at once, each on a thread of its own, and a volume that takes too long for
// its own has failed: nothing is answered meanwhile, so a second disk that hangs must not stop what the first one has begun.
// If it comes to an end after all, that volume has the superblock of an epoch that it was to have.
//
// Lock order: `turn`, then `state` or `writing`.

internal import BlockStore
internal import Glibc
internal import Model
internal import Platform
internal import Synchronization

/// Advances the epoch on the volumes of a store.
final class EpochKeeper: Sendable {
    private struct State {
        /// Of the current epoch.
        var superblock: Superblock
        var promised: Epoch
        /// The mirrors of the current epoch, and of those that were begun after it and didn't come about.
        var named: Set<VolumeID>
    }
    /// How far some superblocks are.
    private struct Writing {
        var pending: Set<VolumeID>
        var written: Set<VolumeID> = []
    }
    private let volumes: [Volume]
    /// N − m.
    private let quorum: Int
    private let clock: SystemClock
    /// For one superblock: a few small writes and syncs.
    private let patience: Duration
    private let state: Mutex<State>
    /// The superblocks that are being written.
    private let writing = Mutex<Monitor<Writing>?>(nil)
    /// Whether somebody has it. No lock, as disks are waited for with it.
    private let turn = Monitor(false)
    /// A superblock that can't be written for want of a descriptor would stop the store.
    private let reserve: DescriptorReserve

    /// - Parameters:
    ///   - superblock: of the highest epoch.
    ///   - believed: those of its mirrors that are there and whole.
    ///   - patience: for the volumes; `tick` must be called for it to end.
    init(
        volumes: [Volume], superblock: Superblock, believed: [VolumeID], fileSystem: FileSystem, clock: SystemClock,
        patience: Duration
    ) {
        self.volumes = volumes
        self.clock = clock
        self.patience = patience
        quorum = superblock.registeredVolumes.count - superblock.defaultPolicy.parityUnits
        let named = Set(superblock.mirrorSet).union(believed)
        var superblock = superblock
        superblock.mirrorSet = believed
        let promised = volumes.map(\.superblock.promisedEpoch).max() ?? superblock.promisedEpoch
        state = Mutex(State(superblock: superblock, promised: promised, named: named))
        reserve = DescriptorReserve(
            paths: volumes.map { Superblock.path(volumeDirectory: $0.directory) }, fileSystem: fileSystem)
    }

    var epoch: Epoch { state.withLock { $0.superblock.epoch } }
    /// The mirrors that are recorded in the current epoch.
    var mirrorSet: [VolumeID] { state.withLock { $0.superblock.mirrorSet } }
    /// The journal as it is recorded.
    var journal: JournalGeneration { state.withLock { $0.superblock.journal } }

    /// Whether enough volumes take writes for a new epoch, as far as is known.
    var canAdvance: Bool { volumes.count { $0.isHealthy } >= quorum }

    /// Lets go of the descriptor that is kept for superblocks. To be called last.
    func close() { reserve.release() }

    /// Begins a new epoch with these mirrors. Blocks on the disks.
    ///
    /// A mirror whose volume can't be written is left out, as long as another one remains. Returns false, and the store
    /// must not go on, when none remains or too few volumes could be written.
    ///
    /// - Parameter journal: where the journal is from now on, beginning in this epoch; nil: where it was.
    func advance(mirrorSet: [VolumeID], journal: NewJournal? = nil) -> Bool {
        inTurn { advanceInTurn(mirrorSet: mirrorSet, journal: journal) }
    }

    private func inTurn<Value>(_ body: () -> Value) -> Value {
        turn.wait { isTaken -> Void? in
            guard !isTaken else { return nil }
            isTaken = true
            return ()
        }
        defer { turn.withLock { $0 = false } }
        return body()
    }

    /// A generation of the journal whose epoch is not known yet.
    struct NewJournal {
        let volumes: [VolumeID]
        let firstNumber: LogNumber
    }

    /// Begins a new epoch with the mirrors there are and a new generation of the journal, which is returned; nil when it
    /// could not be written, and the journal must not go on. Blocks on the disks.
    func beginGeneration(volumes: [VolumeID], firstNumber: LogNumber) -> JournalGeneration? {
        inTurn {
            let mirrors = mirrorSet
            // A mirror that can't be written is left out by this, which costs nothing: it lacks nothing that the journal
            // doesn't have.
            guard advanceInTurn(mirrorSet: mirrors, journal: NewJournal(volumes: volumes, firstNumber: firstNumber))
            else { return nil }
            return journal
        }
    }

    private func advanceInTurn(mirrorSet: [VolumeID], journal: NewJournal?) -> Bool {
        // In time, for all that open files want it to.
        reserve.fill()
        var seen: Set<VolumeID> = []
        var mirrors = mirrorSet.filter { id in volumes.contains { $0.id == id } && seen.insert(id).inserted }
        while !mirrors.isEmpty {
            switch tryAdvance(mirrors, journal) {
            case .done: return true
            case .tooFewVolumes: return false
            case .mirrorsLeft(let left): mirrors = left
            }
        }
        return false
    }

    private enum Outcome {
        case done, tooFewVolumes
        /// Others could not be written.
        case mirrorsLeft([VolumeID])
    }

    private func tryAdvance(_ mirrorSet: [VolumeID], _ journal: NewJournal?) -> Outcome {
        // A number that was tried is never tried again, whatever became of it.
        var next = state.withLock { state in
            state.promised = max(state.promised, state.superblock.epoch).next
            var next = state.superblock
            next.epoch = state.promised
            next.promisedEpoch = state.promised
            return next
        }
        let promises = write(
            volumes.filter(\.isHealthy).map { volume in
                var superblock = volume.superblock
                superblock.promisedEpoch = next.epoch
                return (volume, superblock)
            })
        guard promises.count >= quorum else { return .tooFewVolumes }

        next.mirrorSet = mirrorSet
        if let journal {
            next.journal = JournalGeneration(
                epoch: next.epoch, volumes: journal.volumes, firstNumber: journal.firstNumber)
        }
        for index in next.registeredVolumes.indices {
            let id = next.registeredVolumes[index].id
            if let volume = volumes.first(where: { $0.id == id }) {
                next.registeredVolumes[index].lastKnownPath = volume.directory
            }
        }
        state.withLock { $0.named.formUnion(mirrorSet) }
        let (mirrors, others) = (
            volumes.filter { mirrorSet.contains($0.id) }, volumes.filter { !mirrorSet.contains($0.id) && $0.isHealthy }
        )
        let recorded = write(mirrors.map { ($0, next.of($0)) })
        guard recorded.count == mirrors.count else { return .mirrorsLeft(mirrorSet.filter(recorded.contains)) }
        let written = write(others.map { ($0, next.of($0)) }).union(recorded)
        guard written.count >= quorum else { return .tooFewVolumes }
        state.withLock { state in
            state.superblock = next
            state.named = Set(mirrorSet)
        }
        return .done
    }

    /// Writes superblocks and returns the volumes that have theirs. Those that take too long have failed.
    private func write(_ superblocks: [(volume: Volume, superblock: Superblock)]) -> Set<VolumeID> {
        let since = clock.elapsed()
        let progress = Monitor(Writing(pending: Set(superblocks.map(\.volume.id))))
        writing.withLock { $0 = progress }
        let threads = superblocks.map { volume, superblock in
            let thread = WorkThread(name: "superblock-\(volume.index)")
            thread.submit {
                let isWritten = (try? volume.writeSuperblock(superblock)) != nil
                progress.withLock { progress in
                    progress.pending.remove(volume.id)
                    if isWritten { progress.written.insert(volume.id) }
                }
            }
            return thread
        }
        let (clock, patience) = (clock, patience)
        var end = progress.wait { progress -> Writing? in
            progress.pending.isEmpty || clock.elapsed() - since > patience ? progress : nil
        }
        writing.withLock { $0 = nil }
        for ((volume, superblock), thread) in zip(superblocks, threads) {
            if end.pending.contains(volume.id) {
                thread.abandon()
                volume.fail(
                    .inputOutput(
                        IOError(code: ETIMEDOUT, operation: "write of the superblock", path: volume.directory)))
                continue
            }
            thread.stop()
            // One that failed for want of a descriptor; only one at a time can borrow one.
            if !end.written.contains(volume.id), volume.isHealthy,
                (try? volume.writeSuperblock(superblock, reserve: reserve)) != nil
            {
                end.written.insert(volume.id)
            }
        }
        return end.written
    }

    /// Time has passed.
    func tick() {
        let progress = writing.withLock { $0 }
        progress?.withLock { _ in }
    }

    /// Mirrors were given up; a new epoch begins without them, if any superblock may name them. Returns whether the
    /// store may go on: with a mirror that is recorded.
    func mirrorsFailed(_ failed: [VolumeID], remaining: [VolumeID]) -> Bool {
        // Without a mirror there is nothing to begin: the superblocks go on naming the last ones.
        let mustAdvance = state.withLock { state in
            failed.contains(where: state.named.contains)
                || !remaining.contains(where: state.superblock.mirrorSet.contains)
        }
        return mustAdvance ? advance(mirrorSet: remaining) : true
    }

    /// Begins a new epoch with all the mirrors that the namespace has, and returns whether `volume` is recorded as one
    /// of them. If not, it must be given up, which `mirrorsFailed` takes note of.
    func mirrorAdded(_ volume: VolumeID, mirrors: [VolumeID]) -> Bool {
        guard mirrors.contains(volume), advance(mirrorSet: mirrors) else { return false }
        return mirrorSet.contains(volume)
    }

    /// Records mirrors that the namespace has and the current epoch lacks, since their superblocks could not be
    /// written for a while. Returns whether all whose volumes are healthy are recorded. If not nothing is lost: they are
    /// level, whoever names them.
    func recordAll(of mirrors: [VolumeID]) -> Bool {
        func isComplete() -> Bool {
            let recorded = mirrorSet
            return volumes.allSatisfy { !$0.isHealthy || !mirrors.contains($0.id) || recorded.contains($0.id) }
        }
        return isComplete() || advance(mirrorSet: mirrors) && isComplete()
    }
}

extension Superblock {
    /// The same for another volume of the store.
    func of(_ volume: Volume) -> Superblock {
        var copy = self
        copy.volumeID = volume.id
        copy.volumeIndex = volume.index
        return copy
    }
}
