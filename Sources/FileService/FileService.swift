// The seam between the protocol programs and the stores: file operations with a closed set of outcomes.
// Programs above know no storage, stores below know no RPC. Implementations: EmbeddedFileService; an
// HDFS one will follow.
//
// All methods may be called from any thread at once. They are `async` since most must wait for disks;
// none blocks its thread. Of a file that is in memory, each runs without suspension up to the point where its
// place in the file's order is fixed: a WRITE that was called before another WRITE or a COMMIT has its place
// before it, if the caller starts the two calls one after the other. The first calls of a file that is not in
// memory may overtake each other while it is loaded, as calls that are under way together may.

public import Model
public import Platform

/// What a file handle refers to.
public struct FileReference: Hashable, Sendable {
    public let id: FileID
    public let generation: FileGeneration

    public init(id: FileID, generation: FileGeneration) {
        self.id = id
        self.generation = generation
    }
}

/// A file's attributes around an operation that was atomic with the first of them (RFC 1813 `wcc_data`).
public struct AttributeChange: Hashable, Sendable {
    public let before: FileAttributes
    public let after: FileAttributes

    public init(before: FileAttributes, after: FileAttributes) {
        self.before = before
        self.after = after
    }
}

/// How a time is set (RFC 1813 `time_how`).
public enum TimeChange: Hashable, Sendable {
    case unchanged
    case toServerTime
    case to(Timestamp)
}

/// The attributes to set; nil means unchanged (RFC 1813 `sattr3`).
public struct AttributeUpdate: Hashable, Sendable {
    public var mode: UInt32?
    public var uid: UInt32?
    public var gid: UInt32?
    public var size: UInt64?
    public var accessTime: TimeChange
    public var modificationTime: TimeChange

    public init(
        mode: UInt32? = nil, uid: UInt32? = nil, gid: UInt32? = nil, size: UInt64? = nil,
        accessTime: TimeChange = .unchanged, modificationTime: TimeChange = .unchanged
    ) {
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.accessTime = accessTime
        self.modificationTime = modificationTime
    }
}

/// What a caller asks ACCESS for and is granted (RFC 1813 §3.3.4); the raw values are the protocol's bits.
public struct AccessRights: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let read = AccessRights(rawValue: 0x01)
    public static let lookup = AccessRights(rawValue: 0x02)
    public static let modify = AccessRights(rawValue: 0x04)
    public static let extend = AccessRights(rawValue: 0x08)
    public static let delete = AccessRights(rawValue: 0x10)
    public static let execute = AccessRights(rawValue: 0x20)
}

/// How CREATE treats a name that exists (RFC 1813 `createmode3`).
public enum CreateMode: Hashable, Sendable {
    /// Take the existing file; apply its size if given.
    case unchecked(AttributeUpdate)
    /// Fail with `alreadyExists`.
    case guarded(AttributeUpdate)
    /// Fail unless the file was created with the same verifier: a retransmission.
    case exclusive(verifier: UInt64)
}

/// What MKNOD makes: a file whose bytes are none of the store's concern.
public enum SpecialFile: Hashable, Sendable {
    case fifo
    case socket
    case blockDevice(DeviceNumber)
    case characterDevice(DeviceNumber)
}

/// When the bytes of a WRITE are durable (RFC 1813 `stable_how`).
public enum WriteStability: Hashable, Sendable {
    /// Before a later COMMIT answers.
    case unstable
    /// The bytes before the reply, with what is needed to read them back.
    case dataSync
    /// All of it before the reply.
    case fileSync
}

/// Changes whenever an acknowledged unstable byte may have been lost (RFC 1813 `writeverf3`).
public struct WriteVerifier: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// What a new or looked-up name led to.
public struct FileEntry: Hashable, Sendable {
    public let file: FileReference
    public let attributes: FileAttributes

    public init(file: FileReference, attributes: FileAttributes) {
        self.file = file
        self.attributes = attributes
    }
}

/// A CREATE, MKDIR, SYMLINK, MKNOD: the new entry and what it did to its directory.
public struct CreatedEntry: Sendable {
    public let entry: FileEntry
    public let directory: AttributeChange

    public init(entry: FileEntry, directory: AttributeChange) {
        self.entry = entry
        self.directory = directory
    }
}

/// A LINK's effect on the file and on the directory of the new name.
public struct LinkResult: Sendable {
    public let attributes: FileAttributes
    public let directory: AttributeChange

    public init(attributes: FileAttributes, directory: AttributeChange) {
        self.attributes = attributes
        self.directory = directory
    }
}

/// A READ that succeeded.
public struct ReadResult: Sendable {
    public let payload: Payload
    /// The last byte of the payload is the last of the file, or the offset is at or beyond its end.
    public let isAtEnd: Bool
    public let attributes: FileAttributes

    public init(payload: Payload, isAtEnd: Bool, attributes: FileAttributes) {
        self.payload = payload
        self.isAtEnd = isAtEnd
        self.attributes = attributes
    }
}

/// A WRITE that was accepted: always all of its bytes.
public struct WriteResult: Sendable {
    /// At least what was asked for.
    public let stability: WriteStability
    public let verifier: WriteVerifier
    public let change: AttributeChange

    public init(stability: WriteStability, verifier: WriteVerifier, change: AttributeChange) {
        self.stability = stability
        self.verifier = verifier
        self.change = change
    }
}

/// A COMMIT that succeeded.
public struct CommitResult: Sendable {
    public let verifier: WriteVerifier
    /// Both as of the reply: a COMMIT itself changes no attribute.
    public let change: AttributeChange

    public init(verifier: WriteVerifier, change: AttributeChange) {
        self.verifier = verifier
        self.change = change
    }
}

