// What can be told to go wrong.

public import Platform

/// The calls of `FileSystem` and `File` that can be counted and made to fail.
public enum FileOperation: Hashable, Sendable, CaseIterable {
    case open, createDirectory, remove, rename, syncDirectory, list, status, space
    case read, write, sync, startWriteback, truncate, size

    var changesSomething: Bool {
        switch self {
        case .open, .createDirectory, .remove, .rename, .syncDirectory, .write, .sync, .truncate: true
        case .list, .status, .space, .read, .startWriteback, .size: false
        }
    }

    var isByName: Bool {
        switch self {
        case .open, .createDirectory, .remove, .rename, .syncDirectory, .list, .status, .space: true
        case .read, .write, .sync, .startWriteback, .truncate, .size: false
        }
    }
}

/// A call that was made.
public struct FileCall {
    public let operation: FileOperation
    public let path: String
    /// Of a rename, where to.
    public let other: String?
    /// Of a read, write or truncate.
    public let offset: UInt64
    /// What was to be written; the buffer to be read into. Only valid while it is told.
    public let bytes: UnsafeRawBufferPointer?
    public let error: IOError?
}

/// A rule by which calls fail.
public struct Fault: Sendable {
    /// The calls on paths that begin so. A file is matched by the path that it was opened with, a rename by
    /// either of its paths. "/volume-1/" is the directory with all that is in it, "/volume-1" also "/volume-10".
    public var pathPrefix: String
    /// Only the path itself, so that a database can fail and the log beside it not.
    public var isWholePath: Bool
    /// nil: all of them. `startWriteback` never fails, as it reports nothing.
    public var operation: FileOperation?
    /// So many matching calls succeed first.
    public var afterCalls: Int
    /// So many fail then; nil: all.
    public var count: Int?
    /// The `errno` of the failure.
    public var code: Int32
    /// So many bytes of a failing write are written before it fails.
    public var writtenBytes: Int

    public init(
        _ pathPrefix: String, isWholePath: Bool = false, _ operation: FileOperation? = nil, code: Int32,
        afterCalls: Int = 0, count: Int? = nil, writtenBytes: Int = 0
    ) {
        self.pathPrefix = pathPrefix
        self.isWholePath = isWholePath
        self.operation = operation
        self.afterCalls = afterCalls
        self.count = count
        self.code = code
        self.writtenBytes = writtenBytes
    }
}

/// Whether a path is under a prefix in the sense of `Fault.pathPrefix`.
func matches(_ path: String, prefix: String) -> Bool {
    path.utf8.starts(with: prefix.utf8) || (prefix.utf8.last == UInt8(ascii: "/") && path + "/" == prefix)
}
