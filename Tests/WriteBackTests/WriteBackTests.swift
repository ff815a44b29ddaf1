// Write-back over a sink in memory: COMMIT, order, truncate, errors, budget.

import FaultInjection
import LockFree
import Model
import Platform
import Synchronization
import Testing

@testable import WriteBack

@Suite("Write-back", .timeLimit(.minutes(10)))
struct WriteBackTests {
    let sink = MemorySink()
    let clock = TestClock()
    let epochs = EpochDomain()
    let file: OpenFileContext

    init() {
        file = OpenFileContext(attributes: testAttributes(FileID(rawValue: 7)), sequence: .zero, epochs: epochs)
    }

    private func writeBack(_ change: (inout WriteBackLimits) -> Void = { _ in }) -> WriteBack<MemorySink> {
        var limits = WriteBackLimits()
        limits.drainChunkBytes = 24
        limits.maxDrainBytes = 48
        change(&limits)
        return WriteBack(sink: sink, clock: clock, limits: limits, epochs: epochs)
    }

    private func write(
        _ bytes: [UInt8], at offset: UInt64, with writeBack: WriteBack<MemorySink>, stable: Bool = false
    ) async throws {
        _ = try await writeBack.write(Payload(bytes: bytes), to: file, at: offset, isStable: stable)
    }

    @Test("a COMMIT publishes everything that was written before it, also beyond a gap")
    func commitPastGap() async throws {
        let writeBack = writeBack()
        try await write([1, 2, 3], at: 0, with: writeBack)
        try await write([9], at: 10, with: writeBack)
        #expect(sink.durable(file.fileID).isEmpty)
        try await writeBack.commit(file)
        #expect(sink.durable(file.fileID) == [1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 9])
        #expect(sink.published(file.fileID).isEmpty && sink.journal.state.withLock { $0.liveClaims } == 2)
        #expect(await writeBack.settleAll() == 0)
        #expect(sink.published(file.fileID) == [1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 9])
        #expect(writeBack.usage.pendingBytes == 0)
    }

    @Test("a COMMIT does not wait for what arrives after it")
    func steadyWriter() async throws {
        let writeBack = writeBack()
        try await write([1], at: 0, with: writeBack)
        sink.hold()
        async let committed: Void = writeBack.commit(file)
        await sink.waitForDrains(1)
        try await write([2], at: 0, with: writeBack)
        sink.letGo()
        try await committed
        #expect(sink.durable(file.fileID) == [1])
        // The newer byte is still pending, and still what readers see.
        #expect(try file.snapshot(ByteRange(0, 10)).pending.map(\.content) == [[2]])
        try await writeBack.commit(file)
        #expect(sink.durable(file.fileID) == [2])
    }

    @Test("bytes stay visible until they are published")
    func visibleWhileDraining() async throws {
        let writeBack = writeBack()
        let bytes = (1...14).map { UInt8($0) }
        try await write(bytes, at: 0, with: writeBack)
        sink.hold()
        async let committed: Void = writeBack.commit(file)
        await sink.waitForDrains(1)
        #expect(try file.snapshot(ByteRange(0, 20)).pending.map(\.content) == [bytes])
        sink.letGo()
        try await committed
        // What was journaled stays.
        #expect(sink.published(file.fileID) == Array(bytes[..<12]) && sink.durable(file.fileID) == bytes)
        #expect(try file.snapshot(ByteRange(0, 20)).pending.map(\.content) == [[13, 14]])
    }

    @Test("a drain that can wait takes whole stripes of long runs only")
    func fullStripes() async throws {
        let writeBack = writeBack()
        // 44 + 12 bytes in two runs: four stripes of 12, put one behind the other. Three are not enough out of order.
        try await write(Array(repeating: 1, count: 44), at: 1, with: writeBack)
        try await write(Array(repeating: 2, count: 12), at: 100, with: writeBack)
        await sink.waitForDrains(1)
        let plan = sink.state.withLock { $0.plans[0] }
        #expect(plan.runs.map(\.range) == [ByteRange(1, 45), ByteRange(100, 104)])
        #expect(!plan.coversEverything && !plan.rests)
    }