/// One name of a directory listing.
public struct DirectoryEntry: Sendable {
    public let name: FileName
    /// Continue after this entry. Stays valid while the directory changes; never 0, 1 for ".", 2 for "..".
    public let cookie: UInt64
    public let fileID: FileID
    /// Present when the listing was asked for attributes.
    public let entry: FileEntry?

    public init(name: FileName, cookie: UInt64, fileID: FileID, entry: FileEntry?) {
        self.name = name
        self.cookie = cookie
        self.fileID = fileID
        self.entry = entry
    }
}

/// A part of a directory, "." and ".." included.
public struct DirectoryListing: Sendable {
    public let entries: [DirectoryEntry]
    /// Whether `entries` reaches the end of the directory.
    public let isAtEnd: Bool
    public let attributes: FileAttributes

    public init(entries: [DirectoryEntry], isAtEnd: Bool, attributes: FileAttributes) {
        self.entries = entries
        self.isAtEnd = isAtEnd
        self.attributes = attributes
    }
}

/// A RENAME's effect on its two directories; equal when they are one.
public struct RenameResult: Sendable {
    public let source: AttributeChange
    public let target: AttributeChange

    public init(source: AttributeChange, target: AttributeChange) {
        self.source = source
        self.target = target
    }
}

/// Room in the store as its users see it: data bytes, parity already taken off.
public struct FileSystemSpace: Hashable, Sendable {
    public let totalBytes: UInt64
    public let freeBytes: UInt64
    public let availableBytes: UInt64
    public let totalFiles: UInt64
    public let freeFiles: UInt64

    public init(
        totalBytes: UInt64, freeBytes: UInt64, availableBytes: UInt64, totalFiles: UInt64, freeFiles: UInt64
    ) {
        self.totalBytes = totalBytes
        self.freeBytes = freeBytes
        self.availableBytes = availableBytes
        self.totalFiles = totalFiles
        self.freeFiles = freeFiles
    }
}

/// A store's files.
///
/// Methods that take `as:` check the caller's permissions. The owner of a file may read and write it
/// whatever its mode, as NFS servers must allow for clients that checked at open.
public protocol FileService: Sendable {
    /// The root directory.
    func root() async throws(FileError) -> FileEntry

    /// Throws `stale` when there is no such file.
    func attributes(of file: FileReference) async throws(FileError) -> FileAttributes

    /// Sets attributes and truncates or extends; with `guardTime`, only if that is the change time.
    func setAttributes(
        of file: FileReference, to update: AttributeUpdate, guardTime: Timestamp?, as caller: Credentials
    ) async throws(FileError) -> AttributeChange

    /// Takes "." and ".." too.
    func lookUp(
        _ name: FileName, in directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> FileEntry

    /// The subset of `rights` that the caller has.
    func access(
        to file: FileReference, rights: AccessRights, as caller: Credentials
    ) async throws(FileError) -> (granted: AccessRights, attributes: FileAttributes)

    /// Where a symbolic link points to. Throws `invalidArgument` for anything else.
    func readLink(
        _ file: FileReference, as caller: Credentials
    ) async throws(FileError) -> (target: LinkTarget, attributes: FileAttributes)

    /// Reads up to `count` bytes: fewer at the end of the file, and, but at least one, where it is in very many pieces.
    func read(
        _ file: FileReference, offset: UInt64, count: Int, as caller: Credentials
    ) async throws(FileError) -> ReadResult

    func write(
        _ payload: Payload, to file: FileReference, offset: UInt64, stability: WriteStability, as caller: Credentials
    ) async throws(FileError) -> WriteResult

    /// Makes the range, `count` 0 meaning to the end, of what was written before durable.
    func commit(
        _ file: FileReference, offset: UInt64, count: UInt64, as caller: Credentials
    ) async throws(FileError) -> CommitResult

    func create(
        _ name: FileName, in directory: FileReference, mode: CreateMode, as caller: Credentials
    ) async throws(FileError) -> CreatedEntry

    func makeDirectory(
        _ name: FileName, in directory: FileReference, attributes: AttributeUpdate, as caller: Credentials
    ) async throws(FileError) -> CreatedEntry

    func makeSymbolicLink(
        _ name: FileName, in directory: FileReference, to target: LinkTarget, attributes: AttributeUpdate,
        as caller: Credentials
    ) async throws(FileError) -> CreatedEntry

    /// Throws `notOwner` for devices where the store takes none, or not from this caller.
    func makeSpecialFile(
        _ name: FileName, in directory: FileReference, _ kind: SpecialFile, attributes: AttributeUpdate,
        as caller: Credentials
    ) async throws(FileError) -> CreatedEntry

    /// Gives a file that is not a directory one more name.
    func link(
        _ file: FileReference, as name: FileName, in directory: FileReference, by caller: Credentials
    ) async throws(FileError) -> LinkResult

    /// Removes a name that is not a directory.
    func remove(
        _ name: FileName, from directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> AttributeChange

    func removeDirectory(
        _ name: FileName, from directory: FileReference, as caller: Credentials
    ) async throws(FileError) -> AttributeChange

    func rename(
        _ name: FileName, in directory: FileReference, to newName: FileName, in newDirectory: FileReference,
        as caller: Credentials
    ) async throws(FileError) -> RenameResult

    /// The entries after `cookie` (0: from the start), at most `maxEntries`.
    func list(
        _ directory: FileReference, after cookie: UInt64, maxEntries: Int, withAttributes: Bool,
        as caller: Credentials
    ) async throws(FileError) -> DirectoryListing

    func space() async throws(FileError) -> FileSystemSpace
}
