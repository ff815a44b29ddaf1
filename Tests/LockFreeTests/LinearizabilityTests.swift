// The map with what belongs to it, the lock that orders sequences and counts bytes, and the set of what has been drained,
// used from several threads as write-back uses them: each history must be one that a file could have had that does one
// thing after the other.

import FaultInjection
import Model
import Synchronization
import Testing

@testable import LockFree

/// A file of a few cells over a map, as a model of how the map is used.
private final class SmallFile: @unchecked Sendable {
    static let cells = 6
    /// So that the cells lie in three pages.
    static let cellBytes: UInt64 = 1 << 19

    struct Counts: Hashable {
        var sequence: UInt64 = 0
        var pendingBytes: UInt64 = 0
        var drainedThrough: UInt64 = 0
    }

    private let map: OffsetMap
    private let lock = PlainLock()
    private var counts = Counts()
    /// Taken before `lock`. Of each cell: the sequence that was drained last.
    private let extentsLock = PlainLock()
    private var extents = [UInt64](repeating: 0, count: cells)

    /// While a drain is out: cells from here on were truncated away meanwhile.
    private var clip: Int?
    /// The maintainer's, which says how often a value was replaced.
    private var replaced: UInt64 = 0

    /// A value that knows where it belongs, and which copy it is.
    private final class Mark: MapValue, @unchecked Sendable {
        let base: UInt64
        let copy: UInt64
        init(_ base: UInt64, copy: UInt64 = 0) {
            self.base = base
            self.copy = copy
        }
    }

    init(_ domain: EpochDomain) { map = OffsetMap(domain) }

    static func range(_ cells: Range<Int>) -> ByteRange {
        ByteRange(UInt64(cells.lowerBound) * cellBytes, UInt64(cells.upperBound) * cellBytes)
    }

    private static func cells(_ range: ByteRange) -> Range<Int> {
        Int(range.lowerBound / cellBytes)..<Int(range.upperBound / cellBytes)
    }

    /// Returns its sequence.
    func write(_ cells: Range<Int>) -> UInt64 {
        let range = Self.range(cells)
        let insertion = map.insert(Mark(range.lowerBound), at: range.lowerBound, count: Int(range.count), charge: 1)
        return lock.withLock {
            counts.sequence += 1
            counts.pendingBytes += range.count
            map.publish(insertion, WriteSequence(rawValue: counts.sequence))
            return counts.sequence
        }
    }

    /// A write that is refused after it was linked.
    func abandon(_ cells: Range<Int>) {
        let range = Self.range(cells)
        map.abandon(map.insert(Mark(range.lowerBound), at: range.lowerBound, count: Int(range.count), charge: 1))
    }

    /// Takes its place in the order, and the cells from `size` on away. Returns its sequence.
    func truncate(_ size: Int) -> UInt64 {
        extentsLock.withLock {
            lock.withLock {
                counts.sequence += 1
                let range = ByteRange(UInt64(size) * Self.cellBytes, 1 << 63)
                counts.pendingBytes -= map.trim(range, through: WriteSequence(rawValue: counts.sequence)).bytes
                clip = min(clip ?? size, size)
                for cell in size..<Self.cells { extents[cell] = 0 }
                return counts.sequence
            }
        }
    }

    /// Puts others in the place of all values that begin in the cells.
    func replace(_ cells: Range<Int>) {
        for finding in map.overlapping(Self.range(cells)) {
            replaced += 1
            _ = map.replaceValue(of: finding, by: Mark(finding.base, copy: replaced), charge: 1)
        }
    }

    /// Of each cell, the sequence that is on top.
    func read() -> [UInt64] {
        extentsLock.withLock {
            let through = lock.withLock { counts.sequence }
            return overlaid(extents, through)
        }
    }

