// What a file is, apart from its bytes.

/// A point in time; NFS's `nfstime3` with room beyond 2106.
public struct Timestamp: Hashable, Comparable, Sendable {
    public let seconds: Int64
    /// 0 ..< 1,000,000,000.
    public let nanoseconds: UInt32

    public init(seconds: Int64, nanoseconds: UInt32) {
        precondition(nanoseconds < 1_000_000_000)
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    public static func < (left: Timestamp, right: Timestamp) -> Bool {
        (left.seconds, left.nanoseconds) < (right.seconds, right.nanoseconds)
    }

    /// The next representable time.
    public var successor: Timestamp {
        nanoseconds == 999_999_999
            ? Timestamp(seconds: seconds + 1, nanoseconds: 0)
            : Timestamp(seconds: seconds, nanoseconds: nanoseconds + 1)
    }
}

/// The kinds of inode, with RFC 1813's `ftype3` numbers, which are also the stored ones.
public enum FileType: UInt8, Sendable {
    case regular = 1
    case directory = 2
    case blockDevice = 3
    case characterDevice = 4
    case symbolicLink = 5
    case socket = 6
    case fifo = 7

    /// Whether a `DeviceNumber` belongs to it.
    public var isDevice: Bool { self == .blockDevice || self == .characterDevice }
}

/// What a device file stands for (RFC 1813 §2.6, `specdata3`). The store only keeps it.
public struct DeviceNumber: Hashable, Sendable {
    public let major: UInt32
    public let minor: UInt32

    public init(major: UInt32, minor: UInt32) {
        self.major = major
        self.minor = minor
    }
}

/// The attributes of a file as its readers see them: size and times include what is still cached.
public struct FileAttributes: Hashable, Sendable {
    public var fileID: FileID
    public var type: FileType
    /// Permission bits with setuid, setgid and sticky: 0 … 0o7777.
    public var mode: UInt32
    public var linkCount: UInt32
    public var uid: UInt32
    public var gid: UInt32
    public var size: UInt64
    /// Bytes of file data held, without parity; holes hold nothing.
    public var usedBytes: UInt64
    /// Of block and character devices only.
    public var device: DeviceNumber?
    public var accessTime: Timestamp
    public var modificationTime: Timestamp
    public var changeTime: Timestamp

    public init(
        fileID: FileID, type: FileType, mode: UInt32, linkCount: UInt32, uid: UInt32, gid: UInt32, size: UInt64,
        usedBytes: UInt64, device: DeviceNumber? = nil, accessTime: Timestamp, modificationTime: Timestamp,
        changeTime: Timestamp
    ) {
        self.fileID = fileID
        self.type = type
        self.mode = mode
        self.linkCount = linkCount
        self.uid = uid
        self.gid = gid
        self.size = size
        self.usedBytes = usedBytes
        self.device = device
        self.accessTime = accessTime
        self.modificationTime = modificationTime
        self.changeTime = changeTime
    }
}

/// Who calls: user, group and supplementary groups, from AUTH_SYS (RFC 5531 §14).
public struct Credentials: Hashable, Sendable {
    public let uid: UInt32
    public let gid: UInt32
    public let groups: [UInt32]

    public init(uid: UInt32, gid: UInt32, groups: [UInt32]) {
        self.uid = uid
        self.gid = gid
        self.groups = groups
    }

    /// The user of calls without credentials (AUTH_NONE): nobody.
    public static let anonymous = Credentials(uid: 65534, gid: 65534, groups: [])

    public var isSuperuser: Bool { uid == 0 }
    public func isMember(of group: UInt32) -> Bool { gid == group || groups.contains(group) }
}
