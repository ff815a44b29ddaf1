// The dump: memory stays inside its bound, nothing is lost or mixed up on the way, and a dump that fails is done without.

import FaultInjection
import Glibc
import LockFree
import Model
import Platform
import Synchronization
import Testing

@testable import WriteBack

@Suite("Dump", .timeLimit(.minutes(10)))
struct DumpTests {
    let sink = MemorySink()
    let clock = TestClock()
    let epochs = EpochDomain()
    let fileSystem = SimulatedFileSystem(directories: ["/dump"])
    let failures = Counter()

    final class Counter: Sendable {
        let count = Mutex(0)
    }

    private func file(_ id: UInt64) -> OpenFileContext {
        OpenFileContext(attributes: testAttributes(FileID(rawValue: id)), sequence: .zero, epochs: epochs)
    }

    private func dumpLog(_ change: (inout DumpLog.Bounds) -> Void = { _ in }) throws -> DumpLog {
        var bounds = DumpLog.Bounds()
        bounds.segmentBytes = 8192
        change(&bounds)
        return try DumpLog(directory: "/dump", fileSystem: fileSystem, bounds: bounds) { [failures] _ in
            failures.count.withLock { $0 += 1 }
        }
    }

    private func writeBack(_ dump: DumpLog, _ change: (inout WriteBackLimits) -> Void = { _ in }) -> WriteBack<
        MemorySink
    > {
        var limits = WriteBackLimits()
        limits.maxPendingBytes = 64 << 10
        limits.maxDumpBytes = 8 << 10
        change(&limits)
        return WriteBack(sink: sink, clock: clock, limits: limits, epochs: epochs, dump: dump)
    }

    /// What a reader sees of the file, without what has been drained.
    private func content(_ file: OpenFileContext, _ range: ByteRange) async throws -> [UInt64: UInt8] {
        var bytes: [UInt64: UInt8] = [:]
        for piece in try file.snapshot(range).pending {
            for (index, byte) in try await piece.bytes.load().bytes.enumerated() {
                bytes[piece.range.lowerBound + UInt64(index)] = byte
            }
        }
        return bytes
    }

    /// Lets go of what only the test still refers to, and waits for what follows from that.
    private func forgetAll(_ dump: DumpLog) async {
        sink.state.withLock { $0.plans = [] }
        epochs.collectAll()
        await dump.settled()
    }

    private var dumpFiles: [String] { get throws { try fileSystem.list("/dump") } }

    @Test("scattered writes beyond the budget are dumped, are read from there, and are drained by a COMMIT")
    func dumped() async throws {
        let dump = try dumpLog()
        let writeBack = writeBack(dump)
        let file = file(1)
        // 100 × 1000 bytes with gaps, none as long as a stripe would need to be: half as much again as the budget.
        sink.stripeSizeBytes = 1 << 20
        var expected: [UInt8] = []
        for index in 0..<100 as Range<UInt64> {
            let bytes = [UInt8](repeating: UInt8(index + 1), count: 1000)
            _ = try await writeBack.write(Payload(bytes: bytes), to: file, at: index * 1500, isStable: false)
            expected += bytes + (index < 99 ? [UInt8](repeating: 0, count: 500) : [])
            #expect(writeBack.usage.pendingBytes <= 66 << 10)
        }
        #expect(sink.state.withLock { $0.plans.isEmpty })
        #expect(dump.usage.dumpedBytes >= 40_000 && dump.usage.failures == 0)
        let seen = try await content(file, ByteRange(0, 1 << 20))
        #expect(seen.count == 100_000)
        for (offset, byte) in seen { #expect(expected[Int(offset)] == byte) }
        try await writeBack.commit(file)
        #expect(sink.published(file.fileID) == expected)
        // Nothing of it is needed any more.
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }
        await forgetAll(dump)
        #expect(try dumpFiles.isEmpty && dump.usage.bytes == 0 && dump.usage.segments == 0)
        await dump.close()
    }

