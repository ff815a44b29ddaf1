// Every fixed limit in one place, with the relations between them.

/// The store's and the protocol's fixed limits.
public enum Limits {
    /// k + m: HDFS keeps the index of an internal block in four bits of its id.
    public static let maxInternalBlocks = 16

    /// Cells are whole pages, so that full cells can be written and synced page by page.
    public static let minCellSizeBytes = 4096
    /// A stripe of RS-10-4 is then 160 MiB with parity, the most a write-back worker should hold.
    public static let maxCellSizeBytes = 16 << 20

    /// HDFS's default block size.
    public static let maxInternalBlockBytes = 128 << 20

    /// Bytes covered by one CRC32C of a checksum file; HDFS's `dfs.bytes-per-checksum`.
    public static let bytesPerChecksum = 512

    /// The longest name of a directory entry; Linux's NAME_MAX, and what PATHCONF answers.
    public static let maxNameBytes = 255

    /// The most names in the path of a directory, from the root of the store. Linux's PATH_MAX of 4096 bytes, the NUL
    /// included, has room for 2048 names with "/" between them: no path that a program can give leads deeper. Who moves
    /// or makes a directory, or asks for its "..", waits for a walk of at most so many steps.
    public static let maxDirectoryDepth = 2048

    /// The longest target of a symbolic link: Linux's PATH_MAX, beyond which no client could follow it.
    public static let maxLinkTargetBytes = 4096

    /// The most bytes of a WRITE or READ, as FSINFO answers. Linux clients use at most 1 MiB.
    public static let maxTransferBytes = 1 << 20

    /// The longest RPC record: the largest WRITE and its headers (RPC header with two authenticators of
    /// 400 bytes, handle, arguments), rounded up.
    public static let maxRecordBytes = maxTransferBytes + (8 << 10)

    /// The highest offset of a file plus one, so that offset + count never overflows and SQLite's signed
    /// integers hold it.
    public static let maxFileBytes: UInt64 = 1 << 62

    /// The most volumes of a store.
    public static let maxVolumes = 1024

    /// The most names of a file, and one less than the most subdirectories of a directory: what PATHCONF answers.
    /// Far below where the count would wrap, and what programs know from ext3.
    public static let maxLinks: UInt32 = 32_000
}
