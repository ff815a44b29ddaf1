// The set of drained ranges against a plain array of flags.

import FaultInjection
import Model
import Testing

@testable import WriteBack

@Suite("Drained ranges")
struct DrainedRangesTests {
    @Test("any insertions and truncates leave what an array of flags has", arguments: 0..<200)
    func againstModel(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        let size = Int.random(in: 0..<100, using: &random)
        var drained = DrainedRanges(upTo: UInt64(size))
        var model = (0..<300).map { $0 < size }
        for _ in 0..<60 {
            if Int.random(in: 0..<8, using: &random) == 0 {
                let size = Int.random(in: 0..<300, using: &random)
                drained.truncate(to: UInt64(size))
                for place in size..<300 { model[place] = false }
            } else {
                let start = Int.random(in: 0..<280, using: &random)
                let end = start + Int.random(in: 0..<20, using: &random)
                drained.insert(ByteRange(UInt64(start), UInt64(end)))
                for place in start..<end { model[place] = true }
            }
            var expected: [ByteRange] = []
            for place in 0..<300 as Range<UInt64> where model[Int(place)] {
                if let last = expected.last, last.upperBound == place {
                    expected[expected.count - 1] = ByteRange(last.lowerBound, place + 1)
                } else {
                    expected.append(ByteRange(place, place + 1))
                }
            }
            #expect(drained.ranges == expected, "seed \(seed)")
            #expect(drained.nextOffset == UInt64(model.firstIndex(of: false) ?? 300), "seed \(seed)")
        }
    }

    @Test("of too many gaps the lowest become holes")
    func bounded() {
        var drained = DrainedRanges()
        for index in (0..<100 as Range<UInt64>).reversed() {
            drained.insert(ByteRange(offset: 10 + index * 10, count: 5))
            #expect(drained.ranges.count <= DrainedRanges.maxRanges)
        }
        #expect(drained.nextOffset == 375)
        #expect(drained.ranges.last == ByteRange(1000, 1005))
        drained.insert(ByteRange(0, 2000))
        #expect(drained == DrainedRanges(upTo: 2000))
    }
}
