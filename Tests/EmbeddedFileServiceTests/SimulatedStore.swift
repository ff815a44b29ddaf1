// A store on simulated disks: format, serve, close, power cut and start again, loss and damage of volumes.
//
// Formatting is done once for each shape of store; each test gets a copy of the disk.

import FaultInjection
import FileService
import Glibc
import Journal
import Logging
import Model
import Namespace
import Platform
import Synchronization
import Testing
import WriteBack

@testable import EmbeddedFileService

/// Volumes `/v0`, `/v1`, … on one simulated file system, and the service over them. Used by one task at a time, but
/// for the service itself.
final class SimulatedStore {
    let policy: ErasureCodingPolicy
    let paths: [String]
    private(set) var disk: SimulatedFileSystem
    let clock = TestClock()
    var limits = SimulatedStore.smallLimits
    var bounds: StoreBounds = {
        var bounds = StoreBounds()
        // The disks are small.
        bounds.dump.minFreeBytes = 0
        bounds.dump.segmentBytes = 64 << 10
        bounds.journal.segmentBytes = 64 << 10
        bounds.journal.capacityBytes = 1 << 20
        bounds.journal.minFreeBytes = 0
        return bounds
    }()
    var log = SimulatedStore.quiet
    /// Where it is told to dump to; nil: to its volumes.
    var dumpDirectory: String?
    private(set) var opened: EmbeddedFileService?

    static let user = Credentials(uid: 1000, gid: 1000, groups: [])
    static let superuser = Credentials(uid: 0, gid: 0, groups: [])

    static let quiet: Logger = {
        var logger = Logger(label: "test")
        logger.logLevel = Glibc.getenv("SLUICE_TEST_LOG") == nil ? .critical : .info
        return logger
    }()

    /// Small enough that a few writes make drains, stalls and several groups.
    static var smallLimits: WriteBackLimits {
        var limits = WriteBackLimits()
        limits.drainChunkBytes = 24 << 10
        limits.maxDrainBytes = 48 << 10
        limits.maxPendingBytes = 128 << 10
        limits.concurrentDrains = 4
        limits.idleTime = .seconds(5)
        return limits
    }

    /// A formatted store that is not open.
    /// - Parameter volumes: k + m unless given.
    init(_ policy: String = "RS-3-2-4k", volumes: Int? = nil) throws {
        self.policy = try ErasureCodingPolicy(policy)
        let count = volumes ?? self.policy.totalUnits
        paths = (0..<count).map { "/v\($0)" }
        disk = try FormattedDisks.shared.copy(self.policy, paths)
    }

    var service: EmbeddedFileService {
        guard let opened else { preconditionFailure("the store is not open") }
        return opened
    }

    /// Serves the store. The root belongs to everybody.
    func open(without missing: Set<Int> = []) async throws {
        precondition(opened == nil)
        opened = try await EmbeddedFileService.open(
            volumes: paths.indices.filter { !missing.contains($0) }.map { paths[$0] }, fileSystem: disk, clock: clock,
            log: log, limits: limits, bounds: bounds, dumpDirectory: dumpDirectory)
    }

    /// Returns of how many files the last bytes could not be made durable.
    @discardableResult
    func close() async -> Int {
        let failures = await opened?.close()
        opened = nil
        return failures ?? 0
    }

    /// A power cut; the service that was there is let go. Not open afterwards.
    func crash(seed: UInt64) async {
        disk = disk.crash(seed: seed)
        await close()
    }

    func restart(without missing: Set<Int> = []) async throws {
        await close()
        try await open(without: missing)
    }

    /// A copy of the disk as it is, durable or not; only while the store is closed.
    func copyOfDisk() -> SimulatedFileSystem {
        precondition(opened == nil)
        let copy = disk.crash(seed: 0)
        disk = disk.crash(seed: 0)
        return copy
    }

    func use(_ disk: SimulatedFileSystem) {
        precondition(opened == nil)
        self.disk = disk
    }

    // MARK: Volumes

    /// The data and checksum files of all blocks on a volume.
    func blockFiles(_ index: Int) -> [String] { disk.blockFiles(of: paths[index]) }

    func orphans() async throws -> [String] { try await core.orphans(on: disk) }

    /// Closes it, after its rows were compared with each other, and a start has found neither orphans nor anything amiss.
    func endsWell() async throws {
        try await core.checkNamespace()
        try await restart()
        #expect(try await orphans().isEmpty)
        let status = await service.status()
        #expect(status.health == .green, "\(status.reasons)")
        await close()
    }

    var allBlockFiles: [String] { paths.indices.flatMap(blockFiles) }

    enum Damage: CaseIterable {
        case flippedBits, truncated, emptied
    }

    /// Does to each block on a volume, behind everybody's back.
    func damageBlocks(of index: Int, _ damage: Damage, using random: inout SeededGenerator) {
        for path in blockFiles(index) {
            let size = disk.content(of: path)?.count ?? 0
            switch damage {
            case .flippedBits:
                guard size > 0 else { continue }
                for _ in 0..<3 { disk.flipBits(path, at: Int.random(in: 0..<size, using: &random), mask: 0x55) }
            case .truncated: disk.truncate(path, to: Int.random(in: 0...size / 2, using: &random))
            case .emptied: try? disk.remove(path)
            }
        }
    }

    var core: StoreCore { service.core }
}

/// Formatted disks by shape, each made once.
private final class FormattedDisks: Sendable {
    static let shared = FormattedDisks()
    private let disks = Mutex<[String: SimulatedFileSystem]>([:])

