// SQLite's files through `Platform.FileSystem`, so that faults and crashes of the simulated one reach
// SQLite too (https://sqlite.org/c3ref/vfs.html, https://sqlite.org/c3ref/io_methods.html).
//
// * The io methods are version 1: no shared memory, so WAL mode needs `locking_mode=EXCLUSIVE`.
// * Locks do nothing: one process has a store, its directory lock sees to that.
// * A file that is made has its directory synced at once, so that a commit that was synced to a new WAL
//   cannot lose the WAL's name.
// * A failed sync is never retried (Linux marks failed pages clean): after one, every further call fails.
//
// Each connection has a VFS of its own, used, like the connection, by one thread at a time.

internal import CSQLite
internal import Platform

/// A registered `sqlite3_vfs`. It must outlive the connections that were opened with it.
final class VirtualFileSystem {
    let fileSystem: FileSystem
    /// What `sqlite3_open_v2` takes.
    let name: String
    /// The call that failed last, for messages.
    private(set) var lastError: IOError?
    /// Once true, everything fails: a sync has failed, or the mirror was given up.
    private(set) var isGivenUp = false
    private let structure: UnsafeMutablePointer<sqlite3_vfs>
    private let nameBytes: UnsafeMutablePointer<CChar>

    init(_ fileSystem: FileSystem) {
        self.fileSystem = fileSystem
        structure = .allocate(capacity: 1)
        // The address is unique as long as the structure lives, and so is the name.
        name = "sluice-\(UInt(bitPattern: structure))"
        let bytes = name.utf8CString
        nameBytes = .allocate(capacity: bytes.count)
        for (index, byte) in bytes.enumerated() { nameBytes[index] = byte }
        structure.initialize(to: Self.template)
        structure.pointee.zName = UnsafePointer(nameBytes)
        structure.pointee.pAppData = Unmanaged.passUnretained(self).toOpaque()
        let code = sqlite3_vfs_register(structure, 0)
        precondition(code == SQLITE_OK, "cannot register a VFS: \(code)")
    }

    deinit {
        sqlite3_vfs_unregister(structure)
        structure.deallocate()
        nameBytes.deallocate()
    }

    /// From now on every call fails without touching a file.
    func giveUp() { isGivenUp = true }

    /// Runs a call and returns SQLite's code for how it ended.
    fileprivate func call(failingWith code: Int32, _ body: () throws(IOError) -> Void) -> Int32 {
        guard !isGivenUp else { return code }
        do throws(IOError) {
            try body()
            return SQLITE_OK
        } catch {
            lastError = error
            return error.isOutOfSpace ? SQLITE_FULL : code
        }
    }

    fileprivate func open(_ path: String, flags: Int32) throws(IOError) -> File {
        guard flags & SQLITE_OPEN_CREATE != 0 else {
            return try fileSystem.open(path, flags & SQLITE_OPEN_READONLY != 0 ? .read : .readWrite)
        }
        let isNew = try fileSystem.status(path) == nil
        let file = try fileSystem.open(path, .createOrOpen)
        if isNew { try fileSystem.syncDirectory(Self.parent(of: path)) }
        return file
    }

    fileprivate func delete(_ path: String, syncDirectory: Bool) throws(IOError) {
        try fileSystem.remove(path)
        if syncDirectory { try fileSystem.syncDirectory(Self.parent(of: path)) }
    }

    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return "/" }
        return String(path[..<slash])
    }

    // MARK: The C structures

    private static var template: sqlite3_vfs {
        var vfs = sqlite3_vfs()
        vfs.iVersion = 1
        vfs.szOsFile = Int32(MemoryLayout<OpenFile>.size)
        vfs.mxPathname = 4096
        vfs.xOpen = { vfs, path, file, flags, outFlags in
            let owner = VirtualFileSystem.from(vfs)
            let slot = OpenFile.slot(file)
            slot.pointee.base.pMethods = nil
            // No name means a temporary file; `temp_store=MEMORY` sees to it that none is asked for.
            guard let path else { return SQLITE_CANTOPEN }
            return owner.call(failingWith: SQLITE_CANTOPEN) { () throws(IOError) in
                let opened = try owner.open(String(cString: path), flags: flags)
                slot.pointee.object = Unmanaged.passRetained(VirtualFile(opened, owner)).toOpaque()
                slot.pointee.base.pMethods = UnsafePointer(VirtualFile.methods)
                if let outFlags { outFlags.pointee = flags }
            }
        }
        vfs.xDelete = { vfs, path, syncDirectory in
            let owner = VirtualFileSystem.from(vfs)
            let path = String(cString: path!)
            let code = owner.call(failingWith: SQLITE_IOERR_DELETE) { () throws(IOError) in
                try owner.delete(path, syncDirectory: syncDirectory != 0)
            }
            return code != SQLITE_OK && owner.lastError?.isNotFound == true && !owner.isGivenUp
                ? SQLITE_IOERR_DELETE_NOENT : code
        }
        vfs.xAccess = { vfs, path, _, result in
            let owner = VirtualFileSystem.from(vfs)
            return owner.call(failingWith: SQLITE_IOERR_ACCESS) { () throws(IOError) in
                // As SQLite's own VFS: an empty file is none.
                let size = try owner.fileSystem.status(String(cString: path!))?.size ?? 0
                result!.pointee = size > 0 ? 1 : 0
            }
        }
        vfs.xFullPathname = { _, path, count, result in
            var index = 0
            while true {
                guard index < count else { return SQLITE_CANTOPEN }
                result![index] = path![index]
                if path![index] == 0 { return SQLITE_OK }
                index += 1
            }
        }
        // Never called for anything that matters: SQLite draws randomness and time from its default VFS.
        vfs.xRandomness = { _, count, result in
            var generator = SystemRandomNumberGenerator()
            for index in 0..<Int(count) { result![index] = CChar.random(in: .min ... .max, using: &generator) }
            return count
        }
        vfs.xSleep = { _, microseconds in microseconds }
        vfs.xCurrentTime = { _, result in
            result!.pointee = 0
            return SQLITE_OK
        }
        vfs.xGetLastError = { vfs, _, _ in VirtualFileSystem.from(vfs).lastError?.code ?? 0 }
        return vfs
    }

    private static func from(_ vfs: UnsafeMutablePointer<sqlite3_vfs>?) -> VirtualFileSystem {
        Unmanaged<VirtualFileSystem>.fromOpaque(vfs!.pointee.pAppData).takeUnretainedValue()
    }
}

