// The tables and their rows. Each row has key columns, a body and `crc`, the CRC32C of table, key and body;
// a row that doesn't match it is never believed. Names are BLOBs: SQLite compares them byte by byte.

internal import ErasureCoding
internal import Model

/// A row of the entry table.
struct EntryRow: Hashable {
    let name: FileName
    let cookie: UInt64
    let child: FileID
}

extension Mirror {
    static let schema = [
        "CREATE TABLE state (key INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL)",
        "CREATE TABLE inode (id INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL)",
        """
        CREATE TABLE entry (directory INTEGER, name BLOB, cookie INTEGER NOT NULL, body BLOB NOT NULL, \
        crc INTEGER NOT NULL, PRIMARY KEY (directory, name)) WITHOUT ROWID
        """,
        "CREATE INDEX entry_by_cookie ON entry (directory, cookie)",
        """
        CREATE TABLE extent (file INTEGER, start INTEGER, body BLOB NOT NULL, crc INTEGER NOT NULL, \
        PRIMARY KEY (file, start)) WITHOUT ROWID
        """,
        "CREATE TABLE block_group (id INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL)",
    ]

    /// Told apart in checksums, so that a row can't pass for one of another table.
    enum Table: UInt8 {
        case state = 1
        case inode, entry, extent, blockGroup
    }

    func apply(_ mutation: Mutation) throws(MirrorError) {
        switch mutation {
        case .putInode(let inode):
            let id = Int64(bitPattern: inode.id.rawValue)
            try put("INSERT OR REPLACE INTO inode VALUES (?, ?, ?)", .inode, [id]) { inode.encodeBody(to: &$0) }
        case .removeInode(let id):
            try remove("DELETE FROM inode WHERE id = ?", Int64(bitPattern: id.rawValue))
        case .putEntry(let directory, let name, let cookie, let child):
            try putEntry(directory, EntryRow(name: name, cookie: cookie, child: child))
        case .removeEntry(let directory, let name):
            let statement = try connection.prepare("DELETE FROM entry WHERE directory = ? AND name = ?")
            defer { statement.reset() }
            statement.bind(directory.rawValue, at: 1)
            statement.bind(name.bytes, at: 2)
            _ = try statement.step()
        case .putExtent(let file, let extent):
            let key = [Int64(bitPattern: file.rawValue), Int64(extent.range.lowerBound)]
            try put("INSERT OR REPLACE INTO extent VALUES (?, ?, ?, ?)", .extent, key) { extent.encodeBody(to: &$0) }
        case .removeExtent(let file, let offset):
            try remove(
                "DELETE FROM extent WHERE file = ? AND start = ?", Int64(bitPattern: file.rawValue),
                Int64(bitPattern: offset))
        case .removeExtents(let file, let offset):
            // Offsets are stored as signed integers, and none is beyond them.
            try remove(
                "DELETE FROM extent WHERE file = ? AND start >= ?", Int64(bitPattern: file.rawValue),
                Int64(clamping: offset))
        case .putGroup(let group):
            try put("INSERT OR REPLACE INTO block_group VALUES (?, ?, ?)", .blockGroup, [group.id.rawValue]) {
                group.encodeBody(to: &$0)
            }
        case .removeGroup(let id): try remove("DELETE FROM block_group WHERE id = ?", id.rawValue)
        case .putState(let key, let value): try putState(key, value)
        }
    }

    func putState(_ key: StateKey, _ value: UInt64) throws(MirrorError) {
        try put("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", .state, [Int64(key.rawValue)]) { $0.put(value) }
    }

    // MARK: Reading

    func inode(_ id: FileID) throws(MirrorError) -> Inode? {
        let statement = try connection.prepare("SELECT id, body, crc FROM inode WHERE id = ?")
        defer { statement.reset() }
        statement.bind(id.rawValue, at: 1)
        return try statement.step() ? Self.inode(statement) : nil
    }

    func entry(_ directory: FileID, _ name: FileName) throws(MirrorError) -> EntryRow? {
        let statement = try connection.prepare(
            "SELECT directory, name, cookie, body, crc FROM entry WHERE directory = ? AND name = ?")
        defer { statement.reset() }
        statement.bind(directory.rawValue, at: 1)
        statement.bind(name.bytes, at: 2)
        return try statement.step() ? Self.entry(statement) : nil
    }

