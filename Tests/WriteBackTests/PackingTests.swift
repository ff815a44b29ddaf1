// The journal under write-back: what goes there, what is striped from there together with others, and what happens if that
// fails.

import FaultInjection
import Journal
import LockFree
import Model
import Platform
import Synchronization
import Testing

@testable import WriteBack

@Suite("Journal and packs", .timeLimit(.minutes(10)))
struct PackingTests {
    let sink = MemorySink()
    let clock = TestClock()
    let epochs = EpochDomain()

    private func file(_ id: Int) -> OpenFileContext {
        OpenFileContext(attributes: testAttributes(FileID(rawValue: UInt64(id))), sequence: .zero, epochs: epochs)
    }

    func writeBack(_ change: (inout WriteBackLimits) -> Void = { _ in }) -> WriteBack<MemorySink> {
        var limits = WriteBackLimits()
        change(&limits)
        return WriteBack(sink: sink, clock: clock, limits: limits, epochs: epochs)
    }

    private func write(
        _ count: Int, _ value: UInt8 = 1, to file: OpenFileContext, at offset: UInt64 = 0,
        with writeBack: WriteBack<MemorySink>
    ) async throws {
        _ = try await writeBack.write(
            Payload(bytes: [UInt8](repeating: value, count: count)), to: file, at: offset, isStable: false)
    }

    private var claims: Int {
        epochs.collectAll()
        return sink.journal.state.withLock { $0.liveClaims }
    }

    var packs: [(parts: [PackedPart], mayPad: Bool)] { sink.state.withLock { $0.packs } }

    /// What a pack had of each file.
    func sizes(_ pack: Int) -> [Int] { packs[pack].parts.map(\.plan.byteCount) }

    /// Lets go of what only the test refers to.
    private func forgetPlans() {
        sink.state.withLock { state in
            state.plans = []
            state.packs = []
        }
    }

    /// Files of so many bytes each, which rest one after the other.
    private func resting(_ sizes: [Int], _ writeBack: WriteBack<MemorySink>) async throws -> [OpenFileContext] {
        var files: [OpenFileContext] = []
        for (index, size) in sizes.enumerated() {
            let file = file(index + 1)
            try await write(size, UInt8(index + 1), to: file, with: writeBack)
            files.append(file)
            writeBack.settle(file)
            while writeBack.usage.restingFiles < files.count { await Task.yield() }
        }
        return files
    }

    // MARK: What goes where

    @Test("a COMMIT stripes full stripes and journals the rest; one with nothing new does nothing")
    func commit() async throws {
        let writeBack = writeBack()
        let file = file(1)
        try await write(29, to: file, with: writeBack)
        try await write(5, to: file, at: 100, with: writeBack)
        try await writeBack.commit(file)
        let plan = sink.state.withLock { $0.plans[0] }
        #expect(plan.runs.map(\.range) == [ByteRange(0, 24)] && !plan.mayPad)
        #expect(plan.journaling.map(\.range) == [ByteRange(24, 29), ByteRange(100, 105)])
        #expect(sink.published(file.fileID).count == 24 && sink.durable(file.fileID).count == 105)
        try await writeBack.commit(file)
        #expect(sink.state.withLock { $0.plans.count } == 1 && claims == 2)
        // With what is new the rest makes another stripe, and its claim goes.
        try await write(8, 2, to: file, at: 29, with: writeBack)
        try await writeBack.commit(file)
        forgetPlans()
        #expect(sink.published(file.fileID) == [UInt8](repeating: 1, count: 29) + [UInt8](repeating: 2, count: 7))
        #expect(sink.durable(file.fileID)[36] == 2 && claims == 2)
        #expect(await writeBack.settleAll() == 0)
    }

