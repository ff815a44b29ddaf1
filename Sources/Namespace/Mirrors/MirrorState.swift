// Where mirrors are and what can be said of one that isn't open.

public import Model

/// A place of a mirror: the file `namespace.sqlite` in a directory of a volume.
public struct MirrorLocation: Hashable, Sendable {
    public let volume: VolumeID
    public let directory: String

    public init(volume: VolumeID, directory: String) {
        self.volume = volume
        self.directory = directory
    }

    var path: String { directory + "/namespace.sqlite" }
    /// A mirror in the making.
    var temporaryPath: String { path + ".new" }
}

/// How far a mirror is. Of one store's mirrors the greater position knows more: compared by epoch first,
/// since a start that missed a mirror may have given its log numbers to other records.
public struct MirrorPosition: Hashable, Comparable, Sendable {
    public let storeID: StoreID
    public let epoch: Epoch
    public let logNumber: LogNumber

    public init(storeID: StoreID, epoch: Epoch, logNumber: LogNumber) {
        self.storeID = storeID
        self.epoch = epoch
        self.logNumber = logNumber
    }

    public static func < (left: MirrorPosition, right: MirrorPosition) -> Bool {
        (left.epoch, left.logNumber) < (right.epoch, right.logNumber)
    }
}

/// What `Namespace.inspect` found.
public enum MirrorState: Hashable, Sendable {
    /// There is no mirror.
    case missing
    /// It is unusable, for this reason. The position as far as it could be read.
    case damaged(String, MirrorPosition?)
    /// Every row's checksum and SQLite's own check are right.
    case verified(MirrorPosition)
}
