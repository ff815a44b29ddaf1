// A sink in memory for the tests of write-back: it can be held, made to fail, and shows what it published. Its lock is what
// the namespace thread is for a store: it orders publishing, truncates, reverts and readers.
//
// Lock order: `state`, then a context's lock.

import FaultInjection
import Glibc
import Journal
import Model
import Platform
import Synchronization

@testable import WriteBack

final class MemorySink: WriteBackSink {
    struct State {
        var files: [FileID: [UInt8]] = [:]
        /// Of each byte: up to which sequence it is published.
        var sequences: [FileID: [WriteSequence]] = [:]
        var plans: [DrainPlan] = []
        var packs: [(parts: [PackedPart], mayPad: Bool)] = []
        var isPacking = false
        var nextErrors: [WriteBackError] = []
        /// One drain in so many fails; 0: none does.
        var failsOneIn = 0
        var random = SeededGenerator(seed: 0)
        var failures = 0
        /// How often a drain lets other threads go first before it publishes.
        var yields = 0
        var isHeld = false
        var cannotRevert = false
        var held: [UnsafeContinuation<Void, Never>] = []
        var arrivals: [UnsafeContinuation<Void, Never>] = []
        var lost: [(FileID, WriteBackError)] = []
        var draining: Set<FileID> = []
        /// Files for which something is open.
        var open: Set<FileID> = []

        mutating func nextError() -> WriteBackError? {
            if nextErrors.isEmpty, failsOneIn > 0, Int.random(in: 0..<failsOneIn, using: &random) == 0 {
                nextErrors = [[.inputOutput, .noSpace].randomElement(using: &random)!]
            }
            guard !nextErrors.isEmpty else { return nil }
            failures += 1
            return nextErrors.removeFirst()
        }

        mutating func publish(_ plan: DrainPlan, _ contents: [[UInt8]], of file: OpenFileContext) {
            var bytes = files[file.fileID] ?? []
            var sequences = sequences[file.fileID] ?? []
            for (run, content) in zip(plan.runs, contents) {
                let end = min(run.range.upperBound, file.drainClip ?? .max)
                if end <= run.range.lowerBound { continue }
                if bytes.count < Int(end) { bytes += Array(repeating: 0, count: Int(end) - bytes.count) }
                if sequences.count < bytes.count {
                    sequences += Array(repeating: .zero, count: bytes.count - sequences.count)
                }
                let published = Int(run.range.lowerBound)..<Int(end)
                bytes.replaceSubrange(published, with: content.prefix(published.count))
                sequences.replaceSubrange(published, with: repeatElement(plan.sequence, count: published.count))
            }
            files[file.fileID] = bytes
            self.sequences[file.fileID] = sequences
        }
    }
    let state = Mutex(State())
    let journal = MemoryJournal()
    private let stripe = Mutex(12)
    var stripeSizeBytes: Int {
        get { stripe.withLock { $0 } }
        set { stripe.withLock { $0 = newValue } }
    }
    let order = DrainOrder.any
    /// Losses so far: while they are the same, so is the write verifier.
    let verifierChanges = Atomic<Int>(0)

    func journalHasRoom(forBytes count: Int) -> Bool { journal.hasRoom(for: count) }

    func drain(_ plan: DrainPlan, of file: OpenFileContext) async throws(WriteBackError) -> [JournaledBytes?] {
        let contents = try await Self.load(plan)
        var journaled: [[UInt8]] = []
        var loaded = DumpedBytes()
        for piece in plan.journaling { journaled.append(try await piece.bytes.load(&loaded).bytes) }
        check(plan)
        let arrivals = state.withLock { state in
            precondition(state.draining.insert(file.fileID).inserted, "two drains of one file at once")
            state.plans.append(plan)
            defer { state.arrivals = [] }
            return state.arrivals
        }
        for arrival in arrivals { arrival.resume() }
        await passWhenLetGo()
        let result: Result<[JournaledBytes?], WriteBackError> = state.withLock { state in
            state.draining.remove(file.fileID)
            if plan.rests {
                state.open.remove(file.fileID)
            } else if !plan.runs.isEmpty {
                state.open.insert(file.fileID)
            }
            if let error = state.nextError() {
                state.open.remove(file.fileID)
                return .failure(error)
            }
            state.publish(plan, contents, of: file)
            return .success(
                zip(plan.journaling, journaled).map { piece, bytes in
                    let end = min(piece.range.upperBound, file.drainClip ?? .max)
                    guard piece.range.lowerBound < end else { return nil }
                    let count = Int(end - piece.range.lowerBound)
                    return journal.append(
                        file.fileID, piece.range.lowerBound, piece.sequence, Array(bytes.prefix(count)))
                })
        }
        return try result.get()
    }