    @Test(
        "what goes on where the file has been drained up to is drained first, in order, and the rest waits for its gap")
    func inOrder() async throws {
        let writeBack = writeBack()
        try await write(Array(repeating: 1, count: 12), at: 100, with: writeBack)
        try await write(Array(repeating: 2, count: 26), at: 0, with: writeBack)
        await sink.waitForDrains(1)
        #expect(sink.state.withLock { $0.plans[0].runs.map(\.range) } == [ByteRange(0, 24)])
        while file.nextOffset != 24 { await Task.yield() }
        try await write(Array(repeating: 3, count: 30), at: 26, with: writeBack)
        await sink.waitForDrains(2)
        #expect(sink.state.withLock { $0.plans[1].runs.map(\.range) } == [ByteRange(24, 48)])
        try await writeBack.commit(file)
        // What lies behind the gap was drained as it stands, being a stripe; what is left of the run is in the journal.
        #expect(file.nextOffset == 48 && sink.published(file.fileID).count == 112)
        clock.advance(seconds: 10)
        writeBack.tick()
        while writeBack.usage.restingFiles != 1 { await Task.yield() }
        #expect(file.phase == .resting && writeBack.usage.restingBytes == 8)
        // The gap becomes a hole when nothing is pending any more.
        #expect(await writeBack.settleAll() == 0)
        #expect(file.nextOffset == 112)
    }