/// What SQLite allocates for each open file: its own part first, then ours.
private struct OpenFile {
    var base: sqlite3_file
    /// A retained `VirtualFile`.
    var object: UnsafeMutableRawPointer?

    static func slot(_ file: UnsafeMutablePointer<sqlite3_file>?) -> UnsafeMutablePointer<OpenFile> {
        UnsafeMutableRawPointer(file!).assumingMemoryBound(to: OpenFile.self)
    }
}

private final class VirtualFile {
    let file: File
    let owner: VirtualFileSystem

    init(_ file: File, _ owner: VirtualFileSystem) {
        self.file = file
        self.owner = owner
    }

    static func from(_ file: UnsafeMutablePointer<sqlite3_file>?) -> VirtualFile {
        Unmanaged<VirtualFile>.fromOpaque(OpenFile.slot(file).pointee.object!).takeUnretainedValue()
    }

    /// Filled once and never changed or freed.
    nonisolated(unsafe) static let methods: UnsafeMutablePointer<sqlite3_io_methods> = {
        var methods = sqlite3_io_methods()
        methods.iVersion = 1
        methods.xClose = { file in
            let slot = OpenFile.slot(file)
            if let object = slot.pointee.object {
                Unmanaged<VirtualFile>.fromOpaque(object).takeRetainedValue().file.close()
            }
            slot.pointee.object = nil
            return SQLITE_OK
        }
        methods.xRead = { file, buffer, count, offset in
            let object = VirtualFile.from(file)
            let target = UnsafeMutableRawBufferPointer(start: buffer, count: Int(count))
            var read = 0
            let code = object.owner.call(failingWith: SQLITE_IOERR_READ) { () throws(IOError) in
                read = try object.file.read(into: target, at: UInt64(offset))
            }
            guard code == SQLITE_OK, read < target.count else { return code }
            // The contract of xRead: what is missing reads as zeros.
            UnsafeMutableRawBufferPointer(rebasing: target[read...]).initializeMemory(as: UInt8.self, repeating: 0)
            return SQLITE_IOERR_SHORT_READ
        }
        methods.xWrite = { file, buffer, count, offset in
            let object = VirtualFile.from(file)
            return object.owner.call(failingWith: SQLITE_IOERR_WRITE) { () throws(IOError) in
                try object.file.write(UnsafeRawBufferPointer(start: buffer, count: Int(count)), at: UInt64(offset))
            }
        }
        methods.xTruncate = { file, size in
            let object = VirtualFile.from(file)
            return object.owner.call(failingWith: SQLITE_IOERR_TRUNCATE) { () throws(IOError) in
                try object.file.truncate(to: UInt64(size))
            }
        }
        methods.xSync = { file, _ in
            let object = VirtualFile.from(file)
            let code = object.owner.call(failingWith: SQLITE_IOERR_FSYNC) { () throws(IOError) in
                try object.file.sync()
            }
            if code != SQLITE_OK { object.owner.giveUp() }
            return code
        }
        methods.xFileSize = { file, result in
            let object = VirtualFile.from(file)
            return object.owner.call(failingWith: SQLITE_IOERR_FSTAT) { () throws(IOError) in
                result!.pointee = Int64(try object.file.size())
            }
        }
        methods.xLock = { _, _ in SQLITE_OK }
        methods.xUnlock = { _, _ in SQLITE_OK }
        methods.xCheckReservedLock = { _, result in
            result!.pointee = 0
            return SQLITE_OK
        }
        methods.xFileControl = { _, _, _ in SQLITE_NOTFOUND }
        // As SQLite's own VFS for Linux: pages of 4096 bytes, and a write leaves the bytes around it alone.
        methods.xSectorSize = { _ in 4096 }
        methods.xDeviceCharacteristics = { _ in SQLITE_IOCAP_POWERSAFE_OVERWRITE }
        let pointer = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
        pointer.initialize(to: methods)
        return pointer
    }()
}

// Extended codes, which SQLite defines by expressions that Swift doesn't import.
private let SQLITE_IOERR_READ = SQLITE_IOERR | (1 << 8)
private let SQLITE_IOERR_SHORT_READ = SQLITE_IOERR | (2 << 8)
private let SQLITE_IOERR_WRITE = SQLITE_IOERR | (3 << 8)
private let SQLITE_IOERR_FSYNC = SQLITE_IOERR | (4 << 8)
private let SQLITE_IOERR_TRUNCATE = SQLITE_IOERR | (6 << 8)
private let SQLITE_IOERR_FSTAT = SQLITE_IOERR | (7 << 8)
private let SQLITE_IOERR_DELETE = SQLITE_IOERR | (10 << 8)
private let SQLITE_IOERR_ACCESS = SQLITE_IOERR | (13 << 8)
private let SQLITE_IOERR_DELETE_NOENT = SQLITE_IOERR | (23 << 8)
