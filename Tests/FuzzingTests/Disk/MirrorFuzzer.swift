// A mirror of the metadata whose files were damaged: bytes of the SQLite database or of its log are changed. Reading it
// never crashes; and when it is said to be verified, all that it holds is as it was.
//
// The input is a list of changes: 3 bytes where (the top bit: in the log), 1 byte how many, and those bytes, which are
// added to the old ones without carry, so that 0 changes nothing.

import FaultInjection
import Model
import Platform

@testable import Namespace

enum MirrorFuzzer {
    private static let location = MirrorLocation(
        volume: VolumeID(rawValue: UniqueID(high: 0, low: 1)), directory: "/v0")
    private static let logPath = location.path + "-wal"

    /// The files of a small mirror, and what is in it.
    private struct Base: Sendable {
        let database: [UInt8]
        let log: [UInt8]
        let content: Content
    }

    private struct Content: Equatable, Sendable {
        var inodes: [Inode?] = []
        var names: [EntryRow?] = []
        var listing: [EntryRow] = []
        var extents: [Extent] = []
        var groups: [BlockGroup] = []
    }

    private static let fileCount: UInt64 = 12
    private static let base: Base = {
        do {
            return try makeBase()
        } catch {
            fatalError("the mirror could not be made: \(error)")
        }
    }()

    private static func fileName(_ number: UInt64) throws -> FileName { try FileName(Array("file \(number)".utf8)) }

    private static func makeBase() throws -> Base {
        let disk = SimulatedFileSystem(directories: ["/v0"])
        try Namespace.format(
            [location], fileSystem: disk, storeID: StoreID(rawValue: UniqueID(high: 7, low: 9)),
            epoch: Epoch(rawValue: 1), root: inode(.root, .directory))
        let mirror = try Mirror(location, disk)
        let policy = try ErasureCodingPolicy("RS-3-2-64k")
        let group = BlockGroup(
            id: BlockGroupID(ordinal: 0), generationStamp: .first, policy: policy, length: 1 << 20,
            locations: (0..<5).map { VolumeID(rawValue: UniqueID(high: 1, low: $0)) }, liveBytes: 1 << 20)
        // All of it is moved into the database; the log has a later position only, so that it hides nothing.
        for position in [UInt64(2), 3] {
            var mutations: [Mutation] = []
            for number in 0..<fileCount where position == 2 {
                let id = FileID(rawValue: 2 + number)
                mutations.append(.putInode(inode(id, .regular)))
                mutations.append(
                    .putEntry(directory: .root, name: try fileName(number), cookie: 3 + number, child: id))
                let extent = Extent(
                    range: ByteRange(offset: 4096 * number, count: 4096), group: group.id, groupOffset: 4096 * number,
                    sequence: WriteSequence(rawValue: number))
                mutations.append(.putExtent(file: FileID(rawValue: 2), extent))
            }
            if position == 2 { mutations.append(.putGroup(group)) }
            try mirror.apply([MetadataRecord(number: LogNumber(rawValue: position), mutations: mutations)])
            try mirror.commit(upTo: LogNumber(rawValue: position))
            if position == 2 { try mirror.checkpoint() }
        }
        guard let database = disk.content(of: location.path), let log = disk.content(of: logPath) else {
            fatalError("the mirror has no files")
        }
        let base = Base(database: database, log: log, content: try content(of: mirror))
        mirror.giveUp()
        return base
    }

    private static func inode(_ id: FileID, _ type: FileType) -> Inode {
        let time = Timestamp(seconds: 1_700_000_000, nanoseconds: 5)
        return Inode(
            id: id, generation: FileGeneration(rawValue: 31), type: type, mode: 0o644, linkCount: 1, uid: 1, gid: 2,
            accessTime: time, modificationTime: time, changeTime: time, parent: .root)
    }

    private static func content(of mirror: Mirror) throws(MirrorError) -> Content {
        var content = Content()
        for number in 1...fileCount + 2 { content.inodes.append(try mirror.inode(FileID(rawValue: number))) }
        for number in 0...fileCount {
            if let name = try? fileName(number) { content.names.append(try mirror.entry(.root, name)) }
        }
        content.listing = try mirror.entries(.root, after: 0, limit: 1000)
        content.extents = try mirror.extents(
            FileID(rawValue: 2), overlapping: ByteRange(offset: 0, count: Limits.maxFileBytes))
        content.groups = try mirror.groups(after: nil, limit: 1000)
        return content
    }

    static func run(_ input: [UInt8]) {
        var (database, log) = (base.database, base.log)
        var choices = FuzzInput(input)
        while !choices.rest.isEmpty {
            let place = Int(choices.byte()) << 16 | choices.number16()
            let bytes = choices.bytes(atMost: Int(choices.byte()))
            for (index, byte) in bytes.enumerated() {
                let offset = place & 0x7f_ffff + index
                if place & 0x80_0000 == 0 {
                    database[offset % database.count] ^= byte
                } else {
                    log[offset % log.count] ^= byte
                }
            }
        }
        let disk = SimulatedFileSystem(directories: ["/v0"])
        do {
            for (path, bytes) in [(location.path, database), (logPath, log)] {
                let file = try disk.open(path, .createNew)
                defer { file.close() }
                try bytes.withUnsafeBytes { try file.write($0, at: 0) }
            }
        } catch {
            fatalError("the simulated disk failed: \(error)")
        }
        let state = Namespace.inspect(location, fileSystem: disk)
        guard let mirror = try? Mirror(location, disk) else {
            if case .verified = state { fatalError("a verified mirror cannot be opened") }
            return
        }
        let found = try? content(of: mirror)
        if case .verified(let position) = state {
            // The log may be lost unnoticed, as by a power cut before it was synced.
            let numbers = [2, 3].map { LogNumber(rawValue: $0) }
            hold(numbers.contains(position.logNumber), "verified, at a position that never was: \(position)")
            hold(found == base.content, "verified, but not what was written: \(String(describing: found))")
        }
        _ = try? mirror.apply([MetadataRecord(number: LogNumber(rawValue: 9), mutations: [.removeInode(.root)])])
        _ = try? mirror.rollBack()
        mirror.giveUp()
    }
}
