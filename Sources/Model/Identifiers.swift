// The identifiers of the store. Each is a type of its own, so that a file can't be taken for a block
// group. None is ever reused: file and group ids are handed out from ranges that were reserved in a
// durable record first, so an id that a crash left behind on a disk can't come to mean something else.

/// A file, directory or other inode; NFS's `fileid3`. 1 is the root directory.
public struct FileID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// The root directory of the namespace.
    public static let root = FileID(rawValue: 1)

    public static func < (left: FileID, right: FileID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "file \(rawValue)" }
}

/// Tells a file from another that had the same id in another life of the store (a restored copy, say).
/// Part of the file handle; random at creation.
public struct FileGeneration: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// A block group: k + m internal blocks that are allocated together. As in HDFS the id is negative and
/// its low four bits are zero, since they hold the index of the internal block (so k + m ≤ 16).
public struct BlockGroupID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }

    /// The `ordinal`-th group of a store, counted from 0.
    ///
    /// HDFS (`SequentialBlockGroupIdGenerator`) starts at `Int64.min` and steps by 16.
    public init(ordinal: UInt64) {
        rawValue = Int64.min + Int64(ordinal) * Int64(Limits.maxInternalBlocks)
    }

    /// The inverse of `init(ordinal:)`.
    public var ordinal: UInt64 { UInt64(bitPattern: rawValue &- Int64.min) / UInt64(Limits.maxInternalBlocks) }

    /// The internal block with this index: 0 ..< k data, k ..< k + m parity.
    public func internalBlock(_ index: Int) -> BlockID {
        precondition(index >= 0 && index < Limits.maxInternalBlocks)
        return BlockID(rawValue: rawValue + Int64(index))
    }

    public static func < (left: BlockGroupID, right: BlockGroupID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "block group \(rawValue)" }
}

/// An internal block: one file on one volume.
public struct BlockID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }

    /// The group that this block belongs to.
    public var group: BlockGroupID { BlockGroupID(rawValue: rawValue & ~Int64(Limits.maxInternalBlocks - 1)) }
    /// The index in its group.
    public var index: Int { Int(rawValue & Int64(Limits.maxInternalBlocks - 1)) }

    public static func < (left: BlockID, right: BlockID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "blk_\(rawValue)" }
}

/// The version of a block group: goes up at each recovery, never down. HDFS starts at 1001.
public struct GenerationStamp: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// The stamp of a group that was never recovered.
    public static let first = GenerationStamp(rawValue: 1001)

    public static func < (left: GenerationStamp, right: GenerationStamp) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "\(rawValue)" }
}

/// 128 random bits that name a store or a volume, printed as 32 hexadecimal digits.
public struct UniqueID: Hashable, Sendable, CustomStringConvertible {
    public let high: UInt64
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A new one from the given source of randomness.
    public init(using generator: inout some RandomNumberGenerator) {
        high = generator.next()
        low = generator.next()
    }

    public var description: String { Self.digits(high) + Self.digits(low) }

    private static func digits(_ value: UInt64) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }
}

/// The store, given at format and the same on each of its volumes.
public struct StoreID: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UniqueID
    public init(rawValue: UniqueID) { self.rawValue = rawValue }
    public var description: String { rawValue.description }
}

/// A volume, given at format.
public struct VolumeID: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UniqueID
    public init(rawValue: UniqueID) { self.rawValue = rawValue }
    public var description: String { rawValue.description }
}

/// Counts the starts of a store and the changes of its mirror set. What carries a lower epoch is stale.
public struct Epoch: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: Epoch, right: Epoch) -> Bool { left.rawValue < right.rawValue }
    public var next: Epoch { Epoch(rawValue: rawValue + 1) }
    public var description: String { "\(rawValue)" }
}

/// The place of a metadata record in the store's one log.
public struct LogNumber: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: LogNumber, right: LogNumber) -> Bool { left.rawValue < right.rawValue }
    public var next: LogNumber { LogNumber(rawValue: rawValue + 1) }
    /// What formatting puts into the mirrors. The journal begins with the next one.
    public static let ofFormat = LogNumber(rawValue: 1)
    public var description: String { "\(rawValue)" }
}

/// The place of a WRITE, truncate or remove in its file's one order. For each byte the highest wins.
public struct WriteSequence: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let zero = WriteSequence(rawValue: 0)
    public static func < (left: WriteSequence, right: WriteSequence) -> Bool { left.rawValue < right.rawValue }
    public var next: WriteSequence { WriteSequence(rawValue: rawValue + 1) }
    public var description: String { "\(rawValue)" }
}