    @Test("what lies below newer bytes is not journaled, and what was goes when newer bytes are")
    func covered() async throws {
        let writeBack = writeBack()
        let file = file(1)
        try await write(5, 1, to: file, with: writeBack)
        try await write(5, 2, to: file, with: writeBack)
        try await writeBack.commit(file)
        #expect(sink.state.withLock { $0.plans[0].journaling.count } == 1)
        #expect(sink.durable(file.fileID) == [2, 2, 2, 2, 2])
        try await write(6, 3, to: file, with: writeBack)
        try await writeBack.commit(file)
        forgetPlans()
        #expect(sink.durable(file.fileID) == [3, 3, 3, 3, 3, 3] && claims == 1)
    }

    @Test(
        "too much for the journal in small pieces is striped, one behind the other, and only the remainder is journaled"
    )
    func muchInSmallPieces() async throws {
        let writeBack = writeBack { $0.maxJournaledBytes = 20 }
        let file = file(1)
        for index in 0..<10 as Range<UInt64> { try await write(4, to: file, at: index * 10, with: writeBack) }
        try await writeBack.commit(file)
        let plan = sink.state.withLock { $0.plans[0] }
        #expect(plan.byteCount == 36 && plan.runs.count == 9 && !plan.mayPad)
        #expect(plan.journaling.map(\.range) == [ByteRange(90, 94)])
        #expect(sink.state.withLock { $0.plans.count } == 1)
    }

    @Test("if the journal has no room all is striped, whether that makes full stripes or not")
    func noRoom() async throws {
        let writeBack = writeBack()
        sink.journal.setCapacity(4)
        let file = file(1)
        try await write(5, to: file, with: writeBack)
        try await write(13, to: file, at: 100, with: writeBack)
        try await writeBack.commit(file)
        let plan = sink.state.withLock { $0.plans[0] }
        #expect(plan.runs.map(\.range) == [ByteRange(0, 5), ByteRange(100, 113)] && plan.mayPad)
        #expect(plan.journaling.isEmpty)
        // What makes full stripes needs no room.
        try await write(24, to: file, at: 200, with: writeBack)
        try await writeBack.commit(file)
        #expect(sink.state.withLock { !$0.plans[1].mayPad })
        #expect(await writeBack.settleAll() == 0 && packs.isEmpty)
    }

    @Test("a truncate clips what is journaled, and what a turn is journaling")
    func truncates() async throws {
        let writeBack = writeBack()
        let file = file(1)
        try await write(5, to: file, with: writeBack)
        try await writeBack.commit(file)
        sink.hold()
        try await write(5, 2, to: file, at: 10, with: writeBack)
        try await write(5, 3, to: file, at: 20, with: writeBack)
        async let committed: Void = writeBack.commit(file)
        await sink.waitForDrains(2)
        writeBack.release(sink.truncate(file, to: 12, at: clock.now()).freedBytes)
        sink.letGo()
        try await committed
        forgetPlans()
        #expect(sink.durable(file.fileID) == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 2, 2] && claims == 2)
        writeBack.release(sink.truncate(file, to: 3, at: clock.now()).freedBytes)
        #expect(claims == 1)
        #expect(try await sink.read(file) == [1, 1, 1])
        writeBack.release(file.remove())
        #expect(claims == 0 && file.heldBytes == 0)
    }