    private func overlaid(_ cells: [UInt64], _ through: UInt64) -> [UInt64] {
        var result = cells
        for finding in map.overlapping(Self.range(0..<Self.cells), through: WriteSequence(rawValue: through)) {
            // What isn't the entry's own is seen as something that nobody wrote.
            let isOwn = (finding.value as! Mark).base == finding.base
            for cell in Self.cells(finding.range) {
                result[cell] = max(result[cell], isOwn ? finding.sequence.rawValue : .max)
            }
        }
        return result
    }

    func count() -> Counts { lock.withLock { counts } }

    /// Drains the first cells, up to this sequence. One at a time.
    func drain(_ cells: Int, through: UInt64) {
        lock.withLock { clip = nil }
        let planned = overlaid([UInt64](repeating: 0, count: Self.cells), through)
        extentsLock.withLock {
            let end = lock.withLock { min(cells, clip ?? cells) }
            for cell in 0..<end { extents[cell] = max(extents[cell], planned[cell]) }
        }
        // Only now the bytes may leave the map: a reader finds them here or there.
        let trimmed = map.trim(Self.range(0..<cells), through: WriteSequence(rawValue: through))
        lock.withLock {
            counts.pendingBytes -= trimmed.bytes
            if cells == Self.cells { counts.drainedThrough = max(counts.drainedThrough, through) }
        }
        map.unlinkDead()
    }
}

/// The same, one thing after the other.
private struct SequentialFile: Hashable {
    struct Pending: Hashable {
        let sequence: UInt64
        var cells: Range<Int>
    }
    var counts = SmallFile.Counts()
    var top = [UInt64](repeating: 0, count: SmallFile.cells)
    var pending: [Pending] = []

    /// What a truncate finds gone is counted as pending until the drain that took it away says so.
    func couldCount(_ found: SmallFile.Counts) -> Bool {
        found.sequence == counts.sequence && found.drainedThrough == counts.drainedThrough
            && found.pendingBytes >= counts.pendingBytes
    }

    mutating func write(_ cells: Range<Int>) -> UInt64 {
        counts.sequence += 1
        counts.pendingBytes += SmallFile.range(cells).count
        for cell in cells { top[cell] = counts.sequence }
        pending.append(Pending(sequence: counts.sequence, cells: cells))
        return counts.sequence
    }

    mutating func truncate(_ size: Int) -> UInt64 {
        counts.sequence += 1
        for cell in size..<SmallFile.cells { top[cell] = 0 }
        for index in pending.indices where pending[index].cells.upperBound > size {
            let old = pending[index].cells
            let new = min(old.lowerBound, size)..<max(min(old.upperBound, size), min(old.lowerBound, size))
            counts.pendingBytes -= SmallFile.range(old).count - SmallFile.range(new).count
            pending[index].cells = new
        }
        pending.removeAll { $0.cells.isEmpty }
        return counts.sequence
    }

    mutating func drain(_ cells: Int, through: UInt64) {
        for index in pending.indices where pending[index].sequence <= through && pending[index].cells.lowerBound < cells
        {
            let old = pending[index].cells
            let new = min(cells, old.upperBound)..<old.upperBound
            counts.pendingBytes -= SmallFile.range(old).count - SmallFile.range(new).count
            pending[index].cells = new
        }
        pending.removeAll { $0.cells.isEmpty }
        if cells == SmallFile.cells { counts.drainedThrough = max(counts.drainedThrough, through) }
    }
}

@Suite("Linearizability")
struct LinearizabilityTests {
    /// What one thread did, on the clock of all.
    private final class Recorder: @unchecked Sendable {
        let clock: ClockOfAll
        var operations: [Operation<SequentialFile>] = []

        init(_ clock: ClockOfAll) { self.clock = clock }

        func record<Result>(
            _ name: String, _ call: () -> Result, _ apply: @escaping @Sendable (inout SequentialFile, Result) -> Bool
        ) -> Result where Result: Sendable {
            let called = clock.tick()
            let result = call()
            let returned = clock.tick()
            operations.append(
                Operation(called: called, returned: returned, name: "\(name) → \(result)") { apply(&$0, result) })
            return result
        }
    }

