// One mirror: the SQLite database on one volume.
//
// Settings, each read back after it was set: exclusive locking (so that WAL needs no shared memory),
// write-ahead log, every commit synced, no automatic checkpoints (they hide their errors), temporary data
// in memory.
//
// Used by one thread at a time: by whoever has taken it from the `MirrorSet`.

internal import Model
internal import Platform

final class Mirror: @unchecked Sendable {
    let location: MirrorLocation
    let connection: SQLiteConnection
    /// What is applied to it is applied there, so that several mirrors are worked on at once.
    let thread: WorkThread
    /// The last record that it holds. For the applier's thread.
    var applied = LogNumber(rawValue: 0)

    /// Opens the mirror at `location`, or the one in the making at its temporary path.
    init(
        _ location: MirrorLocation, _ fileSystem: FileSystem, isTemporary: Bool = false, create: Bool = false
    ) throws(MirrorError) {
        self.location = location
        connection = try SQLiteConnection(
            isTemporary ? location.temporaryPath : location.path, fileSystem, create: create)
        thread = WorkThread(name: "mirror")
        do throws(MirrorError) {
            for setting in Self.settings { try set(setting.name, to: setting.value, shownAs: setting.shown) }
            connection.watchLog()
            if create { for table in Self.schema { try connection.execute(table) } }
        } catch {
            giveUp()
            throw error
        }
    }

    /// Names, values, and how SQLite shows them when it is asked.
    private static let settings = [
        (name: "locking_mode", value: "EXCLUSIVE", shown: "exclusive"),
        (name: "journal_mode", value: "WAL", shown: "wal"),
        (name: "synchronous", value: "FULL", shown: "2"),
        (name: "temp_store", value: "MEMORY", shown: "2"),
        (name: "wal_autocheckpoint", value: "0", shown: "0"),
        (name: "cell_size_check", value: "ON", shown: "1"),
        (name: "trusted_schema", value: "OFF", shown: "0"),
        // 16 MiB of pages, in KiB.
        (name: "cache_size", value: "-16384", shown: "-16384"),
    ]

    private func set(_ name: String, to value: String, shownAs shown: String) throws(MirrorError) {
        try connection.execute("PRAGMA \(name)=\(value)")
        let found = try connection.text("PRAGMA \(name)")
        guard found == shown else { throw .notAMirror("PRAGMA \(name) is \(found ?? "unset") instead of \(shown)") }
    }

    /// Ends its thread, and closes it properly.
    func close() {
        thread.stop()
        connection.close()
    }

    /// Ends its thread, and closes it without touching its files.
    func giveUp() {
        thread.stop()
        connection.giveUp()
    }

    /// The same on its own thread, for nobody waits for it any more.
    func giveUpOnItsThread() {
        thread.abandon()
        connection.giveUp()
    }

    // MARK: Transactions

    /// Begins a transaction unless there is one.
    func begin() throws(MirrorError) {
        if !connection.isInTransaction { try connection.execute("BEGIN IMMEDIATE") }
    }

    func rollBack() throws(MirrorError) {
        if connection.isInTransaction { try connection.execute("ROLLBACK") }
    }

    /// Makes the transaction durable as the state up to record `logNumber`.
    func commit(upTo logNumber: LogNumber) throws(MirrorError) {
        try putState(.logNumber, logNumber.rawValue)
        try connection.execute("COMMIT")
    }

    /// Applies the records in the current transaction, beginning one if there is none.
    func apply(_ records: [MetadataRecord]) throws(MirrorError) {
        try begin()
        for record in records {
            for mutation in record.mutations { try apply(mutation) }
        }
    }

    // MARK: Checkpoints

    /// Pages in the log from which on it is moved into the database: 4 MiB, SQLite's default too.
    private static let checkpointPages = 1000

    var needsCheckpoint: Bool { connection.logPages >= Self.checkpointPages }

    func checkpoint() throws(MirrorError) { try connection.checkpoint() }
}