    /// At most `limit` entries with greater cookies, in the order of cookies.
    func entries(_ directory: FileID, after cookie: UInt64, limit: Int) throws(MirrorError) -> [EntryRow] {
        let statement = try connection.prepare(
            """
            SELECT directory, name, cookie, body, crc FROM entry WHERE directory = ? AND cookie > ? \
            ORDER BY cookie LIMIT ?
            """)
        defer { statement.reset() }
        statement.bind(directory.rawValue, at: 1)
        // Cookies are stored as signed integers and count from 3, so none is beyond that.
        statement.bind(Int64(clamping: cookie), at: 2)
        statement.bind(Int64(limit), at: 3)
        var rows: [EntryRow] = []
        while try statement.step() { rows.append(try Self.entry(statement)) }
        return rows
    }

    /// The extents that overlap the range, in order. Since extents of a file don't overlap each other, at
    /// most one that begins before the range reaches into it.
    func extents(_ file: FileID, overlapping range: ByteRange) throws(MirrorError) -> [Extent] {
        let statement = try connection.prepare(
            """
            SELECT file, start, body, crc FROM extent WHERE file = ?1 AND start < ?3 AND start >= \
            coalesce((SELECT max(start) FROM extent WHERE file = ?1 AND start <= ?2), 0) ORDER BY start
            """)
        defer { statement.reset() }
        statement.bind(file.rawValue, at: 1)
        statement.bind(Int64(clamping: range.lowerBound), at: 2)
        statement.bind(Int64(clamping: range.upperBound), at: 3)
        var rows: [Extent] = []
        while try statement.step() {
            let extent = try Self.extent(statement)
            if extent.range.overlaps(range) { rows.append(extent) }
        }
        return rows
    }

    /// The inode of a file that other rows name.
    func existingInode(_ id: FileID) throws(MirrorError) -> Inode {
        guard let inode = try inode(id) else { throw .damagedRow("inode row of \(id): it is missing") }
        return inode
    }

    /// A group that other rows name, the bytes up to `end` of it.
    func existingGroup(_ id: BlockGroupID, holding end: UInt64) throws(MirrorError) -> BlockGroup {
        guard let group = try group(id) else { throw .damagedRow("row of \(id): it is missing") }
        guard end <= group.length else {
            throw .damagedRow("row of \(id): it ends at \(group.length), an extent at \(end)")
        }
        return group
    }

    func group(_ id: BlockGroupID) throws(MirrorError) -> BlockGroup? {
        let statement = try connection.prepare("SELECT id, body, crc FROM block_group WHERE id = ?")
        defer { statement.reset() }
        statement.bind(id.rawValue, at: 1)
        return try statement.step() ? Self.group(statement) : nil
    }

    /// At most `limit` groups with greater ids (nil: all), in the order of ids.
    func groups(after id: BlockGroupID?, limit: Int) throws(MirrorError) -> [BlockGroup] {
        let statement = try connection.prepare(
            "SELECT id, body, crc FROM block_group WHERE id >= ? ORDER BY id LIMIT ?")
        defer { statement.reset() }
        statement.bind(id.map { $0.rawValue == .max ? .max : $0.rawValue + 1 } ?? Int64.min, at: 1)
        statement.bind(Int64(limit), at: 2)
        var rows: [BlockGroup] = []
        while try statement.step() { rows.append(try Self.group(statement)) }
        return rows
    }

    /// All numbers.
    func states() throws(MirrorError) -> [StateKey: UInt64] {
        let statement = try connection.prepare("SELECT key, body, crc FROM state")
        defer { statement.reset() }
        var states: [StateKey: UInt64] = [:]
        while try statement.step() {
            let (key, value) = try Self.state(statement)
            states[key] = value
        }
        return states
    }

    // MARK: Rows from columns, checked

    static func inode(_ row: SQLiteStatement) throws(MirrorError) -> Inode {
        let id = FileID(rawValue: row.uint64(0))
        return try checked(.inode, [row.int64(0)], body: row.bytes(1), crc: row.int64(2)) {
            decoder throws(CorruptMetadata) in try Inode(id: id, body: &decoder)
        }
    }

