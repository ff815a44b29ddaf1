// What an operator is told about a store: by `sluice status`, of a store that is served and of one that isn't.

/// The state of a store at one moment.
public struct StoreStatus: Codable, Sendable, Equatable {
    /// How far the store is from losing data.
    public enum Health: String, Codable, Sendable {
        /// Everything has its full redundancy.
        case green
        /// Everything can be read, something has less redundancy than its policy says.
        case yellow
        /// Something cannot be read.
        case red
    }

    /// One volume.
    public struct Volume: Codable, Sendable, Equatable {
        public var index: Int
        public var id: String
        public var path: String
        /// "healthy", or why it is not.
        public var state: String
        public var isHealthy: Bool
        public var holdsMetadata: Bool
        public var totalBytes: UInt64
        public var availableBytes: UInt64
    }

    /// Counts since the gateway started; all zero for a store that is not served.
    public struct Counters: Codable, Sendable, Equatable {
        /// Stripes in which at least one cell had to be computed from others for a reader.
        public var decodedStripes: UInt64 = 0
        public var decodedCells: UInt64 = 0
        /// Reads of a block that found it missing, short, corrupt or unreadable.
        public var failedBlockReads: UInt64 = 0
        public var writeBackErrors: UInt64 = 0
        public var verifierChanges: UInt64 = 0
        /// Groups that were written again because a target failed.
        public var rewrittenGroups: UInt64 = 0
        /// WRITEs that had to wait for memory, and those that were told to come again later (NFS3ERR_JUKEBOX).
        public var stalledWrites: UInt64 = 0
        public var refusedWrites: UInt64 = 0
        public var pendingBytes: UInt64 = 0
        public var openFiles: UInt64 = 0
        /// Pending bytes that were moved out of memory, and how often that was not possible; they were drained out of
        /// order then.
        public var dumpedBytes: UInt64 = 0
        public var failedDumps: UInt64 = 0
        /// How often some of them could not be read back.
        public var failedDumpReads: UInt64 = 0
    }

    /// Where pending bytes wait that memory has no room for.
    public struct Dump: Codable, Sendable, Equatable {
        /// "ready", or why nothing is dumped now and pending bytes are drained out of order instead.
        public var state: String
        /// Its files, and what they take on the disk.
        public var segments: Int
        public var bytes: UInt64
    }

    /// The intent journal of a store that is served.
    public struct Journal: Codable, Sendable, Equatable {
        /// Live ones, and what they take on each disk that has them; at half of the capacity their files are settled.
        public var segments: Int
        public var bytes: UInt64
        public var capacityBytes: UInt64
        /// The volumes that it is written to, by index.
        public var replicas: [Int]
        /// Older ones that are still being copied, since a volume failed.
        public var segmentsShortOfReplicas: Int
    }

    public var isServed: Bool
    public var storeID: String
    public var epoch: UInt64
    public var policy: String
    public var health: Health
    /// Why health isn't green, one line each; empty when it is.
    public var reasons: [String]
    public var volumes: [Volume]
    /// Files, directories not counted.
    public var files: UInt64
    public var directories: UInt64
    /// Live bytes of files, without parity.
    public var bytes: UInt64
    public var blockGroups: UInt64
    /// Groups with fewer intact blocks than they should have.
    public var degradedBlockGroups: UInt64
    /// Groups that cannot be read as a whole.
    public var unreadableBlockGroups: UInt64
    public var counters: Counters
    public var journal: Journal?
    /// Of a store that is served.
    public var dump: Dump?
}
