// The faults of the simulated file system: what a test relies on when it says that something survived.

import FaultInjection
import Glibc
import Platform
import Synchronization
import Testing

@Suite("The simulated file system")
struct SimulatedFileSystemTests {
    private let disk = SimulatedFileSystem(directories: ["/d", "/e"])

    /// A file with this content; neither it nor its name is synced.
    @discardableResult
    private func makeFile(_ path: String, _ content: [UInt8]) throws -> File {
        let file = try disk.open(path, .createNew)
        try write(content, to: file)
        return file
    }

    @Test("what was synced survives every crash, whatever else was going on", arguments: 0..<50 as Range<UInt64>)
    func syncedSurvives(seed: UInt64) throws {
        let file = try makeFile("/d/a", [UInt8](repeating: 1, count: 5000))
        try file.sync()
        try disk.syncDirectory("/d")
        try write([2, 2, 2], to: file, at: 6000)
        try makeFile("/d/b", [3])
        let after = disk.crash(seed: seed)
        #expect(Array(try #require(after.content(of: "/d/a")).prefix(5000)) == [UInt8](repeating: 1, count: 5000))
        #expect(failure { _ = try file.size() } == EIO)
        #expect(failure { _ = try disk.list("/d") } == EIO)
    }

    @Test("unsynced writes may survive, be lost or be torn at sectors")
    func unsyncedWrites() throws {
        var outcomes: Set<[UInt8]> = []
        for seed in 0..<200 as Range<UInt64> {
            let disk = SimulatedFileSystem(directories: ["/d"])
            let file = try disk.open("/d/a", .createNew)
            try write([UInt8](repeating: 0, count: 1024), to: file)
            try file.sync()
            try disk.syncDirectory("/d")
            try write([UInt8](repeating: 7, count: 1024), to: file)
            let content = try #require(disk.crash(seed: seed).content(of: "/d/a"))
            #expect(Set(content.prefix(512)).count == 1 && Set(content.suffix(512)).count == 1)
            outcomes.insert([content[0], content[512]])
        }
        #expect(outcomes == [[0, 0], [7, 7], [0, 7], [7, 0]])
    }

    @Test("an unsynced name may be lost, one that was synced stays; a rename is never done by half")
    func unsyncedNames() throws {
        var outcomes: Set<[String]> = []
        for seed in 0..<100 as Range<UInt64> {
            let disk = SimulatedFileSystem(directories: ["/d", "/e"])
            let file = try disk.open("/d/a", .createNew)
            try write([1], to: file)
            try file.sync()
            try disk.syncDirectory("/d")
            try disk.rename("/d/a", to: "/e/b")
            let after = disk.crash(seed: seed)
            outcomes.insert(try after.list("/d") + after.list("/e"))
        }
        #expect(outcomes == [["a"], ["b"]])
    }

    @Test(
        "syncing a rename's directory also settles the earlier changes of its names", arguments: 0..<20 as Range<UInt64>
    )
    func dependentNames(seed: UInt64) throws {
        try makeFile("/d/temporary", [1]).sync()
        try disk.rename("/d/temporary", to: "/e/final")
        try disk.syncDirectory("/e")
        let after = disk.crash(seed: seed)
        #expect(try after.list("/d") == [])
        #expect(after.content(of: "/e/final") == [1])
    }

    @Test("a lying disk loses what it said was synced")
    func lyingDisk() throws {
        var isLost = false
        for seed in 0..<20 as Range<UInt64> {
            let disk = SimulatedFileSystem(directories: ["/d"])
            disk.ignoresSync = true
            let file = try disk.open("/d/a", .createNew)
            try write([1], to: file)
            try file.sync()
            try disk.syncDirectory("/d")
            if disk.crash(seed: seed).content(of: "/d/a") != [1] { isLost = true }
        }
        #expect(isLost)
    }

    @Test("a fault strikes its operation under its prefix, after the calls it lets through, as often as told")
    func faults() throws {
        let file = try makeFile("/d/a", [1])
        let other = try makeFile("/e/a", [1])
        disk.inject(Fault("/d/", .sync, code: EIO, afterCalls: 1, count: 2))
        #expect([failure(file.sync), failure(file.sync), failure(file.sync), failure(file.sync)] == [0, EIO, EIO, 0])
        #expect(failure(other.sync) == 0)
        #expect(disk.callCount(.sync, under: "/d/") == 4)
        #expect(disk.callCount(.sync) == 5)
    }

