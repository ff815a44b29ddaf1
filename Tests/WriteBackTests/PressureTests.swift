// Who waits, for how long and for what, when memory or places in the table of open files are short.

import FaultInjection
import LockFree
import Model
import Platform
import Synchronization
import Testing

@testable import WriteBack

@Suite("Pressure on write-back", .timeLimit(.minutes(10)))
struct PressureTests {
    let sink = MemorySink()
    let clock = TestClock()
    let epochs = EpochDomain()

    private func file(_ id: Int) -> OpenFileContext {
        OpenFileContext(attributes: testAttributes(FileID(rawValue: UInt64(id))), sequence: .zero, epochs: epochs)
    }

    private func writeBack(_ change: (inout WriteBackLimits) -> Void) -> WriteBack<MemorySink> {
        var limits = WriteBackLimits()
        limits.maxPendingBytes = 64 << 10
        change(&limits)
        return WriteBack(sink: sink, clock: clock, limits: limits, epochs: epochs)
    }

    private func write(
        _ count: Int, to file: OpenFileContext, at offset: UInt64 = 0, with writeBack: WriteBack<MemorySink>,
        stable: Bool = false
    ) async throws {
        _ = try await writeBack.write(
            Payload(bytes: [UInt8](repeating: 1, count: count)), to: file, at: offset, isStable: stable)
    }

    /// Waits until so many WRITEs have had to wait.
    private func waitForStalls(_ count: UInt64, _ writeBack: WriteBack<MemorySink>) async {
        while writeBack.usage.stalledWrites < count { await Task.yield() }
    }

    @Test(
        "a WRITE that waits too long is answered, as its bytes are in; later ones wait outside, and are told to come again"
    )
    func stuckStore() async throws {
        let writeBack = writeBack { $0.maxStall = .seconds(15) }
        let file = file(1)
        sink.hold()
        async let stalled: Void = write(100_000, to: file, with: writeBack)
        await waitForStalls(1, writeBack)
        let held = writeBack.usage.pendingBytes
        clock.advance(seconds: 14)
        writeBack.tick()
        clock.advance(seconds: 1)
        writeBack.tick()
        try await stalled
        #expect(file.attributes.size == 100_000)

        let refused = Task { try await write(100_000, to: file, at: 200_000, with: writeBack) }
        await waitForStalls(2, writeBack)
        // It holds nothing here, and has no place in the file.
        #expect(writeBack.usage.pendingBytes == held && file.attributes.size == 100_000)
        clock.advance(seconds: 14)
        writeBack.tick()
        async let late: Void = write(1000, to: file, at: 300_000, with: writeBack)
        await waitForStalls(3, writeBack)
        clock.advance(seconds: 1)
        writeBack.tick()
        await #expect(throws: WriteBackError.busy) { try await refused.value }
        #expect(writeBack.usage.refusedWrites == 1 && writeBack.usage.isStuck)
        #expect(writeBack.usage.pendingBytes == held)

        // The disk is back: who still waits goes on.
        sink.letGo()
        try await late
        #expect(file.attributes.size == 301_000)
        try await writeBack.commit(file)
        try await write(1000, to: file, with: writeBack)
        #expect(writeBack.usage.stalledWrites == 3 && writeBack.usage.refusedWrites == 1 && !writeBack.usage.isStuck)
        #expect(await writeBack.settleAll() == 0)
    }

    @Test("a writer over the budget is held until drains have freed memory")
    func heldBack() async throws {
        let writeBack = writeBack { $0.maxPendingBytes = 12_000 }
        let file = file(1)
        sink.hold()
        try await write(7000, to: file, with: writeBack)
        #expect(writeBack.usage.stalledWrites == 0)
        async let stalled: Void = write(2000, to: file, at: 8000, with: writeBack)
        await sink.waitForDrains(1)
        #expect(writeBack.usage.pendingBytes > 12_000)
        sink.letGo()
        try await stalled
        #expect(writeBack.usage.pendingBytes <= 12_000)
        #expect(writeBack.usage.stalledWrites == 1)
    }

    @Test("the last arrival is the latest, whoever of two at once takes the file's lock last")
    func lastArrival() throws {
        let file = file(1)
        for elapsed in [Duration.seconds(5), .seconds(3)] {
            _ = try file.write(
                Payload(bytes: [1]), at: 0, isStable: false, now: clock.now(), elapsed: elapsed, clearingModeBits: 0,
                limits: WriteBackLimits())
        }
        // A verifier that changed at 4 s does not cover both.
        #expect(file.lastArrival == .seconds(5))
    }

    @Test("who writes little is not held up by who fills the memory, until there is none left")
    func fairness() async throws {
        let writeBack = writeBack { $0.maxPendingBytes = 1 << 20 }
        let (large, small) = (file(1), file(2))
        sink.hold()
        try await write(1000, to: small, with: writeBack)
        for index in 0..<13 as Range<UInt64> {
            try await write(1 << 16, to: large, at: index << 16, with: writeBack)
        }
        #expect(writeBack.usage.stalledWrites == 0)
        // Seven eighths of the memory.
        async let stalled: Void = write(1 << 16, to: large, at: 13 << 16, with: writeBack)
        await waitForStalls(1, writeBack)
        try await write(1 << 16, to: small, at: 1 << 16, with: writeBack)
        #expect(writeBack.usage.stalledWrites == 1)
        async let alsoStalled: Void = write(1 << 16, to: small, at: 2 << 16, with: writeBack)
        await waitForStalls(2, writeBack)
        sink.letGo()
        try await stalled
        try await alsoStalled
        #expect(await writeBack.settleAll() == 0)
    }