    func copy(_ policy: ErasureCodingPolicy, _ paths: [String]) throws -> SimulatedFileSystem {
        try disks.withLock { disks in
            let key = "\(policy) \(paths.count)"
            if disks[key] == nil {
                let disk = SimulatedFileSystem(directories: paths)
                var random = SeededGenerator(seed: 17)
                try EmbeddedFileService.format(
                    volumes: paths, policy: policy, fileSystem: disk, clock: TestClock(), random: &random)
                disks[key] = disk
            }
            // All is durable after format, so a power cut leaves an equal disk.
            guard let copy = disks[key]?.crash(seed: 0) else { preconditionFailure() }
            return copy
        }
    }
}

/// Time that stands still until told otherwise.
final class TestClock: SystemClock, @unchecked Sendable {
    private let time = Mutex((wall: Timestamp(seconds: 1_000_000, nanoseconds: 0), elapsed: Duration.zero))
    override func now() -> Timestamp { time.withLock { $0.wall } }
    override func elapsed() -> Duration { time.withLock { $0.elapsed } }

    func advance(seconds: Int64) {
        time.withLock {
            $0.wall = Timestamp(seconds: $0.wall.seconds + seconds, nanoseconds: 0)
            $0.elapsed += .seconds(seconds)
        }
    }

    /// Somebody sets the wall clock.
    func setWall(seconds: Int64) { time.withLock { $0.wall = Timestamp(seconds: seconds, nanoseconds: 0) } }
}

/// Lets a test hold a thread at a place, and know that it got there. Only the first thread is held.
final class Gate: Sendable {
    private let state = Mutex((arrived: false, isOpen: false))

    /// Called by the thread that is to be held.
    func pass() {
        let isFirst = state.withLock { state in
            defer { state.arrived = true }
            return !state.arrived
        }
        guard isFirst else { return }
        while !state.withLock({ $0.isOpen }) { sched_yield() }
    }

    /// Waits until a thread is held.
    func waitForArrival() async {
        while !state.withLock({ $0.arrived }) { await Task.yield() }
    }

    func open() { state.withLock { $0.isOpen = true } }
}

/// Yields until `condition` holds; fails the test when it never does, or not for minutes, as all tests run at once.
func eventually(
    _ what: Comment, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
) async rethrows {
    let clock = ContinuousClock()
    let deadline = clock.now + .seconds(300)
    while try await !condition() {
        guard clock.now < deadline else {
            Issue.record(what, sourceLocation: sourceLocation)
            return
        }
        await Task.yield()
    }
}

func pattern(_ count: Int, seed: UInt64) -> [UInt8] {
    var random = SeededGenerator(seed: seed)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 8)
    while bytes.count < count {
        let word = random.next()
        for shift in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: word >> (8 * UInt64(shift)))) }
    }
    bytes.removeLast(bytes.count - count)
    return bytes
}

func name(_ text: String) -> FileName {
    guard let name = try? FileName(Array(text.utf8)) else { preconditionFailure("bad name") }
    return name
}

/// The calls of the tests, as one user.
extension EmbeddedFileService {
    private var user: Credentials { SimulatedStore.superuser }

    func rootReference() async throws -> FileReference { try await root().file }

    /// A new file, in the root unless told otherwise.
    @discardableResult
    func make(_ text: String, in directory: FileReference? = nil) async throws -> FileReference {
        let parent: FileReference
        if let directory { parent = directory } else { parent = try await rootReference() }
        return try await create(name(text), in: parent, mode: .guarded(AttributeUpdate(mode: 0o644)), as: user)
            .entry.file
    }

    @discardableResult
    func makeDirectory(_ text: String) async throws -> FileReference {
        try await makeDirectory(name(text), in: rootReference(), attributes: AttributeUpdate(), as: user).entry.file
    }

    @discardableResult
    func write(
        _ bytes: [UInt8], to file: FileReference, at offset: UInt64 = 0, _ stability: WriteStability = .unstable
    ) async throws(FileError) -> WriteResult {
        try await write(Payload(bytes: bytes), to: file, offset: offset, stability: stability, as: user)
    }

    @discardableResult
    func commit(_ file: FileReference) async throws(FileError) -> CommitResult {
        try await commit(file, offset: 0, count: 0, as: user)
    }

    @discardableResult
    func truncate(_ file: FileReference, to size: UInt64) async throws(FileError) -> AttributeChange {
        try await setAttributes(of: file, to: AttributeUpdate(size: size), guardTime: nil, as: user)
    }

    func bytes(
        of file: FileReference, from offset: UInt64 = 0, count: Int = 1 << 30
    ) async throws(FileError) -> [UInt8] {
        try await read(file, offset: offset, count: count, as: user).payload.bytes
    }

    func find(_ text: String, in directory: FileReference? = nil) async throws -> FileReference {
        let parent: FileReference
        if let directory { parent = directory } else { parent = try await rootReference() }
        return try await lookUp(name(text), in: parent, as: user).file
    }

    @discardableResult
    func remove(_ text: String) async throws -> AttributeChange {
        try await remove(name(text), from: rootReference(), as: user)
    }

    /// All names of a directory but "." and "..".
    func entries(of directory: FileReference) async throws -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        var cookie: UInt64 = 0
        while true {
            // Few at a time, to go over the seams.
            let listing = try await list(directory, after: cookie, maxEntries: 5, withAttributes: true, as: user)
            entries += listing.entries
            guard let last = listing.entries.last, !listing.isAtEnd else { break }
            cookie = last.cookie
        }
        return entries.filter { !$0.name.isDot && !$0.name.isDotDot }
    }
}

extension EmbeddedFileService {
    /// All that has to be done once a second.
    func tick() async {
        settleIdleFiles()
        await checkVolumes()
    }
}
