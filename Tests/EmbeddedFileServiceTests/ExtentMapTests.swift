// The map of a file's extents against an array with the place of each byte.

import FaultInjection
import Model
import Namespace
import Testing

@testable import EmbeddedFileService

@Suite("The map of extents")
struct ExtentMapTests {
    private struct Place: Equatable {
        let group: UInt64
        let offset: UInt64
        let sequence: UInt64
    }

    @Test("agrees with an array, and each edit says what has changed", arguments: 0..<60)
    func agreesWithAnArray(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var map = ExtentMap()
        var model = [Place?](repeating: nil, count: 400)
        var recorded: [UInt64: Extent] = [:]
        for step in 1...100 as ClosedRange<UInt64> {
            var edit: ExtentMap.Edit
            if Int.random(in: 0..<10, using: &random) == 0 {
                let size = Int.random(in: 0...400, using: &random)
                edit = map.truncate(to: UInt64(size))
                for index in size..<400 { model[index] = nil }
            } else {
                let bounds = (0..<2 * Int.random(in: 1...6, using: &random))
                    .map { _ in UInt64.random(in: 0...400, using: &random) }.sorted()
                var new: [Extent] = []
                for index in stride(from: 0, to: bounds.count, by: 2) where bounds[index] < bounds[index + 1] {
                    let range = ByteRange(bounds[index], bounds[index + 1])
                    new.append(
                        Extent(
                            range: range, group: BlockGroupID(rawValue: Int64(step) * -16), groupOffset: range.lowerBound,
                            sequence: WriteSequence(rawValue: step)))
                    for byte in range.lowerBound..<range.upperBound {
                        model[Int(byte)] = Place(group: step, offset: byte, sequence: step)
                    }
                }
                edit = map.insert(new)
            }
            // As the namespace records an edit: first what goes.
            for extent in edit.removed { #expect(recorded.removeValue(forKey: extent.range.lowerBound) == extent) }
            for (offset, extent) in edit.added {
                #expect(recorded[offset] == nil && extent.range.lowerBound == offset, "seed \(seed), step \(step)")
                recorded[offset] = extent
            }
            #expect(
                map.extents == recorded.values.sorted { $0.range.lowerBound < $1.range.lowerBound },
                "seed \(seed), step \(step)")
            var found = [Place?](repeating: nil, count: 400)
            var end: UInt64 = 0
            for extent in map.extents {
                #expect(extent.range.lowerBound >= end && !extent.range.isEmpty, "seed \(seed), step \(step)")
                end = extent.range.upperBound
                for byte in extent.range.lowerBound..<end {
                    found[Int(byte)] = Place(
                        group: UInt64(extent.group.rawValue / -16),
                        offset: extent.groupOffset + (byte - extent.range.lowerBound), sequence: extent.sequence.rawValue)
                }
            }
            #expect(found == model, "seed \(seed), step \(step)")
        }
    }
}
