// What was published before a reader began is found by him, while the tree grows, loses pages and is made anew.

import FaultInjection
import Glibc
import Model
import Synchronization
import Testing

@testable import LockFree

@Suite("Completeness")
struct CompletenessTests {
    /// A writer's places in the file, one after another, and which of them are his at the moment.
    private final class Writer: @unchecked Sendable {
        let index: Int
        let places: [UInt64]
        /// So many of the last ones stay.
        let window: Int
        /// 1 for the first of the places; 0 before.
        let current = Atomic<Int>(0)
        /// The sequence of the oldest entry that stays; nothing from it on may be taken away.
        let kept = Atomic<UInt64>(1)

        init(_ index: Int, _ count: Int, window: Int, _ random: inout SeededGenerator) {
            self.index = index
            self.window = window
            // Most are near one another, some so far away that the tree must grow for them.
            places = (0..<count).map { _ in
                UInt64.random(in: 0..<4, using: &random) << (19 + UInt64.random(in: 0..<24, using: &random))
            }
        }

        func number(_ place: Int) -> UInt64 { UInt64(index) << 32 | UInt64(place) }
    }

    @Test("a reader finds what was published before he began and stays", arguments: 0..<4)
    func readers(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        // The less stays, the more often the map is nearly empty.
        let writers = (0..<3).map { Writer($0, 600, window: [4, 20][seed % 2], &random) }
        let domain = EpochDomain()
        let map = OffsetMap(domain)
        let lock = PlainLock()
        var sequence: UInt64 = 0
        let writing = Countdown(writers.count)
        let gate = Gate(count: writers.count + 3)
        let threads = ThreadGroup()
        for writer in writers {
            threads.start {
                var sequences: [UInt64] = []
                gate.arriveAndWait()
                for (index, place) in writer.places.enumerated() {
                    let insertion = map.insert(Label(writer.number(index + 1)), at: place, count: 1 << 16, charge: 1)
                    lock.withLock {
                        sequence += 1
                        map.publish(insertion, WriteSequence(rawValue: sequence))
                        sequences.append(sequence)
                    }
                    // In this order: who doesn't see the new one knows that the oldest one stays.
                    writer.current.store(index + 1, ordering: .releasing)
                    if index + 1 >= writer.window {
                        writer.kept.store(sequences[index + 1 - writer.window], ordering: .releasing)
                    }
                    if index % 16 == 0 { sched_yield() }
                }
                writing.countDown()
            }
        }
        // The maintainer takes away all that nobody keeps, and with it pages and roots.
        threads.start {
            gate.arriveAndWait()
            while !writing.isZero {
                let kept = writers.map { $0.kept.load(ordering: .acquiring) }.min()!
                _ = map.trim(ByteRange(0, 1 << 63), through: WriteSequence(rawValue: kept - 1))
                map.unlinkDead()
                domain.collect()
            }
        }
        var missing: [[String]] = [[], []]
        var claims = [0, 0]
        for reader in 0..<2 {
            threads.start {
                var missed: [String] = []
                var count = 0
                var isLast = false
                gate.arriveAndWait()
                while !isLast {
                    // Once more when all is written, so that there is something to be found however the threads have run.
                    isLast = writing.isZero
                    let before = writers.map { $0.current.load(ordering: .acquiring) }
                    var found: Set<UInt64> = []
                    if reader == 0 {
                        map.forEach {
                            found.insert(($0.value as! Label).number)
                            return true
                        }
                    } else {
                        for (writer, last) in zip(writers, before) {
                            for place in writer.places[max(0, last - writer.window)..<last] {
                                for finding in map.overlapping(ByteRange(place, place + 1)) {
                                    found.insert((finding.value as! Label).number)
                                }
                            }
                        }
                    }
                    for (writer, last) in zip(writers, before) {
                        let first = max(1, writer.current.load(ordering: .acquiring) - writer.window + 1)
                        for place in first..<max(first, last + 1) {
                            count += 1
                            if !found.contains(writer.number(place)) { missed.append("\(writer.index): \(place)") }
                        }
                    }
                }
                lock.withLock { (missing[reader], claims[reader]) = (missed, count) }
            }
        }
        threads.join()
        #expect(missing.allSatisfy { $0.isEmpty }, "seed \(seed): \(missing)")
        #expect(claims.allSatisfy { $0 > 0 })
        _ = map.trim(ByteRange(0, 1 << 63), through: WriteSequence(rawValue: sequence))
        map.unlinkDead()
        domain.collectAll()
        #expect(domain.liveBlocks == 0)
    }
}
