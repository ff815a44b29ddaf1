// One random history of a file, made of a seed: WRITEs, truncates, COMMITs, READs and the steps of drains and dumps in any
// order, some of which fail, with a clock of its own. After each step the context must be what the model is.
//
// It is the context's driver as `WriteBack` is, but step by step and on one thread, so that a seed always gives the same
// history. COMMITs are tasks that run on the spot.

import FaultInjection
import Glibc
import Journal
import LockFree
import Model
import Platform
import Synchronization

@testable import WriteBack

/// What was found to be wrong.
struct HistoryFailure: Error {
    let text: String
}

/// Runs jobs where they are handed over.
private final class OnTheSpot: TaskExecutor {
    static let shared = OnTheSpot()
    func enqueue(_ job: consuming ExecutorJob) {
        UnownedJob(job).runSynchronously(on: asUnownedTaskExecutor())
    }
}

/// Somebody who waits for bytes to be durable.
final class Waiting: @unchecked Sendable {
    let through: WriteSequence
    let isCommit: Bool
    var result: Result<Void, WriteBackError>?
    var mustSchedule = false

    init(through: WriteSequence, isCommit: Bool) {
        self.through = through
        self.isCommit = isCommit
    }

    func wait(for file: OpenFileContext, since failureCount: Int?) {
        Task(executorPreference: OnTheSpot.shared) {
            do throws(WriteBackError) {
                try await file.waitUntilDurable(since: failureCount, isCommit: self.isCommit) {
                    self.mustSchedule = true
                }
                self.result = .success(())
            } catch {
                self.result = .failure(error)
            }
        }
    }
}

final class History {
    var random: SeededGenerator
    let isTold: Bool
    /// Bytes of a cell.
    let unit: Int
    /// Where the first cell begins: around borders of the map.
    let base: UInt64
    var limits = WriteBackLimits()
    let stripe: Int
    let fails: Bool

    var file: OpenFileContext
    var journal: MemoryJournal
    let epochs = EpochDomain()
    let fileSystem = SimulatedFileSystem(directories: ["/dump"])
    let clock = TestClock()
    var dump: DumpLog?

    var model: HistoryModel
    var isQueued = false
    var drainTurn: DrainTurn?
    var dumpTurn: DumpTurn?
    var packTurn: PackTurn?
    /// Of the drain that is out: what it must bring, whether it is published.
    var plan: DrainPlan?
    var planned: [Int: HistoryModel.Pending] = [:]
    var isPublished = false
    /// What the drain that is out has journaled.
    var claims: [JournaledBytes?] = []
    /// The lowest size that the file was truncated to since then.
    var cut: Int?
    /// Between the halves of a failed drain.
    var isLosing = false
    var waiting: [Waiting] = []
    /// What the budget was told.
    var charged = 0
    var lastArrival = Duration.zero
    var changeTime: Timestamp

    /// - Parameter isTold: whether each step is printed.
    init(seed: UInt64, isTold: Bool) {
        random = SeededGenerator(seed: seed)
        self.isTold = isTold
        // Most histories are of single bytes; those that dump need writes that are worth it, and some are longer than an entry.
        let kind = Int.random(in: 0..<200, using: &random)
        unit = kind == 0 ? 300_000 : kind < 60 ? 700 : 1
        let cellCount = kind == 0 ? 12 : Int.random(in: 8...48, using: &random)
        let border = UInt64([0, 1 << 16, 1 << 20, 1 << 26].randomElement(using: &random)!)
        base = border - min(border, UInt64(cellCount / 2 * unit))
        stripe = unit * [3, 5, 1000].randomElement(using: &random)!
        // A write that is longer than an entry may be durable in part of a cell, which the model doesn't know.
        fails = Bool.random(using: &random) && kind > 0
        model = HistoryModel(cellCount: cellCount, unit: unit)
        journal = MemoryJournal(capacity: [.max, .max, 6 * unit, 0].randomElement(using: &random)!)
        limits.maxJournaledBytes = unit * [2, 10, 1000].randomElement(using: &random)!
        limits.drainChunkBytes = unit * [1, 8, 1000].randomElement(using: &random)!
        limits.maxDrainBytes = unit * [2, 10, 1000].randomElement(using: &random)!
        limits.maxRunsPerTurn = [1, 2, 5, 4096].randomElement(using: &random)!
        limits.maxWrites = [6, 20, 65_536].randomElement(using: &random)!
        limits.maxPendingBytes = 4 * [5 * unit + 1000, 20 * unit + 5000, 1 << 30].randomElement(using: &random)!
        limits.maxDumpBytes = unit * [2, 100].randomElement(using: &random)!
        let attributes = testAttributes(FileID(rawValue: seed + 1), size: base)
        changeTime = attributes.changeTime
        file = OpenFileContext(attributes: attributes, sequence: .zero, epochs: epochs)
    }

