// Which volumes' metadata count: the epoch and the mirror set in the superblocks.
//
// A new epoch begins at each start and whenever a mirror is lost or added, and is on N − m volumes before any
// reply depends on it. Every start sees at least N − m volumes; since k > m, N − m of N and N − m of N share at
// least one volume, so a start sees the highest epoch there ever was, and with it who was a mirror then.
//
// No two epochs have the same number: one is begun in two steps. First N − m volumes promise a number higher than
// any that they have promised; then the superblocks get that epoch. Whoever begins another one, after a crash in
// between perhaps, and without the volumes that were written, meets the promise and takes a higher number.
//
// In the second step the mirrors come first: whoever sees the new epoch on any volume must find a mirror of it.
//
// Callers take turns: the start, then the namespace thread.

internal import BlockStore
internal import Model
internal import Synchronization

/// Advances the epoch on the volumes of a store.
final class EpochKeeper: Sendable {
    private struct State {
        /// Of the current epoch.
        var superblock: Superblock
        var promised: Epoch
        /// Volumes whose mirror failed since the start.
        var lost: Set<VolumeID> = []
    }
    private let volumes: [Volume]
    /// N − m.
    private let quorum: Int
    private let state: Mutex<State>

    /// - Parameters:
    ///   - superblock: of the highest epoch.
    ///   - believed: those of its mirrors that are there and whole.
    init(volumes: [Volume], superblock: Superblock, believed: [VolumeID]) {
        self.volumes = volumes
        quorum = superblock.registeredVolumes.count - superblock.defaultPolicy.parityUnits
        var superblock = superblock
        superblock.mirrorSet = believed
        let promised = volumes.map(\.superblock.promisedEpoch).max() ?? superblock.promisedEpoch
        state = Mutex(State(superblock: superblock, promised: promised))
    }

    var epoch: Epoch { state.withLock { $0.superblock.epoch } }
    var mirrorSet: [VolumeID] { state.withLock { $0.superblock.mirrorSet } }
    /// Volumes whose mirror failed since the start: they get no other one.
    var lostMirrors: Set<VolumeID> { state.withLock { $0.lost } }

    /// Begins a new epoch with these mirrors. Blocks on the disks.
    ///
    /// A mirror whose volume can't be written any more is left out, as long as another one remains. Returns
    /// false, and the store must not go on, when none remains or too few volumes could be written.
    func advance(mirrorSet: [VolumeID], firstLogNumber: LogNumber? = nil) -> Bool {
        var mirrors = mirrorSet
        while !mirrors.isEmpty {
            switch tryAdvance(mirrors, firstLogNumber) {
            case .done: return true
            case .tooFewVolumes: return false
            case .failedMirror(let volume): mirrors.removeAll { $0 == volume }
            }
        }
        return false
    }

    private enum Outcome { case done, tooFewVolumes, failedMirror(VolumeID) }

    private func tryAdvance(_ mirrorSet: [VolumeID], _ firstLogNumber: LogNumber?) -> Outcome {
        // A number that was tried is never tried again, whatever became of it.
        var next = state.withLock { state in
            state.promised = max(state.promised, state.superblock.epoch).next
            var next = state.superblock
            next.epoch = state.promised
            next.promisedEpoch = state.promised
            return next
        }
        let promises = volumes.count { volume in
            guard volume.isHealthy else { return false }
            var superblock = volume.superblock
            superblock.promisedEpoch = next.epoch
            return (try? volume.writeSuperblock(superblock)) != nil
        }
        guard promises >= quorum else { return .tooFewVolumes }

        next.mirrorSet = mirrorSet
        if let firstLogNumber { next.firstLogNumber = firstLogNumber }
        for index in next.registeredVolumes.indices {
            let id = next.registeredVolumes[index].id
            if let volume = volumes.first(where: { $0.id == id }) {
                next.registeredVolumes[index].lastKnownPath = volume.directory
            }
        }
        var written = 0
        for volume in volumes where mirrorSet.contains(volume.id) {
            guard (try? volume.writeSuperblock(next.of(volume))) != nil else { return .failedMirror(volume.id) }
            written += 1
        }
        for volume in volumes where !mirrorSet.contains(volume.id) && volume.isHealthy {
            if (try? volume.writeSuperblock(next.of(volume))) != nil { written += 1 }
        }
        guard written >= quorum else { return .tooFewVolumes }
        state.withLock { $0.superblock = next }
        return .done
    }

    /// Mirrors were given up; a new epoch begins without them.
    func mirrorsFailed(_ failed: [VolumeID], remaining: [VolumeID]) -> Bool {
        state.withLock { $0.lost.formUnion(failed) }
        // Without a mirror there is nothing to begin: the superblocks go on naming the last ones.
        return advance(mirrorSet: remaining)
    }

    /// A mirror was added; a new epoch begins with it, unless it has failed again already.
    func mirrorAdded(_ volume: VolumeID) -> Bool {
        if lostMirrors.contains(volume) { return false }
        return advance(mirrorSet: mirrorSet + [volume])
    }

    /// A volume that can't be made a mirror is not tried again.
    func giveUpMirror(_ volume: VolumeID) { state.withLock { _ = $0.lost.insert(volume) } }
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