    @Test("a COMMIT is not answered by a turn that leaves some of what it is owed")
    func turnThatLeavesSome() async throws {
        let file = file(1)
        var limits = WriteBackLimits()
        limits.maxRunsPerTurn = 1
        for offset in [100, 0] as [UInt64] {
            _ = try file.write(
                Payload(bytes: [1]), at: offset, isStable: false, now: clock.now(), elapsed: .zero, clearingModeBits: 0,
                limits: limits)
        }
        async let committed: Void = file.waitUntilDurable {}
        while !file.hasWaiters { await Task.yield() }
        for (place, isLast) in [(0, false), (100, true)] as [(UInt64, Bool)] {
            guard
                case .drain(let turn) = file.takeTurn(
                    stripeSizeBytes: 12, limits: limits, journalHasRoom: { _ in true }, canDump: { false })
            else {
                Issue.record("nothing to drain")
                return
            }
            #expect(turn.plan.runs.isEmpty)
            #expect(turn.plan.journaling.map(\.range) == [ByteRange(place, place + 1)])
            let claim = sink.journal.append(file.fileID, place, turn.plan.journaling[0].sequence, [1])
            // After the last one there are more pieces in the journal than a turn takes.
            #expect(file.finishDrain(turn, claims: [claim], hasOpenOutput: true).mustSchedule)
            #expect(file.hasWaiters == !isLast)
        }
        try await committed
        guard
            case .drain(let turn) = file.takeTurn(
                stripeSizeBytes: 12, limits: limits, journalHasRoom: { _ in true }, canDump: { false })
        else {
            Issue.record("the pieces stay in the journal")
            return
        }
        // Round and round by offset.
        #expect(turn.plan.runs.map(\.range) == [ByteRange(100, 101)] && turn.plan.mayPad)
        #expect(file.finishDrain(turn, hasOpenOutput: false).mustSchedule)
    }

    // MARK: Packs

    @Test("files rest until they make a stripe; then they are packed, oldest first, and what is over waits on")
    func packs() async throws {
        let writeBack = writeBack()
        let files = try await resting([5, 5], writeBack)
        #expect(files.allSatisfy { $0.phase == .resting } && packs.isEmpty)
        #expect(writeBack.usage.restingBytes == 10)
        // A tick leaves them alone.
        clock.advance(seconds: 100)
        writeBack.tick()
        #expect(files.allSatisfy { $0.phase == .resting })
        let last = file(3)
        try await write(5, 3, to: last, with: writeBack)
        writeBack.settle(last)
        await sink.waitForPacks(1)
        while writeBack.usage.packs < 1 { await Task.yield() }
        #expect(packs[0].parts.map(\.file.fileID.rawValue) == [1, 2, 3] && sizes(0) == [5, 5, 2] && !packs[0].mayPad)
        #expect(writeBack.usage.openFiles == 1 && writeBack.usage.restingBytes == 3)
        #expect(sink.published(last.fileID) == [3, 3] && sink.durable(last.fileID) == [3, 3, 3, 3, 3])
        forgetPlans()
        #expect(claims == 1)
        // At the end what is left is packed as it is.
        #expect(await writeBack.settleAll() == 0)
        #expect(sizes(0) == [3] && packs[0].mayPad && sink.published(last.fileID).count == 5)
        forgetPlans()
        #expect(claims == 0 && writeBack.usage.pendingBytes == 0 && writeBack.usage.restingBytes == 0)
    }

    @Test("a file that is written while it is packed keeps what is new")
    func writtenWhilePacked() async throws {
        let writeBack = writeBack()
        let files = try await resting([5, 6], writeBack)
        sink.hold()
        let last = file(3)
        try await write(1, 3, to: last, with: writeBack)
        sink.letGo()
        writeBack.settle(last)
        while writeBack.usage.restingFiles + packs.count < 1 { await Task.yield() }
        await sink.waitForPacks(1)
        while writeBack.usage.packs < 1 { await Task.yield() }
        #expect(await writeBack.settleAll() == 0)
        // Once more, held.
        let again = try await { () async throws -> OpenFileContext in
            let file = file(4)
            try await write(5, 4, to: file, with: writeBack)
            writeBack.settle(file)
            while writeBack.usage.restingFiles < 1 { await Task.yield() }
            sink.hold()
            writeBack.settleJournaled([file])
            await sink.waitForPacks(2)
            return file
        }()
        #expect(again.phase == .settling)
        try await write(2, 9, to: again, at: 1, with: writeBack)
        async let committed: Void = writeBack.commit(again)
        #expect(try await sink.read(again) == [4, 9, 9, 4, 4])
        sink.letGo()
        try await committed
        #expect(sink.durable(again.fileID) == [4, 9, 9, 4, 4])
        #expect(await writeBack.settleAll() == 0)
        #expect(sink.published(again.fileID) == [4, 9, 9, 4, 4] && files.allSatisfy(\.isClean))
        forgetPlans()
        #expect(claims == 0)
    }