    @Test("a short write leaves its first bytes and fails")
    func shortWrite() throws {
        let file = try makeFile("/d/a", [1, 1, 1, 1])
        disk.inject(Fault("/d/a", .write, code: EIO, writtenBytes: 2))
        #expect(failure { try write([2, 2, 2, 2], to: file) } == EIO)
        #expect(disk.content(of: "/d/a") == [2, 2, 1, 1])
    }

    @Test("a full disk takes what fits, overwrites, and has room again after a removal")
    func capacity() throws {
        disk.setCapacity(10, under: "/d/")
        let file = try makeFile("/d/a", [UInt8](repeating: 1, count: 8))
        #expect(failure { try write([2, 2, 2, 2], to: file, at: 8) } == ENOSPC)
        #expect(try file.size() == 10)
        try write([3, 3], to: file, at: 8)
        #expect(try disk.space("/d").availableBytes == 0)
        try makeFile("/e/a", [UInt8](repeating: 1, count: 100))
        try disk.remove("/d/a")
        try makeFile("/d/b", [UInt8](repeating: 1, count: 10))
    }

    @Test("a disk that disappears answers ENOENT by name and EIO to open files, and can come back")
    func disappears() throws {
        let file = try makeFile("/d/a", [1])
        disk.disappear("/d/")
        #expect(failure { _ = try disk.open("/d/a", .read) } == ENOENT)
        #expect(failure { _ = try disk.list("/d") } == ENOENT)
        #expect(try disk.status("/d/a") == nil)
        #expect(failure { _ = try bytes(of: file, count: 1) } == EIO)
        disk.reappear("/d/")
        #expect(try bytes(of: file, count: 1) == [1])
    }

    @Test("the power goes after the calls that were still granted")
    func powerLoss() throws {
        disk.losePower(afterCalls: 2)
        let file = try disk.open("/d/a", .createNew)
        try write([1], to: file)
        #expect(disk.hasPower)
        #expect(failure { try write([2], to: file) } == EIO)
        #expect(!disk.hasPower)
        #expect(failure { _ = try file.size() } == EIO)
    }

    @Test("a hook runs before the call and may use the file system")
    func hooks() throws {
        let file = try makeFile("/d/a", [1])
        let seen = Mutex<[UInt8]?>(nil)
        disk.before(.write, under: "/d/a") { [disk] in seen.withLock { $0 = disk.content(of: "/d/a") } }
        try write([2], to: file)
        #expect(seen.withLock { $0 } == [1])
        #expect(disk.content(of: "/d/a") == [2])
    }

    @Test("damage from outside is seen and durable")
    func damage() throws {
        try makeFile("/d/a", [1, 2, 3])
        try disk.syncDirectory("/d")
        disk.flipBits("/d/a", at: 0, mask: 0x80)
        disk.overwrite("/d/a", at: 1, with: [9])
        disk.truncate("/d/a", to: 2)
        #expect(disk.content(of: "/d/a") == [0x81, 9])
        #expect(disk.crash(seed: 1).content(of: "/d/a") == [0x81, 9])
    }

    @Test("the end of a process loses nothing, and makes nothing durable")
    func outlive() throws {
        let file = try makeFile("/d/a", [1, 2])
        try makeFile("/d/b", [3])
        try disk.syncDirectory("/d")
        try file.sync()
        try write([4], to: file)
        let next = disk.outlive()
        #expect(failure { _ = try file.size() } == EIO)
        #expect(next.content(of: "/d/a") == [4, 2])
        #expect(next.content(of: "/d/b") == [3])
        // Not synced by that: some crash loses it.
        let left = try (0..<50 as Range<UInt64>).map { seed in
            let disk = SimulatedFileSystem(directories: ["/d"])
            let file = try disk.open("/d/a", .createNew)
            try write([1], to: file)
            try file.sync()
            try disk.syncDirectory("/d")
            try write([2], to: file)
            return disk.outlive().crash(seed: seed).content(of: "/d/a")
        }
        #expect(Set(left) == [[1], [2]])
    }

    @Test("whoever observes it is told of each call and how it ended")
    func observer() throws {
        let seen = Mutex<[String]>([])
        disk.observe(
            before: { operation in seen.withLock { $0.append("before \(operation)") } },
            after: { call in
                seen.withLock {
                    $0.append("\(call.operation) \(call.path) \(call.bytes?.count ?? 0) \(call.error?.code ?? 0)")
                }
            })
        let file = try makeFile("/d/a", [1, 2, 3])
        disk.inject(Fault("/d/a", .sync, code: EIO))
        #expect(failure { try file.sync() } == EIO)
        #expect(
            seen.withLock { $0 } == [
                "before open", "open /d/a 0 0", "before write", "write /d/a 3 0", "before sync", "sync /d/a 0 \(EIO)",
            ])
    }
}
