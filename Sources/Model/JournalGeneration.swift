// Which volumes hold the intent journal, since when ("Epochs" in Sources/README.md).

/// What the superblocks say of the journal. A new generation begins at each start, and when a replica is lost.
public struct JournalGeneration: Hashable, Sendable {
    /// In which this set of replicas was begun; the store's epoch may be later.
    public var epoch: Epoch
    /// The volumes with a replica of everything that was answered in this generation, each once, whatever is assigned.
    /// Empty: nothing ever was, the store is new.
    public var volumes: [VolumeID] {
        didSet { volumes = volumes.withoutRepetition() }
    }
    /// Entries at or beyond this number that carry an older epoch are void.
    public var firstNumber: LogNumber

    public init(epoch: Epoch, volumes: [VolumeID], firstNumber: LogNumber) {
        self.epoch = epoch
        self.volumes = volumes.withoutRepetition()
        self.firstNumber = firstNumber
    }
}

extension [VolumeID] {
    /// Each once, at its first place.
    public func withoutRepetition() -> [VolumeID] {
        var seen: Set<VolumeID> = []
        return filter { seen.insert($0).inserted }
    }
}