    func pack(_ parts: [PackedPart], mayPad: Bool) async throws(PackFailure) {
        var contents: [[[UInt8]]] = []
        for part in parts {
            do throws(WriteBackError) {
                contents.append(try await Self.load(part.plan))
            } catch {
                throw PackFailure(error, unreadable: part.file.fileID)
            }
        }
        precondition(mayPad || parts.reduce(0) { $0 + $1.plan.byteCount } % stripeSizeBytes == 0)
        let arrivals = state.withLock { state in
            for part in parts {
                precondition(state.draining.insert(part.file.fileID).inserted, "two drains of one file at once")
                precondition(part.plan.rests && part.plan.journaling.isEmpty && part.plan.losesNothing)
                precondition(!state.open.contains(part.file.fileID))
            }
            precondition(!state.isPacking, "two packs at once")
            state.isPacking = true
            state.packs.append((parts, mayPad))
            defer { state.arrivals = [] }
            return state.arrivals
        }
        for arrival in arrivals { arrival.resume() }
        await passWhenLetGo()
        let error: WriteBackError? = state.withLock { state in
            state.isPacking = false
            for part in parts { state.draining.remove(part.file.fileID) }
            if let error = state.nextError() { return error }
            for (part, content) in zip(parts, contents) { state.publish(part.plan, content, of: part.file) }
            return nil
        }
        if let error { throw PackFailure(error) }
    }

    /// As a sink does: portion by portion, from wherever they are.
    private static func load(_ plan: DrainPlan) async throws(WriteBackError) -> [[UInt8]] {
        var contents: [[UInt8]] = []
        for run in plan.runs {
            var reader = DrainReader(run)
            var content: [UInt8] = []
            while let portion = try await reader.nextPortion() { content += portion.bytes }
            contents.append(content)
        }
        return contents
    }

    private func check(_ plan: DrainPlan) {
        precondition(plan.mayPad || plan.byteCount % stripeSizeBytes == 0, "a stripe is padded")
        for piece in plan.journaling {
            precondition(!piece.bytes.isJournaled, "journaled twice")
            precondition(plan.runs.allSatisfy { !$0.range.overlaps(piece.range) }, "striped and journaled")
        }
    }

    private func passWhenLetGo() async {
        await withUnsafeContinuation { continuation in
            let passes = state.withLock { state in
                if state.isHeld { state.held.append(continuation) }
                return !state.isHeld
            }
            if passes { continuation.resume() }
        }
        for _ in 0..<state.withLock({ $0.yields }) { sched_yield() }
    }

    /// Until the file rests.
    func hasOpenOutput(for file: FileID) -> Bool { state.withLock { $0.open.contains(file) } }

    func revert(_ file: OpenFileContext) async -> Bool {
        state.withLock { state in
            if !state.cannotRevert { file.revert(size: UInt64(state.files[file.fileID]?.count ?? 0), usedBytes: 0) }
            return !state.cannotRevert
        }
    }

    func acknowledgedBytesWereLost(in file: FileID, arrivedUntil: Duration, because error: WriteBackError) {
        state.withLock { $0.lost.append((file, error)) }
        verifierChanges.add(1, ordering: .sequentiallyConsistent)
    }

    func hold() { state.withLock { $0.isHeld = true } }

    func letGo() {
        let held = state.withLock { state in
            state.isHeld = false
            defer { state.held = [] }
            return state.held
        }
        for continuation in held { continuation.resume() }
    }

    /// Returns when `count` drains have begun.
    func waitForDrains(_ count: Int) async {
        while state.withLock({ $0.plans.count < count }) {
            await withUnsafeContinuation { continuation in
                let isThere = state.withLock { state in
                    if state.plans.count < count { state.arrivals.append(continuation) }
                    return state.plans.count >= count
                }
                if isThere { continuation.resume() }
            }
        }
    }

    /// Returns when `count` packs have begun.
    func waitForPacks(_ count: Int) async {
        while state.withLock({ $0.packs.count < count }) { await Task.yield() }
    }

    /// What a truncate that is recorded does to what is published.
    func truncate(_ file: FileID, to size: Int) {
        state.withLock { state in
            journal.truncate(file, to: UInt64(size))
            state.files[file] = state.files[file].map { Array($0.prefix(size)) }
            state.sequences[file] = state.sequences[file].map { Array($0.prefix(size)) }
        }
    }