    @Test("what lies highest in the file is dumped first")
    func highestFirst() async throws {
        let dump = try dumpLog()
        let writeBack = writeBack(dump)
        let file = file(1)
        sink.stripeSizeBytes = 1 << 20
        for index in 0..<70 as Range<UInt64> {
            _ = try await writeBack.write(
                Payload(bytes: [UInt8](repeating: 1, count: 600)), to: file, at: (69 - index) * 1000, isStable: false)
        }
        let pieces = try file.snapshot(ByteRange(0, 1 << 20)).pending
        let dumped = pieces.filter { $0.bytes.inMemory == nil }.map(\.range.lowerBound)
        // The last turn may be under way when later writes come, so: none that was there before the first turn is below.
        #expect(!dumped.isEmpty && dumped.count < 70)
        #expect(dumped.min()! > pieces.filter { $0.bytes.inMemory != nil }.map(\.range.lowerBound).min()!)
        await dump.close()
    }

    @Test("a full dump is done without: runs are drained out of order, inside the budget")
    func fullDump() async throws {
        let dump = try dumpLog { $0.maxBytes = 16_384 }
        let writeBack = writeBack(dump)
        let file = file(1)
        sink.stripeSizeBytes = 1 << 20
        var expected: [UInt8] = []
        for index in 0..<200 as Range<UInt64> {
            let bytes = [UInt8](repeating: UInt8(index % 250 + 1), count: 1000)
            _ = try await writeBack.write(Payload(bytes: bytes), to: file, at: index * 1500, isStable: false)
            expected += bytes + (index < 199 ? [UInt8](repeating: 0, count: 500) : [])
            #expect(writeBack.usage.pendingBytes <= 66 << 10)
        }
        #expect(sink.state.withLock { !$0.plans.isEmpty })
        #expect(dump.usage.failures > 0 && failures.count.withLock { $0 } == Int(dump.usage.failures))
        #expect(dump.usage.bytes <= 16_384)
        try await writeBack.commit(file)
        #expect(sink.published(file.fileID) == expected)
        await dump.close()
    }

    @Test("a disk that fails under the dump costs nothing that was accepted", arguments: [EIO, ENOSPC, EMFILE])
    func failingDump(code: Int32) async throws {
        let dump = try dumpLog()
        let writeBack = writeBack(dump)
        let file = file(1)
        sink.stripeSizeBytes = 1 << 20
        // At times, in the middle of a payload, for good.
        fileSystem.inject(Fault("/dump/", .write, code: code, afterCalls: 5, count: 2, writtenBytes: 10))
        fileSystem.inject(Fault("/dump/", .open, code: code, afterCalls: 3))
        for index in 0..<200 as Range<UInt64> {
            let bytes = [UInt8](repeating: UInt8(index % 250 + 1), count: 1000)
            _ = try await writeBack.write(Payload(bytes: bytes), to: file, at: index * 1500, isStable: false)
            #expect(writeBack.usage.pendingBytes <= 66 << 10)
        }
        try await writeBack.commit(file)
        let published = sink.published(file.fileID)
        for index in 0..<200 {
            #expect(published[index * 1500..<index * 1500 + 1000].allSatisfy { $0 == UInt8(index % 250 + 1) })
        }
        #expect(sink.state.withLock { $0.lost.isEmpty })
        await dump.close()
    }

