// The dump's files themselves: which disk they are on, and what is told when one fails or hangs.

import FaultInjection
import Glibc
import Model
import Platform
import Synchronization
import Testing

@testable import WriteBack

@Suite("The files of a dump", .timeLimit(.minutes(10)))
struct DumpLogTests {
    let clock = TestClock()
    let fileSystem = SimulatedFileSystem(directories: ["/a", "/b", "/c"])
    private let observed = Observed()

    /// What the log told, and which disks it may write to.
    private final class Observed: Sendable {
        let failures = Mutex<[String]>([])
        let unusable = Mutex<Set<String>>([])
    }

    private func dumpLog(_ change: (inout DumpLog.Bounds) -> Void = { _ in }) -> DumpLog {
        var bounds = DumpLog.Bounds()
        bounds.segmentBytes = 8192
        bounds.minFreeBytes = 0
        change(&bounds)
        let places = ["/a", "/b", "/c"].map { [observed] directory in
            DumpLog.Place(directory) { observed.unusable.withLock { !$0.contains(directory) } }
        }
        return DumpLog(places: places, fileSystem: fileSystem, clock: clock, bounds: bounds) { [observed] failure in
            observed.failures.withLock { $0.append("\(failure)") }
        }
    }

    private func payload(_ byte: UInt8, count: Int = 1000) -> Payload {
        Payload(bytes: [UInt8](repeating: byte, count: count))
    }

    private var files: [String] {
        get throws {
            try ["/a", "/b", "/c"].flatMap { place in try fileSystem.list(place).sorted().map { place + "/" + $0 } }
        }
    }

    private var failures: [String] { observed.failures.withLock { $0 } }

    @Test("a segment is where the most room is; when that fails, the next is elsewhere, and what was dumped stays")
    func goesOn() async throws {
        fileSystem.setCapacity(1 << 20, under: "/a/")
        fileSystem.setCapacity(4 << 20, under: "/b/")
        fileSystem.setCapacity(2 << 20, under: "/c/")
        let dump = dumpLog()
        var first = try #require(await dump.append([payload(1)]))
        #expect(try files == ["/b/1.dump"])
        fileSystem.inject(Fault("/b/", .write, code: EIO))
        #expect(await dump.append([payload(2)]) == nil)
        #expect(failures == ["pwrite /b/1.dump: Input/output error"])
        // Not a moment later.
        #expect(dump.isReady)
        let second = try #require(await dump.append([payload(3)]))
        #expect(try files == ["/b/1.dump", "/c/2.dump"])
        fileSystem.removeFaults()
        // A disk that has failed isn't the first choice again, though it has more room.
        clock.advance(seconds: 60)
        let third = try #require(await dump.append([payload(4, count: 8000)]))
        #expect(try files == ["/b/1.dump", "/c/2.dump", "/c/3.dump"])
        // Nor is one that may not be written to any more, even if there is room in its segment.
        observed.unusable.withLock { $0 = ["/c"] }
        let fourth = try #require(await dump.append([payload(5, count: 100)]))
        #expect(try files == ["/a/4.dump", "/b/1.dump", "/c/2.dump", "/c/3.dump"])
        for (places, byte) in [(first, 1), (second, 3), (third, 4), (fourth, 5)] as [([DumpPlace], UInt8)] {
            #expect(try await places[0].load().bytes.allSatisfy { $0 == byte })
        }
        // What could not be written counts until its file is gone.
        #expect(dump.usage.segments == 4 && dump.usage.failures == 1 && dump.usage.bytes == 11_100)
        // Removal from a disk that fails is tried.
        fileSystem.inject(Fault("/b/", .remove, code: EIO, count: 1))
        first = []
        await dump.settled()
        #expect(failures.last == "unlink /b/1.dump: Input/output error")
        #expect(dump.usage.segments == 3 && dump.usage.bytes == 9100)
        withExtendedLifetime((second, third, fourth)) {}
        await dump.close()
        #expect(try files.isEmpty)
    }

    @Test("when no disk may be written to there is no dump, and the one that failed is asked again after its rest")
    func nowhere() async throws {
        let dump = dumpLog()
        observed.unusable.withLock { $0 = ["/a", "/b", "/c"] }
        #expect(!dump.isReady && dump.obstacle == .noPlace)
        observed.unusable.withLock { $0 = ["/a", "/c"] }
        fileSystem.inject(Fault("/b", .space, code: EIO, count: 1))
        #expect(await dump.append([payload(1)]) == nil)
        let error = IOError(code: EIO, operation: "statvfs", path: "/b")
        #expect(!dump.isReady && dump.obstacle == .inputOutput(error))
        clock.advance(seconds: 10)
        #expect(dump.isReady)
        #expect(await dump.append([payload(1)]) != nil)
        await dump.close()
    }

    @Test("a lack of descriptors is no disk's fault: all of them rest")
    func shortage() async throws {
        let dump = dumpLog()
        fileSystem.inject(Fault("/a/", .open, code: EMFILE, count: 1))
        #expect(await dump.append([payload(1)]) == nil)
        #expect(!dump.isReady)
        clock.advance(seconds: 10)
        let places = try #require(await dump.append([payload(1)]))
        #expect(try files == ["/a/2.dump"])
        withExtendedLifetime(places) {}
        await dump.close()
    }

