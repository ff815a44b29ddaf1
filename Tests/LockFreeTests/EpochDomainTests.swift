// When blocks that were let go of are freed.

import FaultInjection
import Model
import Testing

@testable import LockFree

@Suite("Epoch domain")
struct EpochDomainTests {
    /// A value that says when it is gone.
    final class Witness: MapValue, @unchecked Sendable {
        private let onEnd: Counter
        init(_ onEnd: Counter) { self.onEnd = onEnd }
        deinit { onEnd.value += 1 }
    }
    final class Counter { var value = 0 }

    @Test("frees nothing that somebody who is pinned may have seen, and all of it when he has left")
    func pinsHoldBlocks() {
        let domain = EpochDomain()
        let map = OffsetMap(domain)
        let ended = Counter()
        map.publish(map.insert(Witness(ended), at: 0, count: 10, charge: 1), WriteSequence(rawValue: 1))
        domain.pinned { _ in
            // Another thread takes it out.
            onThread {
                #expect(map.trim(ByteRange(0, 10), through: WriteSequence(rawValue: 1)).deadEntries == 1)
                #expect(map.unlinkDead().entries == 1)
                for _ in 0..<10 { domain.collect() }
            }
            #expect(ended.value == 0)
        }
        for _ in 0..<4 { domain.collect() }
        #expect(ended.value == 1)
        #expect(domain.liveBlocks == 0)
    }

    @Test("frees what was retired when it goes itself")
    func endFreesLimbo() {
        let ended = Counter()
        do {
            let map = OffsetMap(EpochDomain())
            map.publish(map.insert(Witness(ended), at: 0, count: 10, charge: 1), WriteSequence(rawValue: 1))
            _ = map.trim(ByteRange(0, 10), through: WriteSequence(rawValue: 1))
            map.unlinkDead()
        }
        #expect(ended.value == 1)
    }

    @Test("a map that goes with entries in it frees them, published or not")
    func endOfMapFreesEntries() {
        let domain = EpochDomain()
        let ended = Counter()
        do {
            let map = OffsetMap(domain)
            map.publish(map.insert(Witness(ended), at: 1 << 40, count: 10, charge: 1), WriteSequence(rawValue: 1))
            _ = map.insert(Witness(ended), at: 5, count: 10, charge: 1)
            #expect(domain.liveBlocks > 2)
        }
        #expect(ended.value == 2)
        for _ in 0..<4 { domain.collect() }
        #expect(domain.liveBlocks == 0)
    }

    @Test("more threads inside than there are slots wait for one of them")
    func slotsRunOut() {
        // Few, since the thread sanitizer forgets what it saw when there are very many threads.
        let slots = 4
        let domain = EpochDomain(slotCount: slots)
        let threads = ThreadGroup()
        let inside = Gate(count: slots + 1)
        let mayLeave = Flag()
        for _ in 0..<slots {
            threads.start {
                domain.pinned { _ in
                    inside.arriveAndWait()
                    mayLeave.wait()
                }
            }
        }
        inside.arriveAndWait()
        // As many again, now that all slots are taken.
        let map = OffsetMap(domain)
        let begun = Countdown(slots)
        let ended = Countdown(slots)
        for index in 0..<slots {
            threads.start {
                begun.countDown()
                map.publish(
                    map.insert(MapValue(), at: UInt64(index), count: 1, charge: 1),
                    WriteSequence(rawValue: UInt64(index) + 1))
                ended.countDown()
            }
        }
        begun.wait()
        #expect(ended.count == slots)
        mayLeave.raise()
        threads.join()
        #expect(map.overlapping(ByteRange(0, 1000)).count == slots)
    }
}
