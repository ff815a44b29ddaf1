// Which volumes' metadata count: the epoch and the mirror set in the superblocks.
//
// A new epoch begins at each start and whenever a mirror is lost or added, and is on N − m volumes before any
// reply depends on it. Every start sees at least N − m volumes; since k > m, N − m of N and N − m of N share at
// least one volume, so a start sees the highest epoch there ever was, and with it who was a mirror then.
//
// The mirrors get the new superblock first: whoever sees the new epoch on any volume must find a mirror of it.
//
// Callers take turns: the start, then the namespace thread.

internal import BlockStore
internal import Model
internal import Synchronization

/// Advances the epoch on the volumes of a store.
final class EpochKeeper: Sendable {
    private let volumes: [Volume]
    /// N − m.
    private let quorum: Int
    private let current: Mutex<Superblock>
    private let lost = Mutex<Set<VolumeID>>([])

    /// - Parameters:
    ///   - superblock: of the highest epoch.
    ///   - believed: those of its mirrors that are there and whole.
    init(volumes: [Volume], superblock: Superblock, believed: [VolumeID]) {
        self.volumes = volumes
        quorum = superblock.registeredVolumes.count - superblock.defaultPolicy.parityUnits
        var superblock = superblock
        superblock.mirrorSet = believed
        current = Mutex(superblock)
    }

    var epoch: Epoch { current.withLock { $0.epoch } }
    var mirrorSet: [VolumeID] { current.withLock { $0.mirrorSet } }

    /// Begins a new epoch with these mirrors. Blocks on the disks.
    ///
    /// Returns false, and the store must not go on, when a mirror or too many others could not be written.
    func advance(mirrorSet: [VolumeID], firstLogNumber: LogNumber? = nil) -> Bool {
        var next = current.withLock { $0 }
        next.epoch = next.epoch.next
        next.mirrorSet = mirrorSet
        if let firstLogNumber { next.firstLogNumber = firstLogNumber }
        for index in next.registeredVolumes.indices {
            let id = next.registeredVolumes[index].id
            if let volume = volumes.first(where: { $0.id == id }) {
                next.registeredVolumes[index].lastKnownPath = volume.directory
            }
        }
        let mirrors = volumes.filter { mirrorSet.contains($0.id) }
        let others = volumes.filter { !mirrorSet.contains($0.id) }
        var written = 0
        for volume in mirrors {
            guard (try? volume.writeSuperblock(next.of(volume))) != nil else { return false }
            written += 1
        }
        for volume in others where volume.isHealthy {
            if (try? volume.writeSuperblock(next.of(volume))) != nil { written += 1 }
        }
        guard written >= quorum else { return false }
        current.withLock { $0 = next }
        return true
    }
}

extension EpochKeeper {
    /// Mirrors were given up; a new epoch begins without them.
    func mirrorsFailed(_ failed: [VolumeID], remaining: [VolumeID]) -> Bool {
        lost.withLock { $0.formUnion(failed) }
        return advance(mirrorSet: remaining)
    }

    /// A mirror was added; a new epoch begins with it, unless it has failed again already.
    func mirrorAdded(_ volume: VolumeID) -> Bool {
        if lost.withLock({ $0.contains(volume) }) { return true }
        return advance(mirrorSet: mirrorSet + [volume])
    }

    /// Volumes whose mirror failed since the start: they get no other one.
    var lostMirrors: Set<VolumeID> { lost.withLock { $0 } }
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