    func tell(_ text: @autoclosure () -> String) { if isTold { print(text()) } }

    func check(_ isTrue: Bool, _ text: @autoclosure () -> String) throws(HistoryFailure) {
        if !isTrue { throw HistoryFailure(text: text()) }
    }

    func offset(_ cell: Int) -> UInt64 { base + UInt64(cell * unit) }

    func cells(_ range: ByteRange) -> Range<Int> {
        Int(range.lowerBound - base) / unit..<Int(range.upperBound - base) / unit
    }

    /// What these bytes, from some offset on, have of the cells that they touch: that of their first and of their last byte
    /// there, 0 if those differ. (A write may be longer than an entry, so the border of two may be inside of a cell.)
    func values(_ payload: Payload, at offset: UInt64) -> [(cell: Int, value: UInt8)] {
        let start = Int(offset - base)
        return (start / unit..<(start + payload.count - 1) / unit + 1).map { cell in
            let low = max(cell * unit, start) - start
            let high = min((cell + 1) * unit, start + payload.count) - start
            let ends = [low, high - 1].map { payload.slice($0..<$0 + 1).bytes[0] }
            return (cell, ends[0] == ends[1] ? ends[0] : 0)
        }
    }

    var pendingCells: Int { model.cells.count { !$0.pending.isEmpty } }
    var hasTurn: Bool { isDraining || isDumping }
    var isDraining: Bool { drainTurn != nil || packTurn != nil }
    var isDumping: Bool { dumpTurn != nil }

    func schedule(_ must: Bool) throws(HistoryFailure) {
        guard must else { return }
        try check(!isQueued && !hasTurn, "queued twice")
        isQueued = true
    }

    // MARK: A whole history

    func run() async throws(HistoryFailure) {
        if unit > 1 {
            var bounds = DumpLog.Bounds()
            bounds.segmentBytes = UInt64(unit * 10)
            bounds.minFreeBytes = 0
            bounds.rest = .seconds(5)
            dump = DumpLog(
                places: [.init("/dump")], fileSystem: fileSystem, clock: clock, bounds: bounds
            ) { _ in }
        }
        do {
            for _ in 0..<Int.random(in: 10...80, using: &random) {
                try await step()
                try checkAll()
            }
            try await end()
        } catch {
            await dump?.close()
            throw error
        }
        await dump?.close()
    }

    func step() async throws(HistoryFailure) {
        switch Int.random(in: 0..<40, using: &random) {
        case 0..<14: try write()
        case 14..<16: try truncate()
        case 16: if Int.random(in: 0..<10, using: &random) == 0 { try remove() }
        case 17..<19: try wait(since: nil)
        case 19..<22: try await read()
        case 22: try ask("relief") { $0.requestRelief() }
        case 23: try rest()
        case 24 where Int.random(in: 0..<3, using: &random) == 0: try ask("unjournal") { $0.requestUnjournal() }
        case 25 where Int.random(in: 0..<4, using: &random) == 0 && fails: try crash()
        case 26: try beginPack()
        default: try await turn()
        }
    }

    func end() async throws(HistoryFailure) {
        fileSystem.removeFaults()
        if !model.isRemoved && !model.isLasting {
            // An error that nobody was told is told now, and what is pending goes out.
            for _ in 0..<2 {
                try wait(since: nil)
                var turns = 0
                while isQueued || hasTurn {
                    try await turn(mayFail: false)
                    try checkAll()
                    turns += 1
                    try check(turns < 3000, "a COMMIT that never ends")
                }
            }
            if let cell = model.owed(model.sequence) { throw HistoryFailure(text: "cell \(cell) is not durable") }
            try checkJournal()
            try await read()
            try await settle()
            try check(model.visible == model.cells[..<model.size].map(\.published.value), "something is left to drain")
            try await read()
            try await checkCharge()
        }
        try await settle()
        try checkAll()
        try check(waiting.isEmpty, "somebody waits for ever")
        try check(file.isClean || model.isLasting || model.untold != nil, "not clean")
        if model.isLasting { charged -= file.remove() }
        try check(charged == 0, "\(charged) bytes stay charged")
        planned = [:]
        plan = nil
        epochs.collectAll()
        let claims = journal.state.withLock { $0.liveClaims }
        try check(claims == 0, "\(claims) claims are left")
        try check(epochs.liveBlocks == 0, "\(epochs.liveBlocks) blocks are left")
        // The thread that has read something back may be the last to let go of it.
        var rounds = 0
        while let dump, dump.usage.segments > 0 {
            await dump.settled()
            rounds += 1
            try check(rounds < 1_000_000, "dump segments are left")
        }
    }

