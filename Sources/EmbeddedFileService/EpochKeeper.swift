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

    /// Begins a new epoch with these mirrors, or those of them whose superblock can be written. Blocks on the disks.
    ///
    /// Returns false, and the store must not go on, when no mirror or too few volumes could be written.
    func advance(mirrorSet: [VolumeID], firstLogNumber: LogNumber? = nil) -> Bool {
        var next = current.withLock { $0 }
        if let firstLogNumber { next.firstLogNumber = firstLogNumber }
        for index in next.registeredVolumes.indices {
            let id = next.registeredVolumes[index].id
            if let volume = volumes.first(where: { $0.id == id }) {
                next.registeredVolumes[index].lastKnownPath = volume.directory
            }
        }
        var mirrors = volumes.filter { mirrorSet.contains($0.id) }
        while !mirrors.isEmpty {
            next.epoch = next.epoch.next
            next.mirrorSet = mirrors.map(\.id)
            let failed = mirrors.filter { (try? $0.writeSuperblock(next.of($0))) == nil }
            guard failed.isEmpty else {
                // Some volumes may have the epoch that names them: another one begins without them.
                lost.withLock { $0.formUnion(failed.map(\.id)) }
                mirrors.removeAll { mirror in failed.contains { $0 === mirror } }
                continue
            }
            let others = volumes.filter { volume in volume.isHealthy && !mirrors.contains { $0 === volume } }
            let written = mirrors.count + others.count { (try? $0.writeSuperblock(next.of($0))) != nil }
            guard written >= quorum else { return false }
            current.withLock { $0 = next }
            return true
        }
        return false
    }
}

extension EpochKeeper {
    /// Mirrors were given up; a new epoch begins without them.
    func mirrorsFailed(_ failed: [VolumeID], remaining: [VolumeID]) -> Bool {
        lost.withLock { $0.formUnion(failed) }
        return advance(mirrorSet: remaining)
    }

    /// No mirror can be made there: it is not tried again before the next start.
    func giveUpMirror(on volume: VolumeID) { lost.withLock { _ = $0.insert(volume) } }

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