    @Test("a truncate voids what a drain has in hand, and a COMMIT after it is answered")
    func truncateWhileDraining() async throws {
        let writeBack = writeBack()
        try await write([1, 2, 3, 4], at: 0, with: writeBack)
        sink.hold()
        async let committed: Void = writeBack.commit(file)
        await sink.waitForDrains(1)
        let truncated = file.truncate(to: 2) { _ in }
        writeBack.release(truncated.freedBytes)
        #expect(file.attributes.size == 2)
        sink.letGo()
        try await committed
        #expect(sink.durable(file.fileID) == [1, 2])
        try await writeBack.commit(file)
        #expect(await writeBack.settleAll() == 0)
        #expect(sink.published(file.fileID) == [1, 2])
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }
    }

    @Test("a change returns the attributes right around it, and one that is refused changes nothing")
    func attributeSteps() async throws {
        struct Refused: Error {}
        let writeBack = writeBack()
        try await write([1, 2, 3, 4], at: 0, with: writeBack)
        let written = file.attributes
        let now = Timestamp(seconds: 70, nanoseconds: 0)
        let mode = file.updateAttributes {
            $0.mode = 0o600
            $0.touchChangeTime(now)
        }
        #expect(mode.before == written && written.usedBytes == 4)
        var expected = written
        (expected.mode, expected.changeTime) = (0o600, mode.after.changeTime)
        #expect(mode.after == expected && mode.after.changeTime > written.changeTime)
        let truncated = file.truncate(to: 1) { $0.touch(now) }
        #expect(truncated.step.before == mode.after)
        #expect(truncated.step.after.size == 1 && truncated.step.after.usedBytes == 1)
        #expect(truncated.step.after == file.attributes)
        writeBack.release(truncated.freedBytes)

        #expect(throws: Refused.self) {
            try file.updateAttributes { attributes throws(Refused) in
                attributes.mode = 0
                throw Refused()
            }
        }
        #expect(throws: Refused.self) {
            try file.truncate(to: 0) { attributes throws(Refused) in
                attributes.mode = 0
                throw Refused()
            }
        }
        #expect(file.attributes == truncated.step.after && file.sequence == truncated.sequence)
        try await writeBack.commit(file)
        #expect(sink.durable(file.fileID) == [1])
    }

    @Test("a COMMIT whose bytes were all truncated away waits for a turn of the store, not for ever")
    func commitOfTruncatedBytes() async throws {
        let writeBack = writeBack()
        try await write([1, 2, 3, 4], at: 0, with: writeBack)
        writeBack.release(file.truncate(to: 0) { _ in }.freedBytes)
        try await writeBack.commit(file)
        #expect(sink.state.withLock { $0.plans.map(\.runs.count) } == [0])
        let again = file.truncate(to: 0) { _ in }
        file.truncateIsDurable(again.sequence)
        try await writeBack.commit(file)
        #expect(sink.state.withLock { $0.plans.count } == 1)
    }

    @Test("an error is told to who waits, changes the verifier once, and leaves the store's state")
    func failedDrain() async throws {
        let writeBack = writeBack()
        try await write([1, 2], at: 0, with: writeBack)
        try await writeBack.commit(file)
        try await write([3, 4, 5], at: 1, with: writeBack)
        sink.state.withLock { $0.nextErrors = [.noSpace] }
        await #expect(throws: WriteBackError.noSpace) { try await writeBack.commit(file) }
        #expect(sink.state.withLock { $0.lost.count } == 1)
        // What was journaled before is there.
        #expect(file.attributes.size == 2)
        #expect(try file.snapshot(ByteRange(0, 10)).pending.map(\.content) == [[1, 2]])
        // A client was told: the file can be written again.
        try await write([6], at: 0, with: writeBack)
        try await writeBack.commit(file)
        #expect(sink.durable(file.fileID) == [6, 2])
        #expect(await writeBack.settleAll() == 0)
        #expect(sink.published(file.fileID) == [6, 2])
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }
    }

    @Test("an error that nobody waited for is sticky until the next WRITE or COMMIT was told")
    func stickyError() async throws {
        let writeBack = writeBack()
        sink.state.withLock { $0.nextErrors = [.inputOutput] }
        sink.hold()
        try await write(Array(repeating: 1, count: 24), at: 0, with: writeBack)
        await sink.waitForDrains(1)
        sink.letGo()
        while sink.state.withLock({ $0.lost.isEmpty }) { await Task.yield() }
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }
        await #expect(throws: WriteBackError.inputOutput) { try await writeBack.commit(file) }
        try await writeBack.commit(file)
        #expect(sink.state.withLock { $0.lost.count } == 1)
    }

    @Test("a FILE_SYNC write whose bytes were lost is told, also when somebody else was told before it waits")
    func stableWriteAfterFailure() async throws {
        func write() throws(WriteBackError) -> OpenFileContext.Acceptance {
            try file.write(
                Payload(bytes: [1]), at: 0, isStable: true, now: clock.now(), elapsed: .zero, clearingModeBits: 0,
                limits: WriteBackLimits())
        }
        let accepted = try write()
        #expect(file.request(.everything))
        guard
            case .drain(let turn) = file.takeTurn(
                stripeSizeBytes: 12, limits: WriteBackLimits(), journalHasRoom: { _ in true }, canDump: { false })
        else {
            Issue.record("nothing to drain")
            return
        }
        #expect(!file.beginFailure(.noSpace))
        #expect(file.endFailure(.noSpace, isReverted: true, turn: turn).freedBytes == accepted.addedBytes)
        #expect(throws: WriteBackError.noSpace) { _ = try write() }
        await #expect(throws: WriteBackError.noSpace) {
            try await file.waitUntilDurable(since: accepted.failureCount) {}
        }
        // Who writes from here on is not concerned.
        let writeBack = writeBack()
        try await self.write([2], at: 0, with: writeBack, stable: true)
    }

    @Test("between the loss of bytes and the size without them, a READ fails: it does not make zeros of them")
    func readDuringFailure() async throws {
        let accepted = try file.write(
            Payload(bytes: [1, 2, 3]), at: 0, isStable: false, now: clock.now(), elapsed: .zero, clearingModeBits: 0,
            limits: WriteBackLimits())
        #expect(!accepted.mustSchedule && file.request(.everything))
        guard
            case .drain(let turn) = file.takeTurn(
                stripeSizeBytes: 12, limits: WriteBackLimits(), journalHasRoom: { _ in true }, canDump: { false })
        else {
            Issue.record("nothing to drain")
            return
        }
        #expect(file.beginFailure(.inputOutput))
        #expect(throws: WriteBackError.inputOutput) { try file.snapshot(ByteRange(0, 3)) }
        file.revert(size: 0, usedBytes: 0)
        _ = file.endFailure(.inputOutput, isReverted: true, turn: turn)
        #expect(try file.snapshot(ByteRange(0, 3)).attributes.size == 0)
    }

    @Test("a file that the store can't say anything of after a failed drain keeps failing")
    func notReverted() async throws {
        let writeBack = writeBack()
        sink.state.withLock { state in
            state.nextErrors = [.inputOutput]
            state.cannotRevert = true
        }
        try await write([1, 2, 3], at: 0, with: writeBack)
        for _ in 0..<3 {
            await #expect(throws: WriteBackError.inputOutput) { try await writeBack.commit(file) }
            await #expect(throws: WriteBackError.inputOutput) { try await write([4], at: 0, with: writeBack) }
            #expect(throws: WriteBackError.inputOutput) { try file.snapshot(ByteRange(0, 3)) }
        }
        // Nothing is left to do for it.
        #expect(await writeBack.settleAll() == 0)
    }

    @Test("a FILE_SYNC write returns when it is published")
    func stableWrite() async throws {
        let writeBack = writeBack()
        try await write([5], at: 3, with: writeBack, stable: true)
        #expect(sink.durable(file.fileID) == [0, 0, 0, 5])
    }

    @Test("times are set at arrival, ctime strictly increases, a drain changes neither")
    func times() async throws {
        let writeBack = writeBack()
        try await write([1], at: 0, with: writeBack)
        let first = file.attributes
        try await write([2], at: 0, with: writeBack)
        let second = file.attributes
        #expect(second.changeTime > first.changeTime)
        #expect(second.modificationTime == clock.now())
        clock.advance(seconds: 60)
        try await writeBack.commit(file)
        #expect(file.attributes.changeTime == second.changeTime)
        #expect(file.attributes.modificationTime == second.modificationTime)
    }

    @Test("a byte is charged with the memory that it keeps, and a small write lets go of the large buffer it came in")
    func memoryOfSmallWrites() async throws {
        let writeBack = writeBack()
        var record = Payload(bytes: Array(repeating: 0, count: 64 << 10))
        record = record.slice(100..<101)
        _ = try await writeBack.write(record, to: file, at: 7, isStable: false)
        let one = writeBack.usage.pendingBytes
        #expect(one >= 256 && one < 8 << 10)
        for offset in 1...100 as ClosedRange<UInt64> {
            _ = try await writeBack.write(record, to: file, at: 7 + 2 * offset, isStable: false)
        }
        let all = writeBack.usage.pendingBytes
        #expect(all - one >= 100 * 256 && all - one < 100 * 1024)
        #expect(try file.snapshot(ByteRange(0, 1000)).pending.allSatisfy { $0.bytes.inMemory!.bufferBytes < 1024 })
        try await writeBack.commit(file)
        #expect(writeBack.usage.pendingBytes >= all && writeBack.usage.pendingBytes - all < 101 * 320)
        #expect(await writeBack.settleAll() == 0)
        #expect(writeBack.usage.pendingBytes == 0)
    }

    @Test("a file in many pieces is drained in turns, round by offset, and a COMMIT ends with what it is owed")
    func manyPieces() async throws {
        let writeBack = writeBack {
            $0.maxRunsPerTurn = 10; $0.maxWrites = 1 << 20
        }
        var expected = [UInt8](repeating: 0, count: 200)
        sink.hold()
        for index in 0..<100 {
            let place = index * 37 % 100 * 2
            expected[place] = UInt8(index + 1)
            try await write([UInt8(index + 1)], at: UInt64(place), with: writeBack)
        }
        async let committed: Void = writeBack.commit(file)
        await sink.waitForDrains(1)
        // While the first turn is out, everything is written again: what was promised is owed in the new bytes.
        for place in stride(from: 0, to: 200, by: 2) {
            expected[place] = 200
            try await write([200], at: UInt64(place), with: writeBack)
        }
        sink.letGo()
        try await committed
        // The first turn's bytes are durable as they were or as they are now; all others are the new ones.
        let published = sink.durable(file.fileID)
        #expect(published.count == 199)
        for place in stride(from: 20, to: 200, by: 2) { #expect(published[place] == 200, "at \(place)") }
        #expect(sink.state.withLock { $0.plans.allSatisfy { $0.runs.count <= 10 } })
        try await writeBack.commit(file)
        #expect(sink.durable(file.fileID) == Array(expected.dropLast()))
    }

    @Test("a writer who makes very many pieces waits until they are drained")
    func tooManyPieces() async throws {
        let writeBack = writeBack {
            $0.maxWrites = 20; $0.maxRunsPerTurn = 4
        }
        for index in 0..<1000 as Range<UInt64> {
            try await write([1], at: index * 10, with: writeBack)
            #expect(try file.snapshot(ByteRange(0, 10_000)).pending.count <= 20)
        }
        try await writeBack.commit(file)
        #expect(sink.durable(file.fileID).count { $0 == 1 } == 1000)
    }

    @Test("a file that rests is settled and forgotten")
    func settles() async throws {
        let writeBack = writeBack()
        try await write([1, 2, 3], at: 0, with: writeBack)
        writeBack.tick()
        #expect(sink.state.withLock { $0.plans.isEmpty })
        clock.advance(seconds: 10)
        writeBack.tick()
        await sink.waitForDrains(1)
        #expect(sink.state.withLock { $0.plans[0].rests })
        #expect(await writeBack.settleAll() == 0)
        #expect(file.isClean && writeBack.usage.openFiles == 0)
        #expect(sink.durable(file.fileID) == [1, 2, 3])
    }

    @Test("a failed FILE_SYNC write was never acknowledged, so the verifier stays")
    func failedStableWrite() async throws {
        let writeBack = writeBack()
        sink.state.withLock { $0.nextErrors = [.noSpace] }
        await #expect(throws: WriteBackError.noSpace) { try await write([1], at: 0, with: writeBack, stable: true) }
        #expect(sink.state.withLock { $0.lost.isEmpty })
    }

    @Test("a file that is removed while its error is sticky does not keep the gateway from stopping")
    func removedWithStickyError() async throws {
        let writeBack = writeBack()
        sink.state.withLock { $0.nextErrors = [.noSpace] }
        try await write([1, 2, 3], at: 0, with: writeBack)
        clock.advance(seconds: 10)
        writeBack.tick()
        await sink.waitForDrains(1)
        writeBack.release(file.remove())
        #expect(await writeBack.settleAll() == 0)
        #expect(writeBack.usage.openFiles == 0)
    }

    @Test("who waits for a file that is removed is told")
    func removed() async throws {
        let writeBack = writeBack()
        try await write([1], at: 0, with: writeBack)
        sink.hold()
        async let committed: Void = writeBack.commit(file)
        await sink.waitForDrains(1)
        writeBack.release(file.remove())
        do {
            try await committed
            Issue.record("a COMMIT of a removed file succeeded")
        } catch {
            #expect(error as? WriteBackError == .removed)
        }
        sink.letGo()
        await #expect(throws: WriteBackError.removed) { try await write([1], at: 0, with: writeBack) }
        #expect(sink.durable(file.fileID).isEmpty)
    }

    @Test("random writes, truncates and COMMITs end as a plain array of bytes would", arguments: 0..<20)
    func againstModel(seed: Int) async throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let writeBack = writeBack { $0.maxPendingBytes = 300 }
        var model: [UInt8] = []
        for _ in 0..<200 {
            switch Int.random(in: 0..<12, using: &random) {
            case 0:
                try await writeBack.commit(file)
            case 1:
                let size = Int.random(in: 0...model.count, using: &random)
                let truncated = file.truncate(to: UInt64(size)) { _ in }
                writeBack.release(truncated.freedBytes)
                sink.truncate(file.fileID, to: size)
                model = Array(model.prefix(size))
            default:
                let offset = Int.random(in: 0..<400, using: &random)
                let bytes = (0..<Int.random(in: 1...60, using: &random)).map { _ in
                    UInt8.random(in: 1...255, using: &random)
                }
                if model.count < offset + bytes.count {
                    model += Array(repeating: 0, count: offset + bytes.count - model.count)
                }
                model.replaceSubrange(offset..<offset + bytes.count, with: bytes)
                try await write(bytes, at: UInt64(offset), with: writeBack)
            }
        }
        try await writeBack.commit(file)
        var published = sink.durable(file.fileID)
        published += Array(repeating: 0, count: max(0, model.count - published.count))
        #expect(published == model, "seed \(seed)")
        #expect(file.attributes.size == UInt64(model.count))
    }

    @Test("many writers, truncates, COMMITs and readers at once leave nothing behind", arguments: 0..<6)
    func storm(seed: Int) async throws {
        let writeBack = writeBack {
            $0.maxPendingBytes = 256 << 10; $0.drainChunkBytes = 8 << 10; $0.maxDrainBytes = 16 << 10
        }
        let removesAtEnd = seed % 2 == 1
        await withTaskGroup(of: Void.self) { tasks in
            for task in 0..<6 {
                tasks.addTask { [file, sink] in
                    var random = SeededGenerator(seed: UInt64(seed) << 8 | UInt64(task))
                    for _ in 0..<300 {
                        // Refusals are what a removed file may answer.
                        switch Int.random(in: 0..<40, using: &random) {
                        case 0: try? await writeBack.commit(file)
                        case 1 where task == 0: writeBack.release(file.truncate(to: 5000) { _ in }.freedBytes)
                        case 2..<6: _ = try? await sink.read(file)
                        default:
                            let bytes = random.bytes(Int.random(in: 1...2000, using: &random))
                            _ = try? await writeBack.write(
                                Payload(bytes: bytes), to: file, at: UInt64.random(in: 0..<20_000, using: &random),
                                isStable: Int.random(in: 0..<10, using: &random) == 0)
                        }
                    }
                    if removesAtEnd && task == 0 { writeBack.release(file.remove()) }
                }
            }
        }
        #expect(await writeBack.settleAll() == 0)
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }
        #expect(file.isClean && file.heldBytes == 0)
        sink.state.withLock { $0.plans = [] }
        epochs.collectAll()
        #expect(epochs.liveBlocks == 0, "seed \(seed)")
    }
}