    /// Has all striped: the file rests, and is packed, in parts maybe.
    func settle() async throws(HistoryFailure) {
        var rounds = 0
        while true {
            file.holdOffLess()
            try schedule(file.request(.rest))
            if !isQueued && !hasTurn { try beginPack() }
            if !isQueued && !hasTurn { break }
            while isQueued || hasTurn {
                try await turn(mayFail: false)
                try checkAll()
            }
            rounds += 1
            try check(rounds < 3000, "a file that is never settled")
        }
    }

    /// One write more is charged as it would be in a file that has no history.
    func checkCharge() async throws(HistoryFailure) {
        try write()
        let fresh = OpenFileContext(attributes: file.attributes, sequence: .zero, epochs: epochs)
        do throws(WriteBackError) {
            for piece in try file.snapshot(ByteRange(0, 1 << 62)).pending {
                _ = try fresh.write(
                    piece.bytes.inMemory!, at: piece.range.lowerBound, isStable: false, now: clock.now(),
                    elapsed: clock.elapsed(), clearingModeBits: 0, limits: WriteBackLimits())
            }
        } catch { throw HistoryFailure(text: "\(error)") }
        try check(file.heldBytes == fresh.heldBytes, "charged \(file.heldBytes), not \(fresh.heldBytes)")
        _ = fresh.remove()
        try wait(since: nil)
        while isQueued || hasTurn { try await turn(mayFail: false) }
        try await settle()
    }

    // MARK: What clients do

    func write() throws(HistoryFailure) {
        let low = Int.random(in: 0..<model.cells.count, using: &random)
        let most = [1, 4, 16].randomElement(using: &random)!
        let count = Int.random(in: 1...min(most, model.cells.count - low), using: &random)
        let isStable = Int.random(in: 0..<6, using: &random) == 0
        let cellValues = (0..<count).map { _ in UInt8.random(in: 1...255, using: &random) }
        var payload = Payload()
        for value in cellValues { payload.append(Payload(bytes: [UInt8](repeating: value, count: unit))) }
        let refusal = model.refusal()
        tell("write \(low)..<\(low + count) \(cellValues) stable: \(isStable) refusal: \(refusal as Any)")
        let accepted: OpenFileContext.Acceptance
        do throws(WriteBackError) {
            accepted = try file.write(
                payload, at: offset(low), isStable: isStable, now: clock.now(), elapsed: clock.elapsed(),
                clearingModeBits: 0, limits: limits)
        } catch {
            return try check(error == refusal, "a WRITE was refused with \(error), not \(refusal as Any)")
        }
        try check(refusal == nil, "a WRITE was not refused with \(refusal as Any)")
        model.write(cellValues, at: low, isStable: isStable)
        lastArrival = clock.elapsed()
        charged += accepted.addedBytes
        try check(accepted.sequence == model.sequence, "sequence \(accepted.sequence)")
        try checkTime(accepted.change.after)
        try schedule(accepted.mustSchedule)
        if isStable || accepted.hasTooManyWrites { try wait(since: accepted.failureCount) }
    }

    func truncate() throws(HistoryFailure) {
        let size = Int.random(in: 0...model.cells.count, using: &random)
        tell("truncate \(size)")
        guard !model.isRemoved else { return }
        let truncated = file.truncate(to: offset(size)) { $0.touch(clock.now()) }
        model.truncate(to: size)
        journal.truncate(file.fileID, to: offset(size))
        if isDraining { cut = min(cut ?? size, size) }
        charged -= truncated.freedBytes
        try check(truncated.sequence == model.sequence, "sequence \(truncated.sequence)")
        try checkTime(truncated.step.after)
        // Told or not: then a COMMIT asks the sink.
        if Bool.random(using: &random) { file.truncateIsDurable(truncated.sequence) }
    }

    func remove() throws(HistoryFailure) {
        tell("remove")
        charged -= file.remove()
        model.remove()
        if isDraining { cut = 0 }
    }

