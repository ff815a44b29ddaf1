// The one way to files. Everything that Sluice keeps goes through a `FileSystem`, so that tests can put
// a fault-injecting twin in its place (short writes, EIO, ENOSPC, loss of what was not synced): both
// classes are `open`, the twin overrides every method. A class, not a protocol, so that the data path
// has no existentials.
//
// Calls block; they belong on volume and metadata threads, never on an event loop. All methods may be
// called from any thread at once.

internal import Glibc

/// The file system of this machine.
open class FileSystem: @unchecked Sendable {
    /// How a file is opened. Files are always opened with `O_CLOEXEC`.
    public enum OpenMode: Hashable, Sendable {
        /// Existing, read only.
        case read
        /// Existing, read and write.
        case readWrite
        /// Read and write, made when missing.
        case createOrOpen
        /// Read and write; fails with EEXIST when there is one.
        case createNew
    }

    /// What a name refers to.
    public struct Status: Hashable, Sendable {
        public let isDirectory: Bool
        public let size: UInt64
        /// Identifies the file system (`st_dev`), to see volumes that share a disk.
        public let device: UInt64

        public init(isDirectory: Bool, size: UInt64, device: UInt64) {
            self.isDirectory = isDirectory
            self.size = size
            self.device = device
        }
    }

    /// Room on a file system, in bytes and inodes.
    public struct Space: Hashable, Sendable {
        public let totalBytes: UInt64
        public let freeBytes: UInt64
        /// Free for a user without privileges.
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

    public init() {}

    open func open(_ path: String, _ mode: OpenMode) throws(IOError) -> File {
        let flags =
            switch mode {
            case .read: O_RDONLY
            case .readWrite: O_RDWR
            case .createOrOpen: O_RDWR | O_CREAT
            case .createNew: O_RDWR | O_CREAT | O_EXCL
            }
        let descriptor = Glibc.open(path, flags | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw IOError(code: errno, operation: "open", path: path) }
        return File(path: path, descriptor: descriptor)
    }

    /// Opens, if need be makes, a file and locks it against other processes until it is closed; EWOULDBLOCK
    /// when one of them has it.
    open func lock(_ path: String) throws(IOError) -> File {
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw IOError(code: errno, operation: "open", path: path) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            close(descriptor)
            throw IOError(code: code, operation: "flock", path: path)
        }
        return File(path: path, descriptor: descriptor)
    }

    /// Makes one directory, mode 0700. The parent must exist.
    open func createDirectory(_ path: String) throws(IOError) {
        guard mkdir(path, 0o700) == 0 else { throw IOError(code: errno, operation: "mkdir", path: path) }
    }

    open func remove(_ path: String) throws(IOError) {
        guard unlink(path) == 0 else { throw IOError(code: errno, operation: "unlink", path: path) }
    }

    /// Replaces `target` when it exists. Durable after `syncDirectory` of the parents.
    open func rename(_ path: String, to target: String) throws(IOError) {
        guard Glibc.rename(path, target) == 0 else { throw IOError(code: errno, operation: "rename", path: path) }
    }

    /// Makes the names in a directory durable.
    open func syncDirectory(_ path: String) throws(IOError) {
        let descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw IOError(code: errno, operation: "open", path: path) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw IOError(code: errno, operation: "fsync", path: path) }
    }

    /// The names in a directory without "." and "..", in no order.
    open func list(_ path: String) throws(IOError) -> [String] {
        guard let stream = opendir(path) else { throw IOError(code: errno, operation: "opendir", path: path) }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                guard errno == 0 else { throw IOError(code: errno, operation: "readdir", path: path) }
                return names
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
    }

    /// nil when there is no such name.
    open func status(_ path: String) throws(IOError) -> Status? {
        var status = stat()
        guard stat(path, &status) == 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw IOError(code: errno, operation: "stat", path: path)
        }
        return Status(
            isDirectory: status.st_mode & S_IFMT == S_IFDIR, size: UInt64(status.st_size),
            device: UInt64(status.st_dev))
    }

    open func space(_ path: String) throws(IOError) -> Space {
        var space = statvfs()
        guard statvfs(path, &space) == 0 else { throw IOError(code: errno, operation: "statvfs", path: path) }
        let unit = UInt64(space.f_frsize)
        return Space(
            totalBytes: UInt64(space.f_blocks) * unit, freeBytes: UInt64(space.f_bfree) * unit,
            availableBytes: UInt64(space.f_bavail) * unit, totalFiles: UInt64(space.f_files),
            freeFiles: UInt64(space.f_ffree))
    }
}
