// What keeps threads in order in the map, and that the thread sanitizer would see it if it were missing: tools/races leaves
// one barrier after another out and wants these tests to be reported.
//
// The threads share nothing but the map and flags that order nothing; an expectation would take a lock. So it is the map's
// and the domain's own orderings alone that keep them apart. Several times each: now and then both threads happen to have the
// same slot of the domain, one after the other, which orders them as well.

import FaultInjection
import Model
import Testing

@testable import LockFree

@Suite("Barriers")
struct BarrierTests {
    private let domain = EpochDomain()

    /// Runs two threads, the second when the first is done.
    private func oneAfterTheOther(_ first: @escaping () -> Void, _ second: @escaping () -> Void) {
        let isDone = Flag()
        let isOver = Flag()
        let threads = ThreadGroup()
        threads.start {
            first()
            isDone.raise()
            // Its end would be seen.
            isOver.wait()
        }
        threads.start {
            isDone.wait()
            second()
            isOver.raise()
        }
        threads.join()
    }

    @Test("what is freed was looked at before", arguments: 0..<4)
    func readingBeforeFreeing(round: Int) {
        let map = OffsetMap(domain)
        map.publish(map.insert(Label(7), at: 0, count: 10, charge: 1), WriteSequence(rawValue: 1))
        var found: ByteRange?
        var freed = -1
        oneAfterTheOther {
            found = map.first(endingAfter: 0)?.range
        } _: { [domain] in
            let before = domain.liveBlocks
            _ = map.trim(ByteRange(0, 10), through: WriteSequence(rawValue: 1))
            map.unlinkDead()
            domain.collectAll()
            freed = before - domain.liveBlocks
        }
        #expect(found == ByteRange(0, 10))
        // The entry and its page.
        #expect(freed == 2)
    }

    /// - Parameter isFirst: in the map, so that its page is made as well.
    @Test("what is found was made before", arguments: [true, false], 0..<4)
    func makingBeforeFinding(isFirst: Bool, round: Int) {
        let map = OffsetMap(domain)
        if !isFirst { map.publish(map.insert(Label(0), at: 0, count: 5, charge: 1), WriteSequence(rawValue: 1)) }
        var found: (ByteRange, UInt64)?
        oneAfterTheOther {
            map.publish(map.insert(Label(7), at: 10, count: 10, charge: 1), WriteSequence(rawValue: 2))
        } _: {
            found = map.first(endingAfter: 10).map { ($0.range, ($0.value as! Label).number) }
        }
        #expect(found?.0 == ByteRange(10, 20) && found?.1 == 7)
    }

    @Test("what is put in a value's place was made before", arguments: 0..<4)
    func makingBeforeReplacing(round: Int) {
        let map = OffsetMap(domain)
        map.publish(map.insert(Label(0), at: 0, count: 5, charge: 1), WriteSequence(rawValue: 1))
        var found: UInt64?
        oneAfterTheOther {
            _ = map.replaceValue(of: map.first(endingAfter: 0)!, by: Label(7), charge: 1)
        } _: {
            found = map.first(endingAfter: 0).map { ($0.value as! Label).number }
        }
        #expect(found == 7)
    }
}
