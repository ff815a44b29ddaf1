// Reading a mirror whole, before it is believed or after it was copied.

internal import Model
internal import Platform

extension Mirror {
    /// How far it is, from its own rows.
    func position() throws(MirrorError) -> MirrorPosition {
        let states = try states()
        guard let version = states[.formatVersion], let high = states[.storeIDHigh], let low = states[.storeIDLow],
            let epoch = states[.epoch], let logNumber = states[.logNumber]
        else { throw .notAMirror("rows that say what it is are missing") }
        guard version == Self.formatVersion else { throw .notAMirror("it has format version \(version)") }
        return MirrorPosition(
            storeID: StoreID(rawValue: UniqueID(high: high, low: low)), epoch: Epoch(rawValue: epoch),
            logNumber: LogNumber(rawValue: logNumber))
    }

    /// The version of tables and rows that this code reads and writes.
    static let formatVersion: UInt64 = 1

    /// Reads all of it: SQLite's own check (not the quick one, which takes an index on trust: a name that is
    /// damaged there is left out of listings, without an error), then every row against its checksum. With 10^5 files
    /// SQLite's check takes 0.30 s per mirror, the quick one 0.12 s.
    func verify() throws(MirrorError) {
        let result = try connection.text("PRAGMA integrity_check(1)")
        guard result == "ok" else { throw .notAMirror("SQLite's check says: \(result ?? "nothing")") }
        _ = try states()
        try forEachRow("SELECT id, body, crc FROM inode") { row throws(MirrorError) in _ = try Self.inode(row) }
        try forEachRow("SELECT directory, name, cookie, body, crc FROM entry") { row throws(MirrorError) in
            _ = try Self.entry(row)
        }
        try forEachRow("SELECT file, start, body, crc FROM extent") { row throws(MirrorError) in
            _ = try Self.extent(row)
        }
        try forEachRow("SELECT id, body, crc FROM block_group") { row throws(MirrorError) in _ = try Self.group(row) }
    }

    private func forEachRow(
        _ sql: String, _ body: (SQLiteStatement) throws(MirrorError) -> Void
    ) throws(MirrorError) {
        let statement = try connection.prepare(sql)
        defer { statement.reset() }
        while try statement.step() { try body(statement) }
    }
}
