// One file under real threads, over a sink and a dump that fail at times: whatever the interleaving, what was promised is
// there at the end, what readers saw was an answer that they could have got, and nothing is left over. Also what the thread
// sanitizer runs (tools/races).
//
// The file consists of cells of 8 bytes, and who writes a cell puts the number of his write in it. Each change of the file has
// a later ctime than the one before it, so that is their order.

import FaultInjection
import Glibc
import LockFree
import Model
import Platform
import Synchronization
import Testing

@testable import WriteBack

/// What one thread did.
private final class Diary: @unchecked Sendable {
    struct Write {
        let cells: Range<Int>
        /// nil if it was refused, or lost before it was answered.
        var time: Timestamp?
        /// The write verifier before it.
        let verifier: Int
        /// It was answered as durable, or a COMMIT after it was with the same verifier.
        var isPromised = false
    }
    /// What a reader found in a cell after the write, which was answered.
    struct Sight {
        let write: UInt64
        let cell: Int
        let found: UInt64
        /// The end of the reading.
        let verifier: Int
    }
    let thread: Int
    var writes: [Write] = []
    var truncates: [(cells: Int, time: Timestamp)] = []
    var sights: [Sight] = []

    init(_ thread: Int) { self.thread = thread }

    func number(_ index: Int) -> UInt64 { UInt64(thread) << 32 | UInt64(index + 1) }

    static func bytes(_ number: UInt64, _ count: Int) -> [UInt8] {
        (0..<count * 8).map { UInt8(truncatingIfNeeded: number >> UInt64($0 % 8 * 8)) }
    }

    static func cells(_ bytes: [UInt8]) -> [UInt64] {
        stride(from: 0, to: bytes.count, by: 8).map { start in
            (0..<8).reduce(0) { $0 | UInt64(start + $1 < bytes.count ? bytes[start + $1] : 0) << UInt64($1 * 8) }
        }
    }
}

@Suite("Storm", .serialized, .timeLimit(.minutes(10)))
struct StormTests {
    struct Weather: CustomTestStringConvertible {
        let seed: Int
        var stripe = 1 << 20
        /// One drain in so many.
        var failsOneIn = 0
        var dumpFails = false
        var isRemoved = false
        var testDescription: String { "seed \(seed)" }
    }

    /// What is the same for all threads of a storm.
    private final class Storm: @unchecked Sendable {
        static let cellCount = 2000
        let weather: Weather
        let sink = MemorySink()
        let clock = TestClock()
        let epochs = EpochDomain()
        let file: OpenFileContext
        let fileSystem = SimulatedFileSystem(directories: ["/dump"])
        let dump: DumpLog
        let writeBack: WriteBack<MemorySink>
        private let lock = PlainLock()
        private var complaints: [String] = []

        init(_ weather: Weather) throws {
            self.weather = weather
            file = OpenFileContext(attributes: testAttributes(FileID(rawValue: 7)), sequence: .zero, epochs: epochs)
            sink.stripeSizeBytes = weather.stripe
            sink.state.withLock { state in
                state.yields = 3
                state.random = SeededGenerator(seed: UInt64(weather.seed))
            }
            var bounds = DumpLog.Bounds()
            bounds.segmentBytes = 16 << 10
            bounds.minFreeBytes = 0
            bounds.rest = .zero
            dump = DumpLog(
                places: [.init("/dump")], fileSystem: fileSystem, clock: clock, bounds: bounds
            ) { _ in }
            if weather.dumpFails {
                for calls in [0, 2, 5, 11] {
                    fileSystem.inject(Fault("/dump/", .write, code: EIO, afterCalls: calls, count: 1, writtenBytes: 10))
                }
            }
            var limits = WriteBackLimits()
            limits.maxPendingBytes = 64 << 10
            limits.maxDumpBytes = 8 << 10
            limits.drainChunkBytes = 16 << 10
            limits.maxDrainBytes = 32 << 10
            limits.maxRunsPerTurn = 20
            limits.maxWrites = 1000
            writeBack = WriteBack(sink: sink, clock: clock, limits: limits, epochs: epochs, dump: dump)
        }

        /// The write verifier.
        var verifier: Int { sink.verifierChanges.load(ordering: .sequentiallyConsistent) }

        func complain(_ text: String) { lock.withLock { complaints.append(text) } }
        var allComplaints: [String] { lock.withLock { complaints } }
    }

    /// More than a file may hold, while nobody asks for a COMMIT: some of it must be dumped, and has been when this returns. All
    /// of it twice, not oftener: what is mostly covered by newer bytes is drained.
    private static func fill(_ storm: Storm, _ diary: Diary) async {
        for index in 0..<Storm.cellCount / 50 {
            let low = index * 7 % (Storm.cellCount / 100) * 100
            await write(storm, diary, low..<low + 100, isStable: false)
        }
        // Where there are full stripes these are drained instead.
        guard storm.weather.stripe == 1 << 20 else { return }
        while storm.dump.usage.dumpedBytes == 0 && storm.dump.usage.failures == 0 { await Task.yield() }
    }