    static func entry(_ row: SQLiteStatement) throws(MirrorError) -> EntryRow {
        let name = row.bytes(1)
        let cookie = row.uint64(2)
        return try checked(.entry, [row.int64(0), row.int64(2)], name: name, body: row.bytes(3), crc: row.int64(4)) {
            decoder throws(CorruptMetadata) in
            guard let name = try? FileName(name) else { throw .invalidValue }
            let row = EntryRow(name: name, cookie: cookie, child: FileID(rawValue: try decoder.integer()))
            try row.checkPlausibility()
            return row
        }
    }

    static func extent(_ row: SQLiteStatement) throws(MirrorError) -> Extent {
        let start = row.uint64(1)
        return try checked(.extent, [row.int64(0), row.int64(1)], body: row.bytes(2), crc: row.int64(3)) {
            decoder throws(CorruptMetadata) in try Extent(offset: start, body: &decoder)
        }
    }

    static func group(_ row: SQLiteStatement) throws(MirrorError) -> BlockGroup {
        let id = BlockGroupID(rawValue: row.int64(0))
        return try checked(.blockGroup, [row.int64(0)], body: row.bytes(1), crc: row.int64(2)) {
            decoder throws(CorruptMetadata) in try BlockGroup(id: id, body: &decoder)
        }
    }

    static func state(_ row: SQLiteStatement) throws(MirrorError) -> (StateKey, UInt64) {
        let number = row.int64(0)
        return try checked(.state, [number], body: row.bytes(1), crc: row.int64(2)) {
            decoder throws(CorruptMetadata) in
            guard let key = UInt32(exactly: number) else { throw .invalidValue }
            let value: UInt64 = try decoder.integer()
            try StateKey(rawValue: key).checkPlausibility(of: value)
            return (StateKey(rawValue: key), value)
        }
    }

    // MARK: Checksums

    private func put(
        _ sql: String, _ table: Table, _ key: [Int64], _ body: (inout ByteEncoder) -> Void
    ) throws(MirrorError) {
        var encoder = ByteEncoder()
        body(&encoder)
        let statement = try connection.prepare(sql)
        defer { statement.reset() }
        for (index, value) in key.enumerated() { statement.bind(value, at: Int32(index) + 1) }
        statement.bind(encoder.bytes, at: Int32(key.count) + 1)
        statement.bind(Self.crc(table, key, name: [], body: encoder.bytes), at: Int32(key.count) + 2)
        _ = try statement.step()
    }

    private func putEntry(_ directory: FileID, _ row: EntryRow) throws(MirrorError) {
        let key = [Int64(bitPattern: directory.rawValue), Int64(bitPattern: row.cookie)]
        var encoder = ByteEncoder()
        encoder.put(row.child.rawValue)
        let statement = try connection.prepare("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?)")
        defer { statement.reset() }
        statement.bind(key[0], at: 1)
        statement.bind(row.name.bytes, at: 2)
        statement.bind(key[1], at: 3)
        statement.bind(encoder.bytes, at: 4)
        statement.bind(Self.crc(.entry, key, name: row.name.bytes, body: encoder.bytes), at: 5)
        _ = try statement.step()
    }

    private func remove(_ sql: String, _ key: Int64...) throws(MirrorError) {
        let statement = try connection.prepare(sql)
        defer { statement.reset() }
        for (index, value) in key.enumerated() { statement.bind(value, at: Int32(index) + 1) }
        _ = try statement.step()
    }

    private static func crc(_ table: Table, _ key: [Int64], name: [UInt8], body: [UInt8]) -> Int64 {
        var encoder = ByteEncoder(capacity: 1 + key.count * 8 + name.count + body.count)
        encoder.put(table.rawValue)
        for value in key { encoder.put(value) }
        encoder.put(raw: name)
        encoder.put(raw: body)
        return Int64(CRC32C.checksum(encoder.bytes))
    }

    private static func checked<Row>(
        _ table: Table, _ key: [Int64], name: [UInt8] = [], body: [UInt8], crc: Int64,
        _ decode: (inout ByteDecoder) throws(CorruptMetadata) -> Row
    ) throws(MirrorError) -> Row {
        guard crc == Self.crc(table, key, name: name, body: body) else { throw .damagedRow("\(table) row \(key)") }
        do throws(CorruptMetadata) {
            var decoder = ByteDecoder(body)
            let row = try decode(&decoder)
            try decoder.finish()
            return row
        } catch {
            throw .damagedRow("\(table) row \(key): \(error)")
        }
    }
}
