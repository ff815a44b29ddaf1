// The dump's own files: where they are made, what a start finds, when there is no dump.

import FaultInjection
import Glibc
import Model
import Platform
import Synchronization
import Testing

@testable import WriteBack

extension DumpLog {
    /// With segments of a few writes, which goes on at once after a failure.
    static func small(
        in directory: String, _ fileSystem: FileSystem, _ clock: SystemClock,
        _ change: (inout Bounds) -> Void = { _ in },
        onFailure: @escaping @Sendable (DumpFailure) -> Void
    ) throws -> DumpLog {
        var bounds = Bounds()
        bounds.segmentBytes = 8192
        bounds.minFreeBytes = 0
        bounds.rest = .zero
        change(&bounds)
        try prepare(directory, fileSystem)
        return DumpLog(
            places: [.init(directory)], fileSystem: fileSystem, clock: clock, bounds: bounds, onFailure: onFailure)
    }
}

@Suite("Places of the dump", .timeLimit(.minutes(10)))
struct DumpPlacesTests {
    let clock = TestClock()
    let fileSystem = SimulatedFileSystem(directories: ["/dump"])

    private func dumpLog(_ change: (inout DumpLog.Bounds) -> Void = { _ in }) throws -> DumpLog {
        try .small(in: "/dump", fileSystem, clock, change) { _ in }
    }

    private var dumpFiles: [String] { get throws { try fileSystem.list("/dump") } }

    @Test("who comes after it was closed is told, and closing twice is closing once")
    func closed() async throws {
        let dump = try dumpLog()
        let places = try #require(await dump.append([Payload(bytes: [1, 2, 3])]))
        #expect(try await places[0].load().bytes == [1, 2, 3])
        await dump.close()
        await dump.close()
        #expect(try dumpFiles.isEmpty)
        await #expect(throws: WriteBackError.dumpLost) { _ = try await places[0].load() }
        #expect(await dump.append([Payload(bytes: [4])]) == nil)
    }

    @Test("a start removes what an earlier run has left, and nothing else")
    func start() throws {
        _ = try fileSystem.open("/dump/17.dump", .createNew)
        let others = ["notes.txt", "db.dump", "1-old.dump", ".dump"]
        for name in others { _ = try fileSystem.open("/dump/" + name, .createNew) }
        _ = try dumpLog()
        #expect(try dumpFiles.sorted() == others.sorted())
    }

    @Test("a disk that is nearly full, or may not be written to, is left alone")
    func leavesRoom() async throws {
        fileSystem.setCapacity(100_000, under: "/dump")
        let full = try dumpLog { $0.minFreeBytes = 95_000 }
        #expect(await full.append([Payload(bytes: [1])]) == nil)
        #expect(full.usage == DumpLog.Usage(segments: 0, bytes: 0, dumpedBytes: 0, failures: 1))
        #expect(try dumpFiles.isEmpty)
        await full.close()
        let usable = Mutex(true)
        let dump = DumpLog(
            places: [.init("/dump") { usable.withLock { $0 } }], fileSystem: fileSystem, clock: clock
        ) { _ in }
        #expect(dump.isReady)
        usable.withLock { $0 = false }
        #expect(!dump.isReady)
        await dump.close()
    }

    @Test("after a failure the dump rests for a while")
    func rests() async throws {
        let dump = try dumpLog { $0.rest = .seconds(10) }
        fileSystem.inject(Fault("/dump/", .write, code: EIO, count: 1))
        #expect(await dump.append([Payload(bytes: [1])]) == nil && !dump.isReady)
        clock.advance(seconds: 9)
        #expect(!dump.isReady)
        clock.advance(seconds: 1)
        #expect(dump.isReady)
        #expect(await dump.append([Payload(bytes: [1])]) != nil)
        await dump.close()
    }
}
