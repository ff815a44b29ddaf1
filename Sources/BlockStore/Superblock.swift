// The superblock of a volume: whose it is, and since when what is on it counts ("Epochs" in
// Sources/README.md). A start reads those of all volumes and believes the highest epoch.
//
// Invariant: at every moment the file `superblock` is a whole one, the old or the new: a new one is
// written and synced beside it and then renamed over it.

public import Model
public import Platform

/// The 128-bit key that file handles are signed with, as SipHash takes it.
public struct HandleKey: Hashable, Sendable {
    public let k0: UInt64
    public let k1: UInt64

    public init(k0: UInt64, k1: UInt64) {
        self.k0 = k0
        self.k1 = k1
    }

    /// A new one from the given source of randomness.
    public init(using generator: inout some RandomNumberGenerator) {
        self.init(k0: generator.next(), k1: generator.next())
    }
}

/// What a volume says about itself and its store.
public struct Superblock: Hashable, Sendable {
    /// The version of superblock and directory layout that this program reads and writes.
    public static let formatVersion: UInt32 = 2

    /// A volume that the store counts on.
    public struct RegisteredVolume: Hashable, Sendable {
        public var id: VolumeID
        public var index: Int
        /// Where it was seen last, to name it to a person when it is missing.
        public var lastKnownPath: String

        public init(id: VolumeID, index: Int, lastKnownPath: String) {
            self.id = id
            self.index = index
            self.lastKnownPath = lastKnownPath
        }
    }

    public var storeID: StoreID
    public var volumeID: VolumeID
    /// The volume's number in its store, 0 ..< `Limits.maxVolumes`.
    public var volumeIndex: Int
    /// The policy of the root directory.
    public var defaultPolicy: ErasureCodingPolicy
    /// Since when what is on this volume counts.
    public var epoch: Epoch
    /// The highest epoch that somebody has set out to begin, whether he came to it or not: at least `epoch`.
    /// No number up to this may be taken for another one.
    public var promisedEpoch: Epoch
    /// The volumes whose metadata counts in this epoch, each once, whatever is assigned.
    public var mirrorSet: [VolumeID] {
        didSet { mirrorSet = mirrorSet.withoutRepetition() }
    }
    /// Where the journal is. Its epoch is at most `epoch`: an epoch that only changes mirrors leaves it as it is.
    public var journal: JournalGeneration
    public var registeredVolumes: [RegisteredVolume]
    public var handleKey: HandleKey
    public var createdAt: Timestamp

    public init(
        storeID: StoreID, volumeID: VolumeID, volumeIndex: Int, defaultPolicy: ErasureCodingPolicy, epoch: Epoch,
        promisedEpoch: Epoch? = nil, mirrorSet: [VolumeID], journal: JournalGeneration,
        registeredVolumes: [RegisteredVolume],
        handleKey: HandleKey, createdAt: Timestamp
    ) {
        self.storeID = storeID
        self.volumeID = volumeID
        self.volumeIndex = volumeIndex
        self.defaultPolicy = defaultPolicy
        self.epoch = epoch
        self.promisedEpoch = max(epoch, promisedEpoch ?? epoch)
        self.mirrorSet = mirrorSet.withoutRepetition()
        self.journal = journal
        self.registeredVolumes = registeredVolumes
        self.handleKey = handleKey
        self.createdAt = createdAt
    }
}

/// Why a volume's superblock could not be read.
public enum SuperblockError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The directory or the file is not there: not formatted, or not mounted.
    case missing(path: String)
    case damaged(path: String, reason: String)
    /// Whole, but of a version that this program doesn't know.
    case otherFormatVersion(path: String, found: UInt32)
    case inputOutput(IOError)

    public var description: String {
        switch self {
        case .missing(let path): "\(path) is missing: the volume is not formatted or not mounted"
        case .damaged(let path, let reason): "\(path) is damaged: \(reason)"
        case .otherFormatVersion(let path, let found):
            "\(path) has format version \(found), this program reads \(Superblock.formatVersion)"
        case .inputOutput(let error): error.description
        }
    }
}

extension Superblock {
    /// Where it is in a volume.
    public static func path(volumeDirectory: String) -> String { volumeDirectory + "/superblock" }

    /// `Limits.maxVolumes` (1024) registered volumes with paths of PATH_MAX (4096) bytes are 4 MiB and a bit.
    /// What is longer is cut off, and so damaged.
    private static let maxBytes = 8 << 20

    /// Blocks on the disk, like `write`.
    public static func read(
        volumeDirectory: String, fileSystem: FileSystem
    ) throws(SuperblockError) -> Superblock {
        let path = path(volumeDirectory: volumeDirectory)
        let bytes: [UInt8]
        do throws(IOError) {
            let file = try fileSystem.open(path, .read)
            defer { file.close() }
            bytes = try file.readBytes(count: Int(min(try file.size(), UInt64(maxBytes))), at: 0)
        } catch {
            throw error.isNotFound ? .missing(path: path) : .inputOutput(error)
        }
        return try Superblock(encoded: bytes, path: path)
    }

    /// Replaces the superblock of the volume; durable on return. After an error the old one or the new
    /// one is there. Callers take turns.
    /// - Parameter reserve: lends a descriptor when there is no other.
    public func write(
        volumeDirectory: String, fileSystem: FileSystem, reserve: DescriptorReserve? = nil
    ) throws(IOError) {
        /// Never more than one file is open at a time, so that one descriptor is enough.
        func opening<Value>(_ body: () throws(IOError) -> Value) throws(IOError) -> Value {
            if let reserve { try reserve.lend(body) } else { try body() }
        }
        // What was lent is free again when this ends.
        defer { reserve?.fill() }
        let path = Self.path(volumeDirectory: volumeDirectory)
        let temporary = path + ".new"
        let file = try opening { () throws(IOError) in try fileSystem.open(temporary, .createOrOpen) }
        do {
            defer { file.close() }
            // A crash may have left one.
            try file.truncate(to: 0)
            try file.write(encoded(), at: 0)
            try file.sync()
        }
        try fileSystem.rename(temporary, to: path)
        try opening { () throws(IOError) in try fileSystem.syncDirectory(volumeDirectory) }
    }
}