    private static func write(_ storm: Storm, _ diary: Diary, _ cells: Range<Int>, isStable: Bool) async {
        var write = Diary.Write(cells: cells, verifier: storm.verifier)
        do {
            let bytes = Diary.bytes(diary.number(diary.writes.count), cells.count)
            let change = try await storm.writeBack.write(
                Payload(bytes: bytes), to: storm.file, at: UInt64(cells.lowerBound * 8), isStable: isStable)
            write.time = change.after.changeTime
            write.isPromised = isStable
        } catch {
            // Refused, or lost: it is written down without a time.
        }
        diary.writes.append(write)
    }

    private static func writer(_ storm: Storm, _ diary: Diary, rounds: Int) async {
        var random = SeededGenerator(seed: UInt64(storm.weather.seed) << 8 | UInt64(diary.thread))
        var uncommitted = 0
        for _ in 0..<rounds {
            switch Int.random(in: 0..<30, using: &random) {
            case 0 where Int.random(in: 0..<3, using: &random) == 0:
                do {
                    try await storm.writeBack.commit(storm.file)
                    let verifier = storm.verifier
                    for index in uncommitted..<diary.writes.count
                    where diary.writes[index].time != nil && diary.writes[index].verifier == verifier {
                        diary.writes[index].isPromised = true
                    }
                    uncommitted = diary.writes.count
                } catch {}
            case 1 where diary.thread < 2:
                let size = Int.random(in: 0...Storm.cellCount, using: &random)
                let (freed, after) = storm.sink.truncate(storm.file, to: size * 8, at: storm.clock.now())
                diary.truncates.append((size, after.changeTime))
                storm.writeBack.release(freed)
            case 2 where !diary.writes.isEmpty: await look(storm, diary)
            default:
                let low = Int.random(in: 0..<Storm.cellCount, using: &random)
                let count = Int.random(in: 1...[2, 30, 200].randomElement(using: &random)!, using: &random)
                await write(
                    storm, diary, low..<min(low + count, Storm.cellCount),
                    isStable: Int.random(in: 0..<100, using: &random) == 0)
            }
        }
    }

    /// A writer reads what it wrote last.
    private static func look(_ storm: Storm, _ diary: Diary) async {
        guard let write = diary.writes.last, write.time != nil else { return }
        do {
            let found = Diary.cells(try await storm.sink.read(storm.file))
            for cell in [write.cells.lowerBound, write.cells.upperBound - 1] {
                diary.sights.append(
                    Diary.Sight(
                        write: diary.number(diary.writes.count - 1), cell: cell,
                        found: cell < found.count ? found[cell] : 0, verifier: storm.verifier))
            }
        } catch {
            // While a failed drain is wound up, and where the dump is read back with a fault.
            if storm.weather.failsOneIn == 0 { storm.complain("a READ failed: \(error)") }
        }
    }

    /// What can't have been; `cells` is what is left at the end.
    private static func judge(_ storm: Storm, _ diaries: [Diary], _ cells: [UInt64]) -> [String] {
        var complaints = storm.allComplaints
        var writes: [UInt64: Diary.Write] = [:]
        var covering = Array(repeating: [UInt64](), count: Storm.cellCount)
        for diary in diaries {
            for (index, write) in diary.writes.enumerated() {
                writes[diary.number(index)] = write
                for cell in write.cells { covering[cell].append(diary.number(index)) }
            }
        }
        let truncates = diaries.flatMap(\.truncates)
        /// Whether a cell may show `found` if this had been written there, by the time of the truncates before `end`.
        func explains(_ found: UInt64, in cell: Int, after time: Timestamp) -> Bool {
            let cut = truncates.filter { $0.cells <= cell && $0.time > time }.map(\.time)
            guard found != 0 else { return !cut.isEmpty }
            guard let write = writes[found], write.cells.contains(cell) else { return false }
            // A write that was not answered has no known place.
            return write.time.map { $0 >= time } ?? true
        }
        for cell in 0..<Storm.cellCount {
            let found = cell < cells.count ? cells[cell] : 0
            if found != 0 {
                guard let write = writes[found], write.cells.contains(cell) else {
                    complaints.append("cell \(cell) has \(found), which nobody wrote there")
                    continue
                }
                if let time = write.time, truncates.contains(where: { $0.cells <= cell && $0.time > time }) {
                    complaints.append("cell \(cell) has \(found), which was truncated away")
                }
            }
            let isCalm = storm.weather.failsOneIn == 0
            for number in covering[cell] {
                // Where nothing was lost, what was answered is as good as promised.
                guard let write = writes[number], let time = write.time, write.isPromised || isCalm else { continue }
                if !explains(found, in: cell, after: time) {
                    complaints.append("cell \(cell) has \(found) and not \(number), promised: \(write.isPromised)")
                }
            }
        }
        for sight in diaries.flatMap(\.sights) {
            guard let write = writes[sight.write], let time = write.time, sight.verifier == write.verifier else {
                continue
            }
            if !explains(sight.found, in: sight.cell, after: time) {
                complaints.append(
                    "\(sight.write) was answered, but a READ after it found \(sight.found) in \(sight.cell)")
            }
        }
        return complaints
    }

