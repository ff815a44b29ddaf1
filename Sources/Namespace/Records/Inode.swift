// The inode: all that is stored of a file but its names, bytes and extents.

public import Model

/// A file, directory or other thing with an id.
public struct Inode: Hashable, Sendable {
    public var id: FileID
    public var generation: FileGeneration
    public var type: FileType
    /// Permission bits with setuid, setgid and sticky: 0 … 0o7777.
    public var mode: UInt32
    public var linkCount: UInt32
    public var uid: UInt32
    public var gid: UInt32
    public var size: UInt64
    /// Bytes of file data held, without parity.
    public var usedBytes: UInt64
    public var accessTime: Timestamp
    public var modificationTime: Timestamp
    public var changeTime: Timestamp
    /// Directories: the directory that ".." means; the root's is itself.
    public var parent: FileID?
    /// Directories: the cookie of the next entry. Never goes down, so that a cookie always means the same
    /// place in a listing. 1 is ".", 2 is "..".
    public var nextCookie: UInt64
    /// Directories: names in it, "." and ".." not counted.
    public var entryCount: UInt64
    /// The verifier of the exclusive CREATE that made the file (RFC 1813 §3.3.8).
    public var exclusiveVerifier: UInt64?
    /// The highest sequence that the stored size and extents include.
    public var writeSequence: WriteSequence
    /// Symbolic links: where to.
    public var linkTarget: LinkTarget?
    /// Block and character devices: what they stand for.
    public var device: DeviceNumber?

    /// The first cookie that an entry may have.
    public static let firstCookie: UInt64 = 3

    public init(
        id: FileID, generation: FileGeneration, type: FileType, mode: UInt32, linkCount: UInt32, uid: UInt32,
        gid: UInt32, size: UInt64 = 0, usedBytes: UInt64 = 0, accessTime: Timestamp, modificationTime: Timestamp,
        changeTime: Timestamp, parent: FileID? = nil, nextCookie: UInt64 = Inode.firstCookie, entryCount: UInt64 = 0,
        exclusiveVerifier: UInt64? = nil, writeSequence: WriteSequence = .zero, linkTarget: LinkTarget? = nil,
        device: DeviceNumber? = nil
    ) {
        self.id = id
        self.generation = generation
        self.type = type
        self.mode = mode
        self.linkCount = linkCount
        self.uid = uid
        self.gid = gid
        self.size = size
        self.usedBytes = usedBytes
        self.accessTime = accessTime
        self.modificationTime = modificationTime
        self.changeTime = changeTime
        self.parent = parent
        self.nextCookie = nextCookie
        self.entryCount = entryCount
        self.exclusiveVerifier = exclusiveVerifier
        self.writeSequence = writeSequence
        self.linkTarget = linkTarget
        self.device = device
    }

    public var attributes: FileAttributes {
        FileAttributes(
            fileID: id, type: type, mode: mode, linkCount: linkCount, uid: uid, gid: gid, size: size,
            usedBytes: usedBytes, device: device, accessTime: accessTime, modificationTime: modificationTime,
            changeTime: changeTime)
    }
}

extension Inode {
    /// All but the id, which is the key. A device number is there for devices only: they came later, and rows of
    /// other types are what they were.
    func encodeBody(to encoder: inout ByteEncoder) {
        encoder.put(generation.rawValue)
        encoder.put(type.rawValue)
        for value in [mode, linkCount, uid, gid] { encoder.put(value) }
        encoder.put(size)
        encoder.put(usedBytes)
        for time in [accessTime, modificationTime, changeTime] {
            encoder.put(time.seconds)
            encoder.put(time.nanoseconds)
        }
        encoder.put(optional: parent) { $0.put($1.rawValue) }
        encoder.put(nextCookie)
        encoder.put(entryCount)
        encoder.put(optional: exclusiveVerifier) { $0.put($1) }
        encoder.put(writeSequence.rawValue)
        encoder.put(optional: linkTarget) { $0.put(counted: $1.bytes) }
        if type.isDevice {
            encoder.put(device?.major ?? 0)
            encoder.put(device?.minor ?? 0)
        }
    }

    init(id: FileID, body decoder: inout ByteDecoder) throws(CorruptMetadata) {
        self.id = id
        generation = FileGeneration(rawValue: try decoder.integer())
        guard let type = FileType(rawValue: try decoder.integer()) else { throw .invalidValue }
        self.type = type
        mode = try decoder.integer()
        linkCount = try decoder.integer()
        uid = try decoder.integer()
        gid = try decoder.integer()
        size = try decoder.integer()
        usedBytes = try decoder.integer()
        accessTime = try Timestamp(from: &decoder)
        modificationTime = try Timestamp(from: &decoder)
        changeTime = try Timestamp(from: &decoder)
        parent = try decoder.isPresent() ? FileID(rawValue: try decoder.integer()) : nil
        nextCookie = try decoder.integer()
        entryCount = try decoder.integer()
        exclusiveVerifier = try decoder.isPresent() ? try decoder.integer() : nil
        writeSequence = WriteSequence(rawValue: try decoder.integer())
        linkTarget = try decoder.isPresent() ? try LinkTarget(from: &decoder) : nil
        if type.isDevice {
            let major: UInt32 = try decoder.integer()
            device = DeviceNumber(major: major, minor: try decoder.integer())
        } else {
            device = nil
        }
        try checkPlausibility()
    }
}

extension LinkTarget {
    fileprivate init(from decoder: inout ByteDecoder) throws(CorruptMetadata) {
        let bytes = try decoder.counted(maxCount: Limits.maxLinkTargetBytes)
        guard let target = try? LinkTarget(bytes) else { throw .invalidValue }
        self = target
    }
}

extension Timestamp {
    fileprivate init(from decoder: inout ByteDecoder) throws(CorruptMetadata) {
        let seconds: Int64 = try decoder.integer()
        let nanoseconds: UInt32 = try decoder.integer()
        guard nanoseconds < 1_000_000_000 else { throw .invalidValue }
        self.init(seconds: seconds, nanoseconds: nanoseconds)
    }
}
