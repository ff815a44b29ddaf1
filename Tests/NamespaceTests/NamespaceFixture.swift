// A namespace on simulated disks, and the operations that tests do on it.

import FaultInjection
import Glibc
import Logging
import Model
import Platform
import Synchronization
import Testing

@testable import Namespace

/// Two or three mirrors on one simulated file system, `/v0`, `/v1`, …
struct Fixture {
    static let storeID = StoreID(rawValue: UniqueID(high: 7, low: 9))
    static let time = Timestamp(seconds: 1_700_000_000, nanoseconds: 5)
    static let quiet: Logger = {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }()

    var disk: SimulatedFileSystem
    var log: SimulatedLog
    let mirrors: [MirrorLocation]

    /// Formatted mirrors.
    init(mirrors count: Int = 2, logForgets: Bool = true) throws {
        log = SimulatedLog(forgets: logForgets)
        mirrors = (0..<count).map(Self.mirror)
        disk = SimulatedFileSystem(directories: mirrors.map(\.directory))
        try format()
    }

    static func mirror(_ index: Int) -> MirrorLocation {
        MirrorLocation(
            volume: VolumeID(rawValue: UniqueID(high: 0, low: UInt64(index))), directory: "/v\(index)")
    }

    func format() throws {
        try Namespace.format(
            mirrors, fileSystem: disk, storeID: Self.storeID, epoch: Epoch(rawValue: 1),
            root: Self.inode(.root, .directory, parent: .root))
    }

    func open(
        _ mirrors: [MirrorLocation]? = nil, log: SimulatedLog? = nil, epoch: UInt64 = 1, cacheLimit: Int = 1000,
        bounds: Backlog.Bounds = Backlog.Bounds(), clock: SystemClock = SystemClock(),
        onMirrorFailure: @escaping @Sendable ([VolumeID], [VolumeID]) -> Bool = { _, remaining in !remaining.isEmpty },
        onFailure: @escaping @Sendable (NamespaceError) -> Void = { _ in }
    ) throws -> Namespace {
        let log = log ?? self.log
        return try Namespace.open(
            mirrors ?? self.mirrors, records: log.records, lastNumber: log.lastNumber, fileSystem: disk,
            storeID: Self.storeID, epoch: Epoch(rawValue: epoch), log: log.log, clock: clock, cacheLimit: cacheLimit,
            bounds: bounds, logger: Self.quiet, onMirrorFailure: onMirrorFailure, onFailure: onFailure)
    }

    /// Loses power: what was not synced is lost, and of the entries that were not durable all but so many.
    mutating func crash(seed: UInt64, keeping count: Int = 0) {
        disk = disk.crash(seed: seed)
        log = log.crash(keeping: count)
    }

    func inspect(_ index: Int) -> MirrorState { Namespace.inspect(mirrors[index], fileSystem: disk) }

    static func inode(_ id: FileID, _ type: FileType = .regular, size: UInt64 = 0, parent: FileID? = nil) -> Inode {
        Inode(
            id: id, generation: FileGeneration(rawValue: id.rawValue &* 31), type: type, mode: 0o644, linkCount: 1,
            uid: 1, gid: 2, size: size, usedBytes: size, accessTime: time, modificationTime: time, changeTime: time,
            parent: parent)
    }

    static func name(_ text: String) -> FileName {
        guard let name = try? FileName(Array(text.utf8)) else { preconditionFailure("bad name") }
        return name
    }
}

/// What the bodies of these tests throw.
enum TestFailure: NamespaceFailure, Equatable {
    case refused
    case namespace(NamespaceError)

    init(_ error: NamespaceError) { self = .namespace(error) }
}

extension Namespace {
    /// Makes a file as a CREATE would: inode, entry, and the root's counters, in one record.
    @discardableResult
    func create(_ name: FileName, size: UInt64 = 0) async throws(NamespaceError) -> FileID {
        try await perform { transaction throws(NamespaceError) in try transaction.create(name, size: size) }
    }

    /// Makes a directory in the root.
    func makeDirectory(_ name: FileName) async throws(NamespaceError) -> FileID {
        try await perform { transaction throws(NamespaceError) in
            let id = transaction.newFileID()
            guard var root = try transaction.inode(.root) else { throw .damaged("no root") }
            try transaction.mutate(.putInode(Fixture.inode(id, .directory, parent: .root)))
            try transaction.mutate(.putEntry(directory: .root, name: name, cookie: root.nextCookie, child: id))
            root.nextCookie += 1
            root.entryCount += 1
            try transaction.mutate(.putInode(root))
            return id
        }
    }

    /// Returns when its thread has nothing to do.
    func rest() async { await thread.run {} }

    func remove(_ name: FileName) async throws(NamespaceError) {
        try await perform { transaction throws(NamespaceError) in
            guard let entry = try transaction.entry(.root, name), var root = try transaction.inode(.root) else {
                return
            }
            root.entryCount -= 1
            try transaction.mutate(.removeEntry(directory: .root, name: name))
            try transaction.mutate(.removeInode(entry.child))
            try transaction.mutate(.putInode(root))
        }
    }

    func names() async throws(NamespaceError) -> [String] {
        try await perform { transaction throws(NamespaceError) in
            try transaction.entries(.root, after: 0, limit: .max).map(\.name.description)
        }
    }

    func child(_ name: FileName) async throws(NamespaceError) -> FileID? {
        try await read { transaction throws(NamespaceError) in try transaction.entry(.root, name)?.child }
    }
}

extension Transaction {
    @discardableResult
    mutating func create(_ name: FileName, size: UInt64 = 0) throws(NamespaceError) -> FileID {
        let id = newFileID()
        guard var root = try inode(.root) else { throw .damaged("no root") }
        try mutate(.putInode(Fixture.inode(id, size: size)))
        try mutate(.putEntry(directory: .root, name: name, cookie: root.nextCookie, child: id))
        root.nextCookie += 1
        root.entryCount += 1
        try mutate(.putInode(root))
        return id
    }
}

/// Lets a test hold a thread at a place, and know that it got there.
final class Gate: @unchecked Sendable {
    private let state = Mutex((arrived: false, isAbandoned: false, isOpen: false))

    /// Called by the thread that is to be held.
    func pass() {
        state.withLock { $0.arrived = true }
        while !state.withLock({ $0.isOpen }) { sched_yield() }
    }

    /// Called when nobody will come any more, so that a test fails instead of waiting for ever.
    func stopExpecting() { state.withLock { $0.isAbandoned = true } }

    var isAbandoned: Bool { state.withLock { $0.isAbandoned } }

    /// Waits until a thread is held, or `stopExpecting`.
    func waitForArrival() async {
        while !state.withLock({ $0.arrived || $0.isAbandoned }) { await Task.yield() }
    }

    func open() { state.withLock { $0.isOpen = true } }
}

/// Set once, by any thread.
final class Flag: Sendable {
    private let state = Mutex(false)
    var isSet: Bool { state.withLock { $0 } }
    func set() { state.withLock { $0 = true } }
}