    /// Truncates the file, up or down, and what is published of it, at one moment. Returns the bytes freed as well.
    func truncate(_ file: OpenFileContext, to size: Int, at now: Timestamp) -> (freedBytes: Int, after: FileAttributes)
    {
        state.withLock { state in
            let truncated = file.truncate(to: UInt64(size)) { $0.touch(now) }
            let bytes = (state.files[file.fileID] ?? []).prefix(size)
            let sequences = (state.sequences[file.fileID] ?? []).prefix(size)
            state.files[file.fileID] = bytes + Array(repeating: 0, count: size - bytes.count)
            state.sequences[file.fileID] = sequences + Array(repeating: .zero, count: size - sequences.count)
            journal.truncate(file.fileID, to: UInt64(size))
            // Recorded is durable here.
            file.truncateIsDurable(truncated.sequence)
            return (truncated.freedBytes, truncated.step.after)
        }
    }

    /// What a reader sees: pending bytes over published ones, the later of the two.
    func read(_ file: OpenFileContext) async throws -> [UInt8] {
        let result = state.withLock { state in
            Result { () throws(WriteBackError) in
                let (pending, attributes) = try file.snapshot(ByteRange(0, 1 << 62))
                // Copied here: the thread sanitizer doesn't see that it is the counting of references that orders the last
                // reader of an array and who then changes it in place.
                var bytes = [UInt8](repeating: 0, count: Int(attributes.size))
                var sequences = [WriteSequence](repeating: .zero, count: bytes.count)
                let count = min(state.files[file.fileID]?.count ?? 0, bytes.count)
                if count > 0 {
                    bytes.replaceSubrange(..<count, with: state.files[file.fileID]![..<count])
                    sequences.replaceSubrange(..<count, with: state.sequences[file.fileID]![..<count])
                }
                return (pending, bytes, sequences)
            }
        }
        let (pending, published, sequences) = try result.get()
        var bytes = published
        var dumped = DumpedBytes()
        for piece in pending {
            for (index, byte) in try await piece.bytes.load(&dumped).bytes.enumerated() {
                let place = Int(piece.range.lowerBound) + index
                if piece.sequence > sequences[place] { bytes[place] = byte }
            }
        }
        return bytes
    }

    /// What is striped.
    func published(_ file: FileID) -> [UInt8] { state.withLock { $0.files[file] ?? [] } }

    /// What a start would find: what is striped, and what the journal has.
    func durable(_ file: FileID, includesDead: Bool = false) -> [UInt8] {
        state.withLock { state in
            var bytes = state.files[file] ?? []
            var sequences = state.sequences[file] ?? []
            for record in journal.recovered(file, includesDead: includesDead) {
                let end = Int(record.offset) + record.bytes.count
                if bytes.count < end { bytes += Array(repeating: 0, count: end - bytes.count) }
                if sequences.count < bytes.count {
                    sequences += Array(repeating: .zero, count: bytes.count - sequences.count)
                }
                for (index, byte) in record.bytes.enumerated() {
                    let place = Int(record.offset) + index
                    if record.sequence > sequences[place] {
                        bytes[place] = byte
                        sequences[place] = record.sequence
                    }
                }
            }
            return bytes
        }
    }
}

extension PendingWrite {
    /// Of one that is in memory.
    var content: [UInt8] { bytes.inMemory!.bytes }
}

extension DrainRun {
    /// Of one that is in memory.
    var content: [UInt8] { pieces.flatMap(\.content) }
}

func testAttributes(_ file: FileID, size: UInt64 = 0) -> FileAttributes {
    let time = Timestamp(seconds: 1, nanoseconds: 0)
    return FileAttributes(
        fileID: file, type: .regular, mode: 0o644, linkCount: 1, uid: 0, gid: 0, size: size, usedBytes: 0,
        accessTime: time, modificationTime: time, changeTime: time)
}

/// Time that stands still until told otherwise.
final class TestClock: SystemClock, @unchecked Sendable {
    private let time = Mutex((wall: Timestamp(seconds: 1000, nanoseconds: 0), elapsed: Duration.zero))
    override func now() -> Timestamp { time.withLock { $0.wall } }
    override func elapsed() -> Duration { time.withLock { $0.elapsed } }
    func advance(seconds: Int64) {
        time.withLock {
            $0.wall = Timestamp(seconds: $0.wall.seconds + seconds, nanoseconds: 0)
            $0.elapsed += .seconds(seconds)
        }
    }
}