    @Test("a full table settles the files that rest longest, and who writes to a further one waits for its place")
    func fullTable() async throws {
        let writeBack = writeBack {
            $0.maxPendingBytes = 1 << 30
            $0.maxOpenContexts = 16
        }
        let files = (0..<17).map(file)
        for each in files.dropLast() {
            clock.advance(seconds: 1)
            try await write(10, to: each, with: writeBack)
        }
        // The first two have been written to again.
        clock.advance(seconds: 1)
        for each in files[..<2] { try await write(10, to: each, at: 10, with: writeBack) }
        #expect(writeBack.usage.openFiles == 16 && sink.state.withLock { $0.plans.isEmpty })
        sink.hold()
        async let waiting: Void = write(10, to: files[16], with: writeBack)
        await waitForStalls(1, writeBack)
        await sink.waitForDrains(2)
        #expect(sink.state.withLock { $0.draining } == [files[2].fileID, files[3].fileID])
        #expect(files[2].phase == .settling)
        // To those that are open anybody writes.
        try await write(10, to: files[0], at: 20, with: writeBack)
        sink.letGo()
        try await waiting
        #expect(writeBack.usage.openFiles <= 16)
        #expect(await writeBack.settleAll() == 0)
        for each in files { #expect(sink.durable(each.fileID).count >= 10) }
    }

    @Test("many more files than places are written by many at once", arguments: 0..<4)
    func manyFiles(seed: Int) async throws {
        let writeBack = writeBack {
            $0.maxPendingBytes = 1 << 30
            $0.maxOpenContexts = 20
        }
        let files = (0..<400).map(file)
        await withTaskGroup(of: Void.self) { tasks in
            for task in 0..<8 {
                tasks.addTask {
                    for index in stride(from: task, to: 400, by: 8) {
                        try? await write(index + 1, to: files[index], with: writeBack, stable: seed % 2 == 0)
                        // Each of the eight may be over by the file that it waits with.
                        #expect(writeBack.usage.openFiles <= 28, "seed \(seed)")
                    }
                }
            }
        }
        #expect(await writeBack.settleAll() == 0)
        for (index, each) in files.enumerated() { #expect(sink.durable(each.fileID).count == index + 1) }
    }

    @Test("files whose error nobody was told keep their places, and others come and go beside them")
    func tableOfFailedFiles() async throws {
        let writeBack = writeBack {
            $0.maxPendingBytes = 1 << 30
            $0.maxOpenContexts = 4
        }
        let files = (0..<6).map(file)
        sink.state.withLock { $0.nextErrors = Array(repeating: .noSpace, count: 4) }
        for each in files[..<4] {
            try await write(10, to: each, with: writeBack)
            writeBack.settle(each)
            while each.phase != .failed { await Task.yield() }
        }
        for each in files[4...] { try await write(10, to: each, with: writeBack) }
        #expect(files[..<4].allSatisfy { $0.phase == .failed })
        try await writeBack.commit(files[5])
        for each in files[..<4] {
            await #expect(throws: WriteBackError.noSpace) { try await writeBack.commit(each) }
            #expect(each.phase == .active)
        }
        #expect(await writeBack.settleAll() == 0)
    }

    @Test("a file goes through its phases, and a second turn can't be taken")
    func phases() async throws {
        let writeBack = writeBack { _ in }
        let file = file(1)
        #expect(file.phase == .active)
        sink.hold()
        try await write(10, to: file, with: writeBack)
        #expect(file.phase == .active)
        async let committed: Void = writeBack.commit(file)
        await sink.waitForDrains(1)
        #expect(file.phase == .draining)
        // Asked for while a turn is out, it comes afterwards.
        #expect(!file.request(.rest))
        sink.letGo()
        try await committed
        while file.phase != .resting { await Task.yield() }
        sink.state.withLock { $0.nextErrors = [.inputOutput] }
        try await write(10, to: file, with: writeBack)
        writeBack.settle(file)
        while file.phase != .failed { await Task.yield() }
        await #expect(throws: WriteBackError.inputOutput) { try await write(1, to: file, with: writeBack) }
        writeBack.release(file.remove())
        #expect(file.phase == .closed)
        await #expect(throws: WriteBackError.removed) { try await write(1, to: file, with: writeBack) }
    }

    @Test("what a WRITE waits for: memory, earlier if its file has more than its share, or a place for a new file")
    func budget() {
        var limits = WriteBackLimits()
        limits.maxPendingBytes = 800
        limits.maxStall = .seconds(10)
        limits.maxOpenContexts = 2
        let budget = Mutex(PendingBudget(limits))
        budget.withLock { budget in
            budget.openFiles = 2
            budget.charge(750)
            guard case .memory(isLarge: true)? = budget.shortage(fileBytes: 401, isNew: false) else {
                Issue.record("a file with more than its half of the memory, which is short, needs not wait")
                return
            }
            #expect(budget.shortage(fileBytes: 400, isNew: true) == nil)
            budget.charge(100)
            #expect(budget.shortage(fileBytes: 1, isNew: false) != nil)
            budget.charge(-849)
            budget.openFiles = 3
            #expect(budget.shortage(fileBytes: 1, isNew: false) == nil)
            guard case .places? = budget.shortage(fileBytes: 1, isNew: true) else {
                Issue.record("a new file in a full table needs not wait")
                return
            }
        }
    }
}