    @Test("what can't be read back is counted, says why, and lets what follows go elsewhere", arguments: 0..<3)
    func failedReads(kind: Int) async throws {
        let dump = dumpLog()
        let places = try #require(await dump.append([payload(1), payload(2)]))
        let expected: String
        switch kind {
        case 0:
            fileSystem.inject(Fault("/a/", .read, code: EIO))
            expected = "pread /a/1.dump: Input/output error, 1000 bytes at 1000"
        case 1:
            fileSystem.truncate("/a/1.dump", to: 1400)
            expected = "/a/1.dump: of 1000 bytes at 1000 only 400 are there"
        default:
            fileSystem.flipBits("/a/1.dump", at: 1999, mask: 1)
            expected = "/a/1.dump: 1000 bytes at 1000 have another checksum than when they were written"
        }
        await #expect(throws: WriteBackError.dumpLost) { _ = try await places[1].load() }
        #expect(failures == [expected])
        #expect(dump.usage.failedReads == 1 && dump.usage.failures == 0)
        if kind > 0 { #expect(try await places[0].load().bytes == [UInt8](repeating: 1, count: 1000)) }
        let next = try #require(await dump.append([payload(3)]))
        #expect(try files == ["/a/1.dump", "/b/2.dump"])
        withExtendedLifetime(next) {}
        await dump.close()
    }

    /// Holds the thread that writes, each time until it is let go.
    private final class Hold: Sendable {
        private let state = Mutex((arrived: 0, left: 0))

        func pass() {
            let number = state.withLock { state in
                state.arrived += 1
                return state.arrived
            }
            while state.withLock({ $0.left < number }) { sched_yield() }
        }

        func waitForArrival(_ number: Int) async {
            while state.withLock({ $0.arrived < number }) { await Task.yield() }
        }

        func letGo() { state.withLock { $0.left += 1 } }
    }

    @Test("who waits for a disk that hangs is let go, and what was written in vain goes when it answers")
    func givenUp() async throws {
        let dump = dumpLog()
        let hold = Hold()
        fileSystem.before(.write, under: "/a/") { hold.pass() }
        async let first = dump.append([payload(1)])
        await hold.waitForArrival(1)
        async let second = dump.append([payload(2)])
        clock.advance(seconds: 5)
        dump.giveUpHanging()
        clock.advance(seconds: 1)
        while dump.usage.failures < 2 {
            await Task.yield()
            dump.giveUpHanging()
        }
        #expect(await first == nil)
        #expect(await second == nil)
        #expect(!dump.isReady && !dump.isOutOfUse)
        hold.letGo()
        await dump.settled()
        #expect(dump.isReady && dump.usage.failures == 2)
        // The second was never begun; the first has a segment that nobody needs.
        while dump.usage.segments > 0 { await dump.settled() }
        #expect(try files.isEmpty && dump.usage.bytes == 0)
        async let third = dump.append([payload(3)])
        await hold.waitForArrival(2)
        hold.letGo()
        #expect(try await third?.first?.load().bytes == payload(3).bytes)
        await dump.close()
    }

    @Test("a disk that has not given back what it took gets nothing more, though it takes it")
    func badForGood() async throws {
        let dump = dumpLog()
        observed.unusable.withLock { $0 = ["/b", "/c"] }
        let places = try #require(await dump.append([payload(1)]))
        fileSystem.inject(Fault("/a/", .read, code: EIO, count: 1))
        await #expect(throws: WriteBackError.dumpLost) { _ = try await places[0].load() }
        clock.advance(seconds: 3600)
        #expect(!dump.isReady && dump.isOutOfUse)
        #expect(await dump.append([payload(2)]) == nil)
        // What it has can still be tried.
        #expect(try await places[0].load().bytes == payload(1).bytes)
        observed.unusable.withLock { $0 = [] }
        clock.advance(seconds: 10)
        #expect(dump.isReady)
        await dump.close()
    }

    @Test("while a disk hangs nothing more is to be dumped; one that is only busy doesn't hang")
    func hangs() async throws {
        let dump = dumpLog()
        let hold = Hold()
        fileSystem.before(.write, under: "/a/") { hold.pass() }
        async let first = dump.append([payload(1)])
        await hold.waitForArrival(1)
        async let second = dump.append([payload(2)])
        clock.advance(seconds: 4)
        #expect(dump.isReady)
        hold.letGo()
        #expect(await first != nil)
        // The second has waited for 4 s, but the disk did something meanwhile.
        await hold.waitForArrival(2)
        clock.advance(seconds: 5)
        #expect(dump.isReady)
        clock.advance(seconds: 1)
        #expect(!dump.isReady && dump.obstacle == .hangs(.seconds(6)))
        #expect(dump.obstacle?.description == "the disk has not answered for 6 s")
        hold.letGo()
        #expect(await second != nil)
        #expect(dump.isReady && dump.usage.failures == 0)
        await dump.close()
    }
}
