// When a volume may get a copy of the metadata again after one of it failed. A pure state, without clock or disks.
//
// A volume that had no room, or one error, is not barred for ever: it is tried again, later each time. All others come
// first. And since bodies wait while a copy is made, failures one after the other, on whatever volumes, make a pause that
// grows, too: what fails everywhere may be wrong with the source.

internal import Model

/// The failures of mirrors and of copies, by volume.
struct MirrorRetries: Sendable {
    private struct Failures {
        var count = 0
        var nextTry = Duration.zero
    }
    private var failures: [VolumeID: Failures] = [:]
    /// What failed since something succeeded.
    private var failuresInARow = 0
    private var nextCopy = Duration.zero
    /// The mirrors as they were seen last.
    private var mirrors: Set<VolumeID>

    /// A disk that is cleaned up, or a server that is switched on again, takes minutes.
    static let firstDelay = Duration.seconds(60)
    static let longestDelay = Duration.seconds(3600)
    static let longestPause = Duration.seconds(60)

    /// - Parameter mirrors: the volumes that have one now.
    init(mirrors: [VolumeID]) { self.mirrors = Set(mirrors) }

    /// Takes note of the mirrors there are: who isn't among them any more has lost its own.
    mutating func see(mirrors now: [VolumeID], at time: Duration) {
        let seen = Set(now)
        for volume in mirrors.subtracting(seen) { postpone(volume, time) }
        mirrors = seen
    }

    /// The volume to try next: of `candidates`, in their order, first one that never failed, then the one that failed
    /// least often and whose time has come. nil: none for now.
    func next(of candidates: [VolumeID], at time: Duration) -> VolumeID? {
        guard !isPaused(at: time) else { return nil }
        let ready = candidates.filter { time >= failures[$0]?.nextTry ?? .zero }
        // The first of several with the same count.
        return ready.min { (failures[$0]?.count ?? 0) < (failures[$1]?.count ?? 0) }
    }

    /// Whether nothing is to be tried now.
    func isPaused(at time: Duration) -> Bool { time < nextCopy }

    /// A copy to the volume failed.
    mutating func failed(_ volume: VolumeID, at time: Duration) {
        postpone(volume, time)
        mirrors.remove(volume)
        failed(at: time)
    }

    /// Something failed that is no volume's fault.
    mutating func failed(at time: Duration) {
        failuresInARow += 1
        nextCopy = time + min(Self.longestPause, .seconds(1) * (1 << min(failuresInARow - 1, 16)))
    }

    /// The volume has a mirror. What failed before still counts when this one fails: it may be the disk.
    mutating func succeeded(_ volume: VolumeID) {
        mirrors.insert(volume)
        failuresInARow = 0
        nextCopy = .zero
    }

    private mutating func postpone(_ volume: VolumeID, _ time: Duration) {
        var failures = failures[volume] ?? Failures()
        failures.nextTry = time + min(Self.longestDelay, Self.firstDelay * (1 << min(failures.count, 16)))
        failures.count += 1
        self.failures[volume] = failures
    }
}
