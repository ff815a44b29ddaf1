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
        try .small(in: "/dump", fileSystem, clock, change) { [failures] _ in failures.count.withLock { $0 += 1 } }
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
        #expect(try await sink.read(file) == expected)
        try await writeBack.commit(file)
        #expect(sink.durable(file.fileID) == expected)
        // Nothing of it is needed any more.
        #expect(await writeBack.settleAll() == 0)
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }
        await forgetAll(dump)
        #expect(try dumpFiles.isEmpty && dump.usage.bytes == 0 && dump.usage.segments == 0)
        await dump.close()
    }

    @Test(
        "what lies highest in the file is dumped first, and nothing whose memory would mostly stay", arguments: 0..<20)
    func highestFirst(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        let map = OffsetMap(epochs)
        var offsets: [UInt64] = []
        for (index, offset) in (0..<50).map({ UInt64($0) * 10_000 }).shuffled(using: &random).enumerated() {
            let isTiny = Int.random(in: 0..<4, using: &random) == 0
            let payload = PendingPayload(Payload(bytes: random.bytes(isTiny ? 10 : 3000)))
            map.publish(
                map.insert(payload, at: offset, count: isTiny ? 10 : 3000, charge: payload.heldBytes),
                WriteSequence(rawValue: UInt64(index) + 1))
            if !isTiny { offsets.append(offset) }
        }
        var limits = WriteBackLimits()
        limits.maxDumpBytes = 30_000
        let chosen = DrainPlanner(map, through: WriteSequence(rawValue: 50)).chooseToDump(limits)
        let expected = offsets.sorted(by: >).prefix(chosen.count)
        #expect(chosen.map(\.range.lowerBound) == Array(expected), "seed \(seed)")
        let bytes = chosen.reduce(0) { $0 + $1.pending.dumpableBytes }
        #expect(bytes >= 30_000 && bytes - chosen.last!.pending.dumpableBytes < 30_000)
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
        #expect(sink.durable(file.fileID) == expected)
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
        let published = sink.durable(file.fileID)
        for index in 0..<200 {
            #expect(published[index * 1500..<index * 1500 + 1000].allSatisfy { $0 == UInt8(index % 250 + 1) })
        }
        #expect(sink.state.withLock { $0.lost.isEmpty })
        await dump.close()
    }

    /// A file with more than the budget, some of which is in the dump, where its first segment was damaged.
    private func fileInDamagedDump(
        _ writeBack: WriteBack<MemorySink>, isShort: Bool
    ) async throws -> OpenFileContext {
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
        if isShort {
            fileSystem.truncate("/dump/1.dump", to: 17)
        } else {
            fileSystem.flipBits("/dump/1.dump", at: 17)
        }
        return file
    }

    @Test(
        "bytes that the dump does not give back are no error of a COMMIT: the changed verifier has them sent again",
        arguments: [true, false])
    func damagedDump(isShort: Bool) async throws {
        let dump = try dumpLog()
        let writeBack = writeBack(dump)
        let file = try await fileInDamagedDump(writeBack, isShort: isShort)
        await #expect(throws: WriteBackError.dumpLost) { _ = try await sink.read(file) }
        // A stable WRITE can't say that others must be sent again, but its own must.
        await #expect(throws: WriteBackError.dumpLost) {
            _ = try await writeBack.write(Payload(bytes: [1]), to: file, at: 0, isStable: true)
        }
        #expect(sink.state.withLock { $0.lost.map(\.1) } == [.dumpLost])
        #expect(file.attributes.size == 0)
        // Nothing is sticky: who has the bytes sends them again, and a COMMIT finds all durable.
        try await writeBack.commit(file)
        for index in 0..<10 as Range<UInt64> {
            _ = try await writeBack.write(
                Payload(bytes: [UInt8](repeating: 8, count: 1000)), to: file, at: index * 1000, isStable: false)
        }
        try await writeBack.commit(file)
        #expect(sink.durable(file.fileID) == [UInt8](repeating: 8, count: 10_000))
        #expect(sink.state.withLock { $0.lost.count } == 1)
        await dump.close()
    }

    @Test("a COMMIT that waits while dumped bytes are lost returns after the verifier has changed")
    func commitOfLostDump() async throws {
        let dump = try dumpLog()
        let writeBack = writeBack(dump)
        let file = try await fileInDamagedDump(writeBack, isShort: false)
        try await writeBack.commit(file)
        #expect(sink.state.withLock { $0.lost.map(\.1) } == [.dumpLost])
        await dump.close()
    }

    @Test("if the store does not know either what is left of the file, the loss is an error")
    func lostDumpNotReverted() async throws {
        let dump = try dumpLog()
        let writeBack = writeBack(dump)
        let file = try await fileInDamagedDump(writeBack, isShort: false)
        sink.state.withLock { $0.cannotRevert = true }
        for _ in 0..<2 {
            await #expect(throws: WriteBackError.inputOutput) { try await writeBack.commit(file) }
        }
        await #expect(throws: WriteBackError.inputOutput) {
            _ = try await writeBack.write(Payload(bytes: [1]), to: file, at: 0, isStable: false)
        }
        await dump.close()
    }

    @Test("what is written again and again in one place is drained, not dumped")
    func rewritten() async throws {
        let dump = try dumpLog()
        let writeBack = writeBack(dump)
        sink.stripeSizeBytes = 1 << 20
        let file = file(1)
        for round in 0..<300 {
            _ = try await writeBack.write(
                Payload(bytes: [UInt8](repeating: UInt8(round % 250), count: 1000)), to: file,
                at: UInt64(round % 3) * 900, isStable: false)
            #expect(writeBack.usage.pendingBytes <= 66 << 10)
        }
        #expect(dump.usage.dumpedBytes == 0 && sink.state.withLock { !$0.plans.isEmpty })
        try await writeBack.commit(file)
        #expect(sink.durable(file.fileID).count == 2800)
        await dump.close()
    }

    @Test("when the dump is full, what is in it of other files is drained, too, so that no old byte keeps its segment")
    func fullDumpIsEmptied() async throws {
        let dump = try dumpLog {
            $0.maxBytes = 100_000
            $0.rest = .seconds(3600)
        }
        let writeBack = writeBack(dump)
        sink.stripeSizeBytes = 1 << 20
        // A file that is never committed, nor rests, and whose bytes were dumped long ago.
        let old = file(1)
        for index in 0..<8 as Range<UInt64> {
            _ = try await writeBack.write(
                Payload(bytes: [UInt8](repeating: 7, count: 8000)), to: old, at: index * 10_000, isStable: false)
        }
        while old.heldBytes > 48 << 10 || old.phase != .active { await Task.yield() }
        let inDump = try old.snapshot(ByteRange(0, 1 << 20)).pending.filter { $0.bytes.inMemory == nil }.count
        #expect(inDump >= 3 && sink.durable(old.fileID).isEmpty)
        let other = file(2)
        var index: UInt64 = 0
        while dump.usage.failures == 0 {
            _ = try await writeBack.write(
                Payload(bytes: [UInt8](repeating: 8, count: 8000)), to: other, at: index * 10_000, isStable: false)
            index += 1
        }
        while try old.snapshot(ByteRange(0, 1 << 20)).pending.contains(where: {
            $0.bytes.inMemory == nil && !$0.bytes.isJournaled
        }) {
            await Task.yield()
        }
        #expect(sink.durable(old.fileID).count { $0 == 7 } == 64_000)
        try await writeBack.commit(other)
        #expect(await writeBack.settleAll() == 0)
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }
        await forgetAll(dump)
        #expect(dump.usage.segments == 0 && dump.usage.bytes == 0)
        await dump.close()
    }

    @Test("a loss that nobody waited for makes nothing fail afterwards: the verifier has told it")
    func lossWithoutWaiters() async throws {
        let dump = try dumpLog()
        let writeBack = writeBack(dump)
        let file = try await fileInDamagedDump(writeBack, isShort: false)
        writeBack.settle(file)
        while sink.state.withLock({ $0.lost.isEmpty }) || file.phase != .active { await Task.yield() }
        _ = try await writeBack.write(Payload(bytes: [1]), to: file, at: 0, isStable: true)
        #expect(sink.durable(file.fileID) == [1])
        await dump.close()
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
        sink.stripeSizeBytes = [12, 3000, 1 << 20][seed % 3]
        defer { if seed % 3 == 2 { #expect(dump.usage.dumpedBytes > 0, "seed \(seed)") } }
        if seed % 4 == 0 { fileSystem.inject(Fault("/dump/", .write, code: EIO, afterCalls: 20, count: 3)) }
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
                sink.truncate(file.fileID, to: size)
                models[index] = Array(models[index].prefix(size))
            case 2..<5:
                #expect(try await sink.read(file) == models[index], "seed \(seed)")
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
            var published = sink.durable(file.fileID)
            published += Array(repeating: 0, count: max(0, model.count - published.count))
            #expect(published == model, "seed \(seed)")
        }
        // A COMMIT is answered before the budget gets its bytes back. If it never does, the time limit ends this.
        #expect(await writeBack.settleAll() == 0)
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }
        #expect(sink.state.withLock { $0.lost.isEmpty })
        await forgetAll(dump)
        #expect(dump.usage.segments == 0 && dump.usage.bytes == 0, "seed \(seed)")
        await dump.close()
    }

    /// A turn that dumps one write of 100 kB, for what may happen meanwhile.
    private func dumpTurn(of file: OpenFileContext) throws -> OpenFileContext.Turn {
        _ = try file.write(
            Payload(bytes: [UInt8](repeating: 1, count: 100_000)), at: 1000, isStable: false, now: clock.now(),
            elapsed: .zero, clearingModeBits: 0, limits: WriteBackLimits())
        #expect(file.request(.relief))
        return file.takeTurn(
            stripeSizeBytes: 1 << 20, limits: WriteBackLimits(), journalHasRoom: { _ in false }, canDump: { true })
    }

    @Test(
        "what is truncated or removed while it is dumped is gone, and its memory is given back once",
        arguments: [true, false])
    func endsWhileDumped(isRemoved: Bool) async throws {
        let dump = try dumpLog()
        let file = file(1)
        guard case .dump(let turn) = try dumpTurn(of: file) else {
            Issue.record("not to be dumped")
            return
        }
        let held = file.heldBytes
        #expect(held > 100_000)
        var places = await dump.append(turn.payloads)
        // The turn is out: the entry is still there, and its memory charged.
        let freed = isRemoved ? file.remove() : file.truncate(to: 500) { _ in }.freedBytes
        #expect(freed == 0 && file.heldBytes == held)
        let end = file.finishDump(turn, places)
        #expect(end.freedBytes == held && file.heldBytes == 0 && !end.mustSchedule && file.isClean)
        places = nil
        await forgetAll(dump)
        #expect(epochs.liveBlocks == 0 && dump.usage.segments == 0)
        await dump.close()
    }

    @Test("a COMMIT that comes while payload is dumped is answered by a turn of its own")
    func commitWhileDumped() async throws {
        let dump = try dumpLog()
        let file = file(1)
        guard case .dump(let turn) = try dumpTurn(of: file) else {
            Issue.record("not to be dumped")
            return
        }
        async let committed: Void = file.waitUntilDurable { Issue.record("two turns at once") }
        while !file.hasWaiters { await Task.yield() }
        let places = await dump.append(turn.payloads)
        #expect(file.finishDump(turn, places).mustSchedule)
        guard
            case .drain(let drain) = file.takeTurn(
                stripeSizeBytes: 12, limits: WriteBackLimits(), journalHasRoom: { _ in false }, canDump: { true })
        else {
            Issue.record("not drained")
            return
        }
        var reader = DrainReader(drain.plan.runs[0])
        #expect(try await reader.nextPortion()?.bytes == [UInt8](repeating: 1, count: 100_000))
        _ = file.finishDrain(drain, hasOpenOutput: true)
        try await committed
        await dump.close()
    }

    @Test("of a dumped write that newer ones have cut into pieces it is read once, and only the pieces are kept")
    func piecesOfDumped() async throws {
        let dump = try dumpLog { $0.segmentBytes = 1 << 20 }
        let file = file(1)
        guard case .dump(let turn) = try dumpTurn(of: file) else {
            Issue.record("not to be dumped")
            return
        }
        let places = await dump.append(turn.payloads)
        _ = file.finishDump(turn, places)
        for index in 0..<1000 as Range<UInt64> {
            _ = try file.write(
                Payload(bytes: [2]), at: 1000 + 100 * index, isStable: false, now: clock.now(), elapsed: .zero,
                clearingModeBits: 0, limits: WriteBackLimits())
        }
        #expect(file.request(.everything))
        guard
            case .drain(let drain) = file.takeTurn(
                stripeSizeBytes: 12, limits: WriteBackLimits(), journalHasRoom: { _ in false }, canDump: { true })
        else {
            Issue.record("not drained")
            return
        }
        #expect(drain.plan.runs.count == 1 && drain.plan.runs[0].pieces.count == 2000)
        let before = fileSystem.callCount(.read, under: "/dump/")
        var reader = DrainReader(drain.plan.runs[0])
        let portion = try #require(try await reader.nextPortion())
        #expect(fileSystem.callCount(.read, under: "/dump/") == before + 1)
        #expect(portion.bytes == (0..<100_000).map { $0 % 100 == 0 ? 2 : 1 })
        #expect(portion.bufferBytes < 1 << 20)
        _ = file.finishDrain(drain, hasOpenOutput: true)
        await dump.close()
    }

    @Test("memory of what is truncated while a drain is out stays charged until the drain has ended")
    func truncateLoopWhileDraining() async throws {
        let writeBack = writeBack(try dumpLog()) { $0.drainChunkBytes = 1 << 20 }
        let file = file(1)
        _ = try await writeBack.write(Payload(bytes: [1]), to: file, at: 0, isStable: false)
        sink.hold()
        async let committed: Void = writeBack.commit(file)
        await sink.waitForDrains(1)
        var rounds = 0
        while writeBack.usage.pendingBytes < 60 << 10 {
            _ = try await writeBack.write(
                Payload(bytes: [UInt8](repeating: 2, count: 1000)), to: file, at: 0, isStable: false)
            writeBack.release(file.truncate(to: 0) { _ in }.freedBytes)
            rounds += 1
        }
        #expect(rounds < 64)
        sink.letGo()
        try await committed
        #expect(await writeBack.settleAll() == 0)
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }
        epochs.collectAll()
        #expect(epochs.liveBlocks == 0)
    }
}
