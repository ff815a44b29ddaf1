// A connection to a SQLite database, and its statements. Used by one thread at a time (opened with
// SQLITE_OPEN_NOMUTEX).

internal import CSQLite
internal import Platform

final class SQLiteConnection {
    private let handle: OpaquePointer
    private let fileSystem: VirtualFileSystem
    private var statements: [String: SQLiteStatement] = [:]
    private var isOpen = true
    /// Pages in the write-ahead log after the last commit.
    fileprivate(set) var logPages = 0

    /// Opens the database at `path`; `create` allows for making it.
    init(_ path: String, _ fileSystem: FileSystem, create: Bool) throws(MirrorError) {
        if !create { try Self.checkHeader(path, fileSystem) }
        self.fileSystem = VirtualFileSystem(fileSystem)
        var handle: OpaquePointer?
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0)
        let code = sqlite3_open_v2(path, &handle, flags, self.fileSystem.name)
        guard code == SQLITE_OK, let handle else {
            sqlite3_close_v2(handle)
            throw .sqlite(
                code: code, message: String(cString: sqlite3_errstr(code)), cause: self.fileSystem.lastError)
        }
        self.handle = handle
        sqlite3_extended_result_codes(handle, 1)
    }

    deinit { close() }

    /// Bytes 18 and 19 of the file say how it is written and read: 2 is with a write-ahead log. Ours always are. With
    /// other bytes SQLite would leave the log, and what was committed in it, unread, and say nothing.
    private static func checkHeader(_ path: String, _ fileSystem: FileSystem) throws(MirrorError) {
        let header = UnsafeMutableRawBufferPointer.allocate(byteCount: 20, alignment: 1)
        defer { header.deallocate() }
        let count: Int
        do throws(IOError) {
            let file = try fileSystem.open(path, .read)
            defer { file.close() }
            count = try file.read(into: header, at: 0)
        } catch {
            throw .sqlite(code: SQLITE_CANTOPEN, message: "unable to open database file", cause: error)
        }
        guard count == 20, header[18] == 2, header[19] == 2 else {
            throw .notAMirror("the file's header is not that of a database with a write-ahead log")
        }
    }

    /// Without an open transaction this also moves the write-ahead log into the database and deletes it;
    /// if that fails the log stays, and with it what was committed.
    func close() {
        guard isOpen else { return }
        isOpen = false
        statements = [:]
        sqlite3_close_v2(handle)
    }

    /// Closes without touching a file any more.
    func giveUp() {
        fileSystem.giveUp()
        close()
    }

    var isInTransaction: Bool { sqlite3_get_autocommit(handle) == 0 }

    /// Runs one statement that returns no rows.
    func execute(_ sql: String) throws(MirrorError) {
        let statement = try prepare(sql)
        defer { statement.reset() }
        while try statement.step() {}
    }

    /// The first column of the first row.
    func text(_ sql: String) throws(MirrorError) -> String? {
        let statement = try prepare(sql)
        defer { statement.reset() }
        return try statement.step() ? statement.text(0) : nil
    }

    /// The statement, compiled at its first use. Whoever steps it resets it.
    func prepare(_ sql: String) throws(MirrorError) -> SQLiteStatement {
        if let statement = statements[sql] { return statement }
        var pointer: OpaquePointer?
        let code = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &pointer, nil)
        guard code == SQLITE_OK, let pointer else { throw error(code) }
        let statement = SQLiteStatement(pointer, self)
        statements[sql] = statement
        return statement
    }

    /// Pages that are copied between two pauses: 4 MiB.
    private static let copiedPages: Int32 = 1024

    /// Copies the committed content of `source` into this database, which must have no other user. Nobody may change the
    /// source meanwhile.
    ///
    /// - Parameter pause: called now and then; others may read from the source in it.
    func copy(from source: SQLiteConnection, pause: () throws(MirrorError) -> Void) throws(MirrorError) {
        guard let backup = sqlite3_backup_init(handle, "main", source.handle, "main") else {
            throw error(sqlite3_errcode(handle))
        }
        var code = sqlite3_backup_step(backup, Self.copiedPages)
        while code == SQLITE_OK {
            do throws(MirrorError) {
                try pause()
            } catch {
                sqlite3_backup_finish(backup)
                throw error
            }
            code = sqlite3_backup_step(backup, Self.copiedPages)
        }
        let end = sqlite3_backup_finish(backup)
        guard code == SQLITE_DONE else {
            throw .sqlite(
                code: code, message: String(cString: sqlite3_errstr(code)),
                cause: source.fileSystem.lastError ?? fileSystem.lastError)
        }
        guard end == SQLITE_OK else { throw error(end) }
    }

    /// From now on `logPages` is kept. It also takes the place of SQLite's automatic checkpoints, which
    /// would hide their errors.
    func watchLog() {
        sqlite3_wal_hook(
            handle,
            { context, _, _, pages in
                Unmanaged<SQLiteConnection>.fromOpaque(context!).takeUnretainedValue().logPages = Int(pages)
                return SQLITE_OK
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    /// Moves the write-ahead log into the database, both synced, so that the log starts over.
    func checkpoint() throws(MirrorError) {
        var pages: Int32 = 0
        var moved: Int32 = 0
        let code = sqlite3_wal_checkpoint_v2(handle, nil, SQLITE_CHECKPOINT_PASSIVE, &pages, &moved)
        guard code == SQLITE_OK else { throw error(code) }
        guard pages == moved else { throw .notAMirror("a checkpoint moved \(moved) of \(pages) pages") }
        logPages = 0
    }

    fileprivate func error(_ code: Int32) -> MirrorError {
        .sqlite(code: code, message: String(cString: sqlite3_errmsg(handle)), cause: fileSystem.lastError)
    }
}

/// A compiled statement. Parameters count from 1, columns from 0, as in SQLite.
final class SQLiteStatement {
    private let pointer: OpaquePointer
    private unowned let connection: SQLiteConnection

    fileprivate init(_ pointer: OpaquePointer, _ connection: SQLiteConnection) {
        self.pointer = pointer
        self.connection = connection
    }

    deinit { sqlite3_finalize(pointer) }

    func bind(_ value: Int64, at index: Int32) {
        let code = sqlite3_bind_int64(pointer, index, value)
        precondition(code == SQLITE_OK, "cannot bind parameter \(index): \(code)")
    }

    func bind(_ value: UInt64, at index: Int32) { bind(Int64(bitPattern: value), at: index) }

    func bind(_ value: [UInt8], at index: Int32) {
        // SQLITE_TRANSIENT: SQLite takes a copy.
        let copy = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
        let code = value.withUnsafeBytes { bytes in
            bytes.isEmpty
                ? sqlite3_bind_zeroblob(pointer, index, 0)
                : sqlite3_bind_blob(pointer, index, bytes.baseAddress, Int32(bytes.count), copy)
        }
        precondition(code == SQLITE_OK, "cannot bind parameter \(index): \(code)")
    }

    /// Whether there is a row, the next one.
    func step() throws(MirrorError) -> Bool {
        switch sqlite3_step(pointer) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        case let code: throw connection.error(code)
        }
    }

    func int64(_ column: Int32) -> Int64 { sqlite3_column_int64(pointer, column) }

    func uint64(_ column: Int32) -> UInt64 { UInt64(bitPattern: int64(column)) }

    func bytes(_ column: Int32) -> [UInt8] {
        guard let start = sqlite3_column_blob(pointer, column) else { return [] }
        return [UInt8](UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(pointer, column))))
    }

    func text(_ column: Int32) -> String? { sqlite3_column_text(pointer, column).map { String(cString: $0) } }

    /// Ends the current run; the parameters stay.
    func reset() {
        // The code repeats the error of the last step, which has been thrown already.
        sqlite3_reset(pointer)
    }
}