    func wait(since failureCount: Int?) throws(HistoryFailure) {
        let waiter = Waiting(through: model.sequence, isCommit: failureCount == nil)
        let refusal = model.refusal()
        tell("wait for \(waiter.through) refusal: \(refusal as Any)")
        waiter.wait(for: file, since: failureCount)
        if let refusal {
            try check(waiter.result != nil, "a COMMIT waits in spite of \(refusal)")
            if case .success? = waiter.result {
                throw HistoryFailure(text: "a COMMIT was answered in spite of \(refusal)")
            }
            return
        }
        waiting.append(waiter)
        try schedule(waiter.mustSchedule)
    }

    func read() async throws(HistoryFailure) {
        let low = Int.random(in: 0...model.size, using: &random)
        let range = low..<Int.random(in: low...model.size, using: &random)
        tell("read \(range)")
        let snapshot: (pending: [PendingWrite], attributes: FileAttributes)
        do throws(WriteBackError) {
            snapshot = try file.snapshot(ByteRange(offset(range.lowerBound), offset(range.upperBound)))
        } catch {
            return try check(model.failing != nil || model.isLasting, "a READ failed: \(error)")
        }
        try check(model.failing == nil && !model.isLasting, "a READ of what is lost")
        var found = model.cells[range].map(\.published.value)
        var dumped = DumpedBytes()
        let wanted = ByteRange(offset(range.lowerBound), offset(range.upperBound))
        var end = wanted.lowerBound
        for piece in snapshot.pending {
            try check(piece.range.lowerBound >= end && wanted.contains(piece.range), "pieces out of place")
            end = piece.range.upperBound
            let bytes: Payload
            do throws(WriteBackError) { bytes = try await piece.bytes.load(&dumped) } catch {
                return try check(fileSystem.hasFaults, "a READ of the dump failed: \(error)")
            }
            for (cell, value) in values(bytes, at: piece.range.lowerBound)
            where piece.sequence > model.cells[cell].published.order { found[cell - range.lowerBound] = value }
        }
        try check(
            found == Array(model.visible[range]), "a READ of \(range) found \(found), not \(model.visible[range])")
    }

    // MARK: What time does

    func ask(_ what: String, _ request: (OpenFileContext) -> OpenFileContext.Remedy) throws(HistoryFailure) {
        let remedy = request(file)
        tell("ask \(what): \(remedy)")
        if remedy == .pack { try check(file.restingBytes != nil, "to be packed, and does not rest") }
        try schedule(remedy == .queue)
    }

    func rest() throws(HistoryFailure) {
        clock.advance(seconds: Int64.random(in: 1...12, using: &random))
        let isDue = clock.elapsed() - lastArrival >= limits.idleTime
        let isIdle = file.isIdle(for: limits.idleTime, at: clock.elapsed())
        tell("rest: \(isIdle)")
        try check(isIdle ? isDue : !isDue || pendingCells == 0 || file.restingBytes != nil, "idle: \(isIdle)")
        file.holdOffLess()
        if isIdle { try schedule(file.request(.rest)) }
    }

    // MARK: Checks

    func checkTime(_ after: FileAttributes) throws(HistoryFailure) {
        try check(after.changeTime > changeTime, "ctime \(after.changeTime) after \(changeTime)")
        changeTime = after.changeTime
    }

    func checkAll() throws(HistoryFailure) {
        for waiter in waiting {
            switch waiter.result {
            case nil: break
            case .success?:
                if let cell = model.owed(waiter.through) {
                    throw HistoryFailure(text: "a COMMIT of \(waiter.through) was answered without cell \(cell)")
                }
                model.promised = max(model.promised, waiter.through)
            case .failure(let error)?:
                try check(error == .removed && model.isRemoved, "a COMMIT was told \(error)")
            }
        }
        waiting.removeAll { $0.result != nil }
        if let cell = model.owed(model.promised) { throw HistoryFailure(text: "cell \(cell) is not durable any more") }
        if !model.isRemoved { try checkJournal() }
        try check(waiting.isEmpty || isQueued || hasTurn, "somebody waits, and nobody drains")
        try check(file.hasWaiters == !waiting.isEmpty, "waiters: \(file.hasWaiters)")
        try check(charged == file.heldBytes, "charged \(charged), held \(file.heldBytes)")
        let attributes = file.attributes
        if !model.isRemoved && model.failing == nil && !model.isLasting {
            try check(attributes.size == offset(model.size), "size \(attributes.size), not \(offset(model.size))")
        }
        try check(attributes.changeTime == changeTime, "ctime changed")
        if pendingCells > 0 { try check(!file.isClean, "clean with something pending") }
    }
}
