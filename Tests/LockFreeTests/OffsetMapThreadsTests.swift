// The map under real threads: what must hold whatever the interleaving. Also what the thread sanitizer runs.

import FaultInjection
import Model
import Testing

@testable import LockFree

@Suite("Offset map under threads")
struct OffsetMapThreadsTests {
    /// A value that knows what its entry must look like.
    final class Stamp: MapValue, @unchecked Sendable {
        let base: UInt64
        let count: UInt64
        init(_ base: UInt64, _ count: UInt64) {
            self.base = base
            self.count = count
        }
    }

    /// What the lock of a file's context orders and counts.
    private final class Ledger: @unchecked Sendable {
        private let lock = PlainLock()
        private var sequence: UInt64 = 0
        private var charged = 0
        private var bytes: UInt64 = 0

        func publish(_ map: OffsetMap, _ insertion: OffsetMap.Insertion, _ count: UInt64) {
            lock.withLock {
                sequence += 1
                charged += 100
                bytes += count
                map.publish(insertion, WriteSequence(rawValue: sequence))
            }
        }

        func giveBack(
            _ trimmed: OffsetMap.Trimmed = OffsetMap.Trimmed(), _ unlinked: OffsetMap.Unlinked = OffsetMap.Unlinked(),
            dumped: Int = 0
        ) {
            lock.withLock {
                charged -= unlinked.charge + dumped
                bytes -= trimmed.bytes
            }
        }

        var through: WriteSequence { lock.withLock { WriteSequence(rawValue: sequence) } }
        var left: (charged: Int, bytes: UInt64) { lock.withLock { (charged, bytes) } }
    }

    @Test("nothing is lost, counted twice or left over", arguments: 0..<6)
    func storm(seed: Int) {
        let domain = EpochDomain()
        do {
            let map = OffsetMap(domain)
            let ledger = Ledger()
            let threads = ThreadGroup()
            let inserters = 4
            let rounds = 1500
            let gate = Gate(count: inserters + 3)
            // Over borders of pages and, at some seeds, of branches: the tree grows and shrinks all the time.
            let place: UInt64 = [0, 63 << 20, 4095 << 20][seed % 3]
            let window: UInt64 = 3 << 20
            let writing = Countdown(inserters)
            for index in 0..<inserters {
                threads.start {
                    var random = SeededGenerator(seed: UInt64(seed) << 8 | UInt64(index))
                    gate.arriveAndWait()
                    for _ in 0..<rounds {
                        let base = place + UInt64.random(in: 0..<window, using: &random)
                        let count = UInt64.random(
                            in: 1...[1, 5000, 1 << 16, 1 << 20].randomElement(using: &random)!, using: &random)
                        let insertion = map.insert(Stamp(base, count), at: base, count: Int(count), charge: 100)
                        if Int.random(in: 0..<20, using: &random) == 0 {
                            map.abandon(insertion)
                        } else {
                            ledger.publish(map, insertion, count)
                        }
                    }
                    writing.countDown()
                }
            }
            // The maintainer: drains what begins the file, and dumps.
            threads.start {
                var random = SeededGenerator(seed: UInt64(seed) << 8 | 0x80)
                gate.arriveAndWait()
                var isLast = false
                while !isLast {
                    isLast = writing.isZero
                    let through = ledger.through
                    if Bool.random(using: &random), let finding = map.first(endingAfter: place + window / 2) {
                        let stamp = finding.value as! Stamp
                        ledger.giveBack(
                            dumped: map.replaceValue(of: finding, by: Stamp(stamp.base, stamp.count), charge: 10))
                    }
                    let end = isLast ? UInt64(1) << 63 : place + UInt64.random(in: 0..<window * 2, using: &random)
                    ledger.giveBack(map.trim(ByteRange(0, end), through: through))
                    ledger.giveBack(OffsetMap.Trimmed(), map.unlinkDead(in: ByteRange(0, end)))
                    domain.collect()
                }
            }
            // Truncates, from another thread.
            threads.start {
                var random = SeededGenerator(seed: UInt64(seed) << 8 | 0x81)
                gate.arriveAndWait()
                while !writing.isZero {
                    let size = place + UInt64.random(in: window / 2..<window, using: &random)
                    ledger.giveBack(map.trim(ByteRange(size, 1 << 63), through: ledger.through))
                }
            }
            // A reader.
            threads.start {
                var random = SeededGenerator(seed: UInt64(seed) << 8 | 0x82)
                gate.arriveAndWait()
                while !writing.isZero {
                    // Without asking the lock as well: then only the map's own orderings keep reader and writers apart.
                    let through = Bool.random(using: &random) ? ledger.through : WriteSequence(rawValue: .max)
                    let low = place + UInt64.random(in: 0..<window, using: &random)
                    let range = ByteRange(low, low + UInt64.random(in: 1..<1 << 20, using: &random))
                    var last: (UInt64, WriteSequence) = (0, .zero)
                    for finding in map.overlapping(range, through: through) {
                        let stamp = finding.value as! Stamp
                        #expect(stamp.base == finding.base && finding.sequence <= through)
                        #expect(ByteRange(offset: stamp.base, count: stamp.count).contains(finding.range))
                        #expect(finding.range.overlaps(range) && last < (finding.range.lowerBound, finding.sequence))
                        last = (finding.range.lowerBound, finding.sequence)
                    }
                }
            }
            threads.join()
            // The maintainer's last round took what had been published by then, and that was all. What was truncated after
            // it had come by is left to be unlinked.
            ledger.giveBack(OffsetMap.Trimmed(), map.unlinkDead())
            #expect(ledger.left == (0, 0), "seed \(seed)")
            #expect(map.first(endingAfter: 0) == nil)
            map.unlinkDead()
            for _ in 0..<4 { domain.collect() }
            #expect(domain.liveBlocks == 0, "seed \(seed)")
        }
    }

    @Test("pages that come and go under inserters lose no entry", arguments: 0..<4)
    func pagesComeAndGo(seed: Int) {
        let domain = EpochDomain()
        let map = OffsetMap(domain)
        let ledger = Ledger()
        let threads = ThreadGroup()
        let gate = Gate(count: 4)
        let writing = Countdown(3)
        for index in 0..<3 {
            threads.start {
                var random = SeededGenerator(seed: UInt64(seed) << 8 | UInt64(index))
                gate.arriveAndWait()
                for _ in 0..<3000 {
                    // Now and then far away, so that the root grows, and goes when the map is empty.
                    let page = UInt64.random(in: 0..<2, using: &random) << UInt64.random(in: 0..<20, using: &random)
                    let base = page << 20
                    ledger.publish(map, map.insert(Stamp(base, 1), at: base, count: 1, charge: 100), 1)
                }
                writing.countDown()
            }
        }
        threads.start {
            gate.arriveAndWait()
            var isLast = false
            while !isLast {
                isLast = writing.isZero
                ledger.giveBack(map.trim(ByteRange(0, 1 << 63), through: ledger.through))
                ledger.giveBack(OffsetMap.Trimmed(), map.unlinkDead())
                domain.collect()
            }
        }
        threads.join()
        #expect(ledger.left == (0, 0))
        for _ in 0..<4 { domain.collect() }
        #expect(domain.liveBlocks == 0, "seed \(seed)")
    }
}