    @Test("a pack that fails loses nothing and tells nobody; it is tried again after a tick")
    func failedPack() async throws {
        let writeBack = writeBack()
        let files = try await resting([5, 5], writeBack)
        let last = file(3)
        try await write(5, 3, to: last, with: writeBack)
        try await writeBack.commit(last)
        sink.state.withLock { $0.nextErrors = [.noSpace] }
        writeBack.settle(last)
        while writeBack.usage.failedPacks < 1 { await Task.yield() }
        while writeBack.usage.restingFiles < 3 { await Task.yield() }
        // Asked for or not, nothing is tried before the tick.
        writeBack.settleJournaled(files)
        #expect(sink.state.withLock { $0.lost.isEmpty } && packs.count == 1)
        for each in files + [last] {
            #expect(each.phase == .resting)
            try await writeBack.commit(each)
        }
        #expect(sink.durable(last.fileID) == [3, 3, 3, 3, 3])
        #expect(writeBack.usage.packs == 0 && packs.count == 1)
        writeBack.tick()
        while writeBack.usage.packs < 1 { await Task.yield() }
        #expect(sizes(1) == [5, 5, 2])
        #expect(await writeBack.settleAll() == 0)
    }

    @Test("what can't be packed at the end stays in the journal, and is no failure")
    func failedPackAtTheEnd() async throws {
        let writeBack = writeBack()
        let files = try await resting([5, 5], writeBack)
        sink.state.withLock { $0.nextErrors = [.noSpace] }
        #expect(await writeBack.settleAll() == 0)
        #expect(packs.count == 1 && files.allSatisfy { sink.durable($0.fileID).count == 5 })
        #expect(sink.state.withLock { $0.lost.isEmpty })
    }

    @Test("for the journal's room resting files are packed as they are, and busy ones striped for themselves")
    func pressure() async throws {
        let writeBack = writeBack()
        let files = try await resting([3, 4], writeBack)
        let busy = file(3)
        try await write(5, 3, to: busy, with: writeBack)
        try await writeBack.commit(busy)
        #expect(busy.phase == .active)
        writeBack.settleJournaled([files[1], busy])
        await sink.waitForPacks(1)
        while !sink.durable(busy.fileID).elementsEqual(sink.published(busy.fileID)) { await Task.yield() }
        while writeBack.usage.packs < 1 || writeBack.usage.openFiles > 0 { await Task.yield() }
        // Who is named comes first; what else rests goes with it.
        #expect(packs[0].parts.map(\.file.fileID.rawValue) == [2, 1] && packs[0].mayPad)
        #expect(sink.state.withLock { $0.plans.last! }.mayPad)
        forgetPlans()
        #expect(claims == 0)
    }

    @Test("a drain that has only journaled bytes and fails loses nothing: no error, no new verifier, no busy loop")
    func failedDrainOfJournaled() async throws {
        let writeBack = writeBack()
        let file = file(1)
        try await write(5, to: file, with: writeBack)
        try await writeBack.commit(file)
        sink.state.withLock { $0.nextErrors = Array(repeating: .inputOutput, count: 2) }
        writeBack.settleJournaled([file])
        await sink.waitForDrains(2)
        while sink.state.withLock({ $0.failures < 1 }) || file.phase != .active && file.phase != .resting {
            await Task.yield()
        }
        writeBack.settleJournaled([file])
        #expect(file.phase != .failed && sink.state.withLock { $0.lost.isEmpty && $0.plans.count == 2 })
        try await writeBack.commit(file)
        #expect(try await sink.read(file) == [1, 1, 1, 1, 1])
        // What is new goes to the journal meanwhile.
        sink.state.withLock { $0.nextErrors = [] }
        try await write(5, 2, to: file, at: 5, with: writeBack)
        try await writeBack.commit(file)
        #expect(sink.published(file.fileID).isEmpty && sink.durable(file.fileID).count == 10)
        writeBack.tick()
        writeBack.settleJournaled([file])
        while sink.published(file.fileID).count < 10 { await Task.yield() }
        #expect(await writeBack.settleAll() == 0)
    }

