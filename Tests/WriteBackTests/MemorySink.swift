// A sink in memory for the tests of write-back: it can be held, made to fail, and shows what it published.

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
        var nextErrors: [WriteBackError] = []
        var isHeld = false
        var cannotRevert = false
        var held: [UnsafeContinuation<Void, Never>] = []
        var arrivals: [UnsafeContinuation<Void, Never>] = []
        var lost: [(FileID, WriteBackError)] = []
        var draining: Set<FileID> = []
    }
    let state = Mutex(State())
    private let stripe = Mutex(12)
    var stripeSizeBytes: Int {
        get { stripe.withLock { $0 } }
        set { stripe.withLock { $0 = newValue } }
    }
    let order = DrainOrder.any

    func drain(_ plan: DrainPlan, of file: OpenFileContext) async throws(WriteBackError) {
        // As a sink does: portion by portion, from wherever they are.
        var contents: [[UInt8]] = []
        for run in plan.runs {
            var reader = DrainReader(run)
            var content: [UInt8] = []
            while let portion = try await reader.nextPortion() { content += portion.bytes }
            contents.append(content)
        }
        let arrivals = state.withLock { state in
            precondition(state.draining.insert(file.fileID).inserted, "two drains of one file at once")
            state.plans.append(plan)
            defer { state.arrivals = [] }
            return state.arrivals
        }
        for arrival in arrivals { arrival.resume() }
        await withUnsafeContinuation { continuation in
            let passes = state.withLock { state in
                if state.isHeld { state.held.append(continuation) }
                return !state.isHeld
            }
            if passes { continuation.resume() }
        }
        let error: WriteBackError? = state.withLock { state in
            state.draining.remove(file.fileID)
            if !state.nextErrors.isEmpty { return state.nextErrors.removeFirst() }
            var bytes = state.files[file.fileID] ?? []
            var sequences = state.sequences[file.fileID] ?? []
            for (run, content) in zip(plan.runs, contents) {
                let end = min(run.range.upperBound, file.drainClip ?? .max)
                if bytes.count < Int(end) { bytes += Array(repeating: 0, count: Int(end) - bytes.count) }
                if sequences.count < bytes.count {
                    sequences += Array(repeating: .zero, count: bytes.count - sequences.count)
                }
                for (index, byte) in content.enumerated() where run.range.lowerBound + UInt64(index) < end {
                    bytes[Int(run.range.lowerBound) + index] = byte
                    sequences[Int(run.range.lowerBound) + index] = plan.sequence
                }
            }
            state.files[file.fileID] = bytes
            state.sequences[file.fileID] = sequences
            return nil
        }
        if let error { throw error }
    }

    func revert(_ file: OpenFileContext) async -> Bool {
        if state.withLock({ $0.cannotRevert }) { return false }
        file.revert(size: state.withLock { UInt64($0.files[file.fileID]?.count ?? 0) }, usedBytes: 0)
        return true
    }

    func acknowledgedBytesWereLost(in file: FileID, because error: WriteBackError) {
        state.withLock { $0.lost.append((file, error)) }
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
        while true {
            var isThere = false
            await withUnsafeContinuation { continuation in
                isThere = state.withLock { state in
                    if state.plans.count >= count { return true }
                    state.arrivals.append(continuation)
                    return false
                }
                if isThere { continuation.resume() }
            }
            if isThere { return }
        }
    }

    /// What a truncate that is recorded does to what is published.
    func truncate(_ file: FileID, to size: Int) {
        state.withLock { state in
            state.files[file] = state.files[file].map { Array($0.prefix(size)) }
            state.sequences[file] = state.sequences[file].map { Array($0.prefix(size)) }
        }
    }

    /// What a reader sees: pending bytes over published ones, the later of the two.
    func read(_ file: OpenFileContext) async throws -> [UInt8] {
        let (pending, attributes) = try file.snapshot(ByteRange(0, 1 << 62))
        var (bytes, sequences) = state.withLock { ($0.files[file.fileID] ?? [], $0.sequences[file.fileID] ?? []) }
        let size = Int(attributes.size)
        bytes += Array(repeating: 0, count: max(0, size - bytes.count))
        sequences += Array(repeating: .zero, count: max(0, size - sequences.count))
        var dumped = DumpedBytes()
        for piece in pending {
            for (index, byte) in try await piece.bytes.load(&dumped).bytes.enumerated() {
                let place = Int(piece.range.lowerBound) + index
                if piece.sequence > sequences[place] { bytes[place] = byte }
            }
        }
        return Array(bytes.prefix(size))
    }

    func published(_ file: FileID) -> [UInt8] { state.withLock { $0.files[file] ?? [] } }
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