    @Test(
        "a dump file that gives back other bytes fails the COMMIT and changes the verifier", arguments: [true, false])
    func damagedDump(isShort: Bool) async throws {
        let dump = try dumpLog()
        let writeBack = writeBack(dump)
        let file = file(1)
        sink.stripeSizeBytes = 1 << 20
        for index in 0..<100 as Range<UInt64> {
            _ = try await writeBack.write(
                Payload(bytes: [UInt8](repeating: 7, count: 1000)), to: file, at: index * 1500, isStable: false)
        }
        // What the first turn dumped, in the first file, has been written when it is found there.
        while try file.snapshot(ByteRange(0, 1 << 20)).pending.allSatisfy({ $0.bytes.inMemory != nil }) {
            await Task.yield()
        }
        let name = "1.dump"
        if isShort {
            fileSystem.truncate("/dump/" + name, to: 17)
        } else {
            fileSystem.flipBits("/dump/" + name, at: 17)
        }
        await #expect(throws: WriteBackError.inputOutput) {
            for piece in try file.snapshot(ByteRange(0, 1 << 20)).pending { _ = try await piece.bytes.load() }
        }
        await #expect(throws: WriteBackError.inputOutput) { try await writeBack.commit(file) }
        #expect(sink.state.withLock { $0.lost.count } == 1)
        await dump.close()
    }

    @Test("who comes after it was closed is told, and closing twice is closing once")
    func closed() async throws {
        let dump = try dumpLog()
        let places = try #require(await dump.append([Payload(bytes: [1, 2, 3])]))
        #expect(try await places[0].load().bytes == [1, 2, 3])
        await dump.close()
        await dump.close()
        #expect(try dumpFiles.isEmpty)
        await #expect(throws: WriteBackError.inputOutput) { _ = try await places[0].load() }
        #expect(await dump.append([Payload(bytes: [4])]) == nil)
    }

    @Test("a start removes what an earlier run has left, and nothing else")
    func start() throws {
        _ = try fileSystem.open("/dump/17.dump", .createNew)
        _ = try fileSystem.open("/dump/notes.txt", .createNew)
        _ = try dumpLog()
        #expect(try dumpFiles == ["notes.txt"])
    }

    @Test("random writes, truncates, READs and COMMITs of several files end as plain arrays would", arguments: 0..<30)
    func againstModel(seed: Int) async throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let dump = try dumpLog { $0.maxBytes = [1 << 14, 1 << 20][seed % 2] }
        let writeBack = writeBack(dump) {
            $0.maxPendingBytes = 16 << 10
            $0.maxDumpBytes = 2 << 10
            $0.drainChunkBytes = 4 << 10
        }
        sink.stripeSizeBytes = [12, 3000, 1 << 20].randomElement(using: &random)!
        if seed % 3 == 0 { fileSystem.inject(Fault("/dump/", .write, code: EIO, afterCalls: 20, count: 3)) }
        let files = (1...3).map { file(UInt64($0)) }
        var models: [[UInt8]] = Array(repeating: [], count: 3)
        for _ in 0..<300 {
            let index = Int.random(in: 0..<3, using: &random)
            let file = files[index]
            switch Int.random(in: 0..<20, using: &random) {
            case 0: try await writeBack.commit(file)
            case 1:
                let size = Int.random(in: 0...models[index].count, using: &random)
                let truncated = file.truncate(to: UInt64(size)) { _ in }
                writeBack.release(truncated.freedBytes)
                sink.state.withLock { $0.files[file.fileID] = $0.files[file.fileID].map { Array($0.prefix(size)) } }
                models[index] = Array(models[index].prefix(size))
            case 2..<5:
                // The sink first: what is pending is on top of it, and nothing is drained again after it was written.
                let seen = try await content(file, ByteRange(0, 40_000))
                for (offset, byte) in seen { #expect(models[index][Int(offset)] == byte, "seed \(seed)") }
            default:
                let offset = Int.random(in: 0..<30_000, using: &random)
                let bytes = random.bytes(Int.random(in: 1...1000, using: &random))
                if models[index].count < offset + bytes.count {
                    models[index] += Array(repeating: 0, count: offset + bytes.count - models[index].count)
                }
                models[index].replaceSubrange(offset..<offset + bytes.count, with: bytes)
                _ = try await writeBack.write(Payload(bytes: bytes), to: file, at: UInt64(offset), isStable: false)
            }
        }
        for (file, model) in zip(files, models) {
            try await writeBack.commit(file)
            var published = sink.published(file.fileID)
            published += Array(repeating: 0, count: max(0, model.count - published.count))
            #expect(published == model, "seed \(seed)")
        }
        // A COMMIT is answered before the budget gets its bytes back. If it never does, the time limit ends this.
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }
        #expect(sink.state.withLock { $0.lost.isEmpty })
        await forgetAll(dump)
        #expect(dump.usage.segments == 0 && dump.usage.bytes == 0, "seed \(seed)")
        await dump.close()
    }
}