    private final class ClockOfAll: Sendable {
        private let time = Atomic<Int>(0)
        func tick() -> Int { time.add(1, ordering: .sequentiallyConsistent).newValue }
    }

    private func history(_ seed: Int, _ domain: EpochDomain) -> [Operation<SequentialFile>] {
        let file = SmallFile(domain)
        let clock = ClockOfAll()
        let recorders = (0..<4).map { _ in Recorder(clock) }
        let gate = Gate(count: recorders.count)
        let threads = ThreadGroup()
        for (index, recorder) in recorders.enumerated() {
            threads.start {
                var random = SeededGenerator(seed: UInt64(seed) << 8 | UInt64(index))
                gate.arriveAndWait()
                for _ in 0..<5 {
                    let low = Int.random(in: 0..<SmallFile.cells, using: &random)
                    // An entry is a page at most, two cells.
                    let cells = low..<min(low + Int.random(in: 1...2, using: &random), SmallFile.cells)
                    switch (index, Int.random(in: 0..<4, using: &random)) {
                    case (0, 0):
                        _ = recorder.record("count", file.count) { $0.couldCount($1) }
                    case (0, 1):
                        recorder.record("replace \(cells)", { file.replace(cells) }) { _, _ in true }
                    case (0, _):
                        let count = Bool.random(using: &random) ? SmallFile.cells : low
                        let through = recorder.record("plan", { file.count().sequence }) { $0.counts.sequence == $1 }
                        recorder.record("drain \(count) through \(through)", { file.drain(count, through: through) }) {
                            model, _ in
                            model.drain(count, through: through)
                            return true
                        }
                    case (_, 0), (3, 1):
                        _ = recorder.record("read", file.read) { $0.top == $1 }
                    case (2, 1):
                        _ = recorder.record("truncate \(low)", { file.truncate(low) }) { $0.truncate(low) == $1 }
                    case (1, 1):
                        recorder.record("abandon \(cells)", { file.abandon(cells) }) { _, _ in true }
                    default:
                        _ = recorder.record("write \(cells)", { file.write(cells) }) { $0.write(cells) == $1 }
                    }
                }
            }
        }
        threads.join()
        // Nothing was counted twice or not at all.
        file.drain(SmallFile.cells, through: file.count().sequence)
        #expect(file.count().pendingBytes == 0, "seed \(seed)")
        return recorders.flatMap(\.operations)
    }

    @Test("writes, reads, truncates, drains, dumps and counts of several threads have an order", arguments: 0..<50)
    func histories(seed: Int) {
        let domain = EpochDomain()
        for round in 0..<20 {
            let history = history(seed * 1000 + round, domain)
            #expect(
                isLinearizable(history, from: SequentialFile()),
                "seed \(seed), round \(round): \(history.sorted { $0.called < $1.called })")
        }
        for _ in 0..<4 { domain.collect() }
        #expect(domain.liveBlocks == 0)
    }

    @Test("the checker refuses what no order explains, and takes what one does")
    func checker() {
        func write(_ called: Int, _ returned: Int, _ value: Int) -> Operation<Int> {
            Operation(called: called, returned: returned, name: "write") {
                $0 = value; return true
            }
        }
        func read(_ called: Int, _ returned: Int, _ value: Int) -> Operation<Int> {
            Operation(called: called, returned: returned, name: "read") { $0 == value }
        }
        // The second read goes back in time.
        #expect(!isLinearizable([write(1, 10, 7), read(2, 3, 7), read(4, 5, 0)], from: 0))
        #expect(isLinearizable([write(1, 10, 7), read(2, 3, 0), read(4, 5, 7)], from: 0))
        // Lost, after it returned.
        #expect(!isLinearizable([write(1, 2, 7), read(3, 4, 0)], from: 0))
        // Two at once may have been either way, but for one reader.
        #expect(isLinearizable([write(1, 9, 7), write(2, 8, 8), read(10, 11, 7)], from: 0))
        #expect(!isLinearizable([write(1, 9, 7), write(2, 8, 8), read(10, 11, 7), read(12, 13, 8)], from: 0))
    }
}