    static let weathers: [Weather] = [
        Weather(seed: 0, stripe: 1200), Weather(seed: 1), Weather(seed: 2, dumpFails: true),
        Weather(seed: 3, stripe: 1200, failsOneIn: 4), Weather(seed: 4, failsOneIn: 10, dumpFails: true),
        Weather(seed: 5, failsOneIn: 10, isRemoved: true), Weather(seed: 6, isRemoved: true),
    ]

    /// Waits without holding a thread of the pool, which drains need, or a processor.
    private static func join(_ threads: ThreadGroup, _ running: Countdown) async {
        while !running.isZero { try? await Task.sleep(for: .milliseconds(1)) }
        threads.join()
    }

    /// Runs the work on a thread of its own.
    private static func onThread(_ work: @escaping @Sendable () async -> Void) async {
        let threads = ThreadGroup()
        let running = Countdown(1)
        threads.start {
            ThreadExecutor.run(work)
            running.countDown()
        }
        await join(threads, running)
    }

    private static func blow(_ storm: Storm, _ diaries: [Diary]) async {
        let threads = ThreadGroup()
        let gate = Gate(count: diaries.count + 2)
        let writing = Countdown(diaries.count)
        let running = Countdown(diaries.count + 2)
        for diary in diaries {
            threads.start {
                gate.arriveAndWait()
                ThreadExecutor.run { await writer(storm, diary, rounds: 250) }
                if storm.weather.isRemoved && diary.thread == 0 { storm.writeBack.release(storm.file.remove()) }
                writing.countDown()
                running.countDown()
            }
        }
        // A reader of everything, whatever it finds.
        threads.start {
            gate.arriveAndWait()
            ThreadExecutor.run {
                while !writing.isZero {
                    // It may fail where drains do; see `look`.
                    _ = try? await storm.sink.read(storm.file)
                    sched_yield()
                }
            }
            running.countDown()
        }
        // Time goes on, and now and then the file seems to rest.
        threads.start {
            gate.arriveAndWait()
            while !writing.isZero {
                storm.clock.advance(seconds: 3)
                storm.writeBack.tick()
                for _ in 0..<20 { sched_yield() }
            }
            running.countDown()
        }
        await join(threads, running)
    }

    @Test("what was promised is there at the end, and nothing is left over", arguments: weathers)
    func storm(weather: Weather) async throws {
        let storm = try Storm(weather)
        let writeBack = storm.writeBack
        let diaries = (0..<6).map { Diary($0) }
        let first = Diary(diaries.count)
        await Self.onThread { await Self.fill(storm, first) }
        storm.sink.state.withLock { state in
            state.failsOneIn = weather.failsOneIn
            if weather.failsOneIn > 0 { state.nextErrors = [.noSpace] }
        }
        await Self.blow(storm, diaries)
        storm.sink.state.withLock { state in
            state.failsOneIn = 0
            state.nextErrors = []
        }
        await Self.onThread { _ = await writeBack.settleAll() }
        while writeBack.usage.pendingBytes != 0 { await Task.yield() }

        let cells = Diary.cells(storm.sink.durable(storm.file.fileID))
        if !weather.isRemoved {
            let complaints = Self.judge(storm, diaries + [first], cells)
            #expect(complaints.isEmpty, "seed \(weather.seed): \(complaints.prefix(10))")
            #expect(storm.file.attributes.size == UInt64(storm.sink.durable(storm.file.fileID).count))
        } else {
            #expect(throws: WriteBackError.removed) {
                try storm.file.write(
                    Payload(bytes: [1]), at: 0, isStable: false, now: storm.clock.now(), elapsed: .zero,
                    clearingModeBits: 0, limits: WriteBackLimits())
            }
        }
        // It was a storm.
        #expect(diaries.allSatisfy { $0.writes.contains { $0.time != nil } })
        #expect(weather.failsOneIn == 0 || storm.sink.state.withLock { $0.failures } > 0)
        #expect(weather.stripe < 1 << 20 || weather.dumpFails || storm.dump.usage.dumpedBytes > 0)
        #expect(!weather.dumpFails || storm.dump.usage.failures > 0)
        #expect(storm.file.isClean && storm.file.heldBytes == 0 && writeBack.usage.openFiles == 0)
        storm.sink.state.withLock { state in
            state.plans = []
            state.packs = []
        }
        storm.epochs.collectAll()
        #expect(storm.epochs.liveBlocks == 0, "seed \(weather.seed)")
        #expect(storm.sink.journal.state.withLock { $0.liveClaims } == 0, "seed \(weather.seed)")
        // The thread that has read something back may be the last to let go of it. The time limit ends this.
        while storm.dump.usage.segments > 0 { await Task.yield() }
        #expect(storm.dump.usage.bytes == 0, "seed \(weather.seed)")
        await Self.onThread { await storm.dump.close() }
    }
}