    @Test("a drain that fails gives up what is new, and keeps what was journaled")
    func failedDrain() async throws {
        let writeBack = writeBack()
        let file = file(1)
        try await write(8, to: file, with: writeBack)
        try await writeBack.commit(file)
        try await write(8, 2, to: file, at: 4, with: writeBack)
        sink.state.withLock { $0.nextErrors = [.noSpace] }
        await #expect(throws: WriteBackError.noSpace) { try await writeBack.commit(file) }
        #expect(sink.state.withLock { $0.lost.count } == 1)
        #expect(try await sink.read(file) == [UInt8](repeating: 1, count: 8))
        #expect(sink.durable(file.fileID).count == 8 && file.attributes.size == 8)
        try await writeBack.commit(file)
        #expect(await writeBack.settleAll() == 0)
        #expect(sink.published(file.fileID) == [UInt8](repeating: 1, count: 8))
    }

    @Test("what a file with a sticky error has in the journal is striped for the journal's room, and the error stays")
    func stickyErrorAndPressure() async throws {
        let writeBack = writeBack()
        let file = file(1)
        try await write(5, to: file, with: writeBack)
        try await writeBack.commit(file)
        try await write(5, to: file, at: 5, with: writeBack)
        sink.state.withLock { $0.nextErrors = [.noSpace] }
        writeBack.settle(file)
        while file.phase != .failed { await Task.yield() }
        writeBack.settleJournaled([file])
        while sink.published(file.fileID).count < 5 { await Task.yield() }
        #expect(file.phase == .failed)
        await #expect(throws: WriteBackError.noSpace) { try await write(1, to: file, with: writeBack) }
        try await write(1, 3, to: file, with: writeBack)
        #expect(await writeBack.settleAll() == 0)
        #expect(sink.published(file.fileID) == [3, 1, 1, 1, 1])
    }

    @Test("journaled payload is let go when memory is short, and read back from the journal")
    func relief() async throws {
        let writeBack = writeBack { $0.maxPendingBytes = 256 << 10 }
        sink.stripeSizeBytes = 1 << 20
        var files: [OpenFileContext] = []
        for index in 0..<30 {
            let file = file(index + 1)
            files.append(file)
            try await write(16_000, UInt8(index + 1), to: file, with: writeBack)
            try await writeBack.commit(file)
            #expect(writeBack.usage.pendingBytes <= 256 << 10)
        }
        #expect(sink.state.withLock { $0.plans.allSatisfy { $0.runs.isEmpty } })
        #expect(sink.journal.state.withLock { $0.loads } == 0)
        for (index, file) in files.enumerated() {
            #expect(try await sink.read(file) == [UInt8](repeating: UInt8(index + 1), count: 16_000))
        }
        #expect(sink.journal.state.withLock { $0.loads } > 10)
        #expect(await writeBack.settleAll() == 0)
        for (index, file) in files.enumerated() {
            #expect(sink.published(file.fileID) == [UInt8](repeating: UInt8(index + 1), count: 16_000))
        }
        forgetPlans()
        #expect(claims == 0)
    }

    @Test("while nothing can be striped, memory that journaled bytes keep makes no busy loop")
    func reliefInVain() async throws {
        let writeBack = writeBack { $0.maxPendingBytes = 1 << 20 }
        sink.stripeSizeBytes = 1 << 20
        let files = (1...5).map(file)
        for each in files {
            try await write(100, to: each, with: writeBack)
            try await writeBack.commit(each)
        }
        sink.state.withLock { $0.failsOneIn = 1 }
        // Memory that others have.
        writeBack.state.withLock { $0.budget.charge(1 << 20) }
        // Each is tried once; after a tick they are tried again, together.
        for tries in [5, 6] {
            writeBack.tick()
            while sink.state.withLock({ $0.failures }) < tries { await Task.yield() }
            for _ in 0..<5000 { await Task.yield() }
            #expect(sink.state.withLock { $0.failures } == tries)
            #expect(files.allSatisfy { $0.requestUnjournal() == .none && $0.requestRelief() == .none })
        }
        #expect(sink.state.withLock { $0.lost.isEmpty })
        sink.state.withLock { $0.failsOneIn = 0 }
        writeBack.state.withLock { $0.budget.charge(-1 << 20) }
        #expect(await writeBack.settleAll() == 0)
        for each in files { #expect(sink.published(each.fileID).count == 100) }
    }

    @Test("a full table has its resting files packed")
    func fullTable() async throws {
        let writeBack = writeBack { $0.maxOpenContexts = 8 }
        sink.stripeSizeBytes = 1 << 20
        for index in 0..<40 {
            try await write(10, to: file(index + 1), with: writeBack)
            #expect(writeBack.usage.openFiles <= 9)
        }
        #expect(!packs.isEmpty && packs.allSatisfy { $0.mayPad })
        #expect(await writeBack.settleAll() == 0)
        for index in 0..<40 { #expect(sink.published(FileID(rawValue: UInt64(index + 1))).count == 10) }
    }

    @Test("what a start finds in the journal is pending, durable, read from there, and packed")
    func recovered() async throws {
        let writeBack = writeBack()
        let id = FileID(rawValue: 1)
        let sequences = (1...3).map { WriteSequence(rawValue: UInt64($0)) }
        let file = OpenFileContext(
            attributes: testAttributes(id, size: 2), sequence: sequences[0], epochs: epochs,
            journaled: [
                sink.journal.append(id, 4, sequences[2], [3, 3, 3]),
                sink.journal.append(id, 2, sequences[1], [2, 2, 2]),
            ])
        #expect(file.phase == .resting && file.attributes.size == 7 && file.sequence == sequences[2])
        writeBack.adopt(file)
        #expect(writeBack.usage.pendingBytes == file.heldBytes && writeBack.usage.restingBytes == 6)
        try await writeBack.commit(file)
        #expect(sink.state.withLock { $0.plans.isEmpty })
        #expect(try await sink.read(file) == [0, 0, 2, 2, 3, 3, 3])
        try await write(1, 4, to: file, at: 3, with: writeBack)
        #expect(file.sequence == sequences[2].next)
        #expect(await writeBack.settleAll() == 0)
        #expect(sink.published(id) == [0, 0, 2, 4, 3, 3, 3])
        forgetPlans()
        #expect(claims == 0)
    }

    @Test("journaled bytes that can't be read back are no reason to give anything up")
    func unreadable() async throws {
        let writeBack = writeBack()
        let id = FileID(rawValue: 1)
        let file = OpenFileContext(
            attributes: testAttributes(id), sequence: .zero, epochs: epochs,
            journaled: [sink.journal.append(id, 0, WriteSequence(rawValue: 1), [1, 2, 3])])
        writeBack.adopt(file)
        sink.journal.state.withLock { $0.nextLoadsFail = 2 }
        await #expect(throws: WriteBackError.inputOutput) { _ = try await sink.read(file) }
        #expect(await writeBack.settleAll() == 0)
        #expect(sink.state.withLock { $0.lost.isEmpty } && writeBack.usage.openFiles == 1)
        #expect(try await sink.read(file) == [1, 2, 3])
        #expect(await writeBack.settleAll() == 0)
        #expect(sink.published(id) == [1, 2, 3])
    }
}
