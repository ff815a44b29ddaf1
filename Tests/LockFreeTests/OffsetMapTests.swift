// The map on one thread, against the simplest model: a list of what was written.

import FaultInjection
import Model
import Testing

@testable import LockFree

/// A value that says which write it is.
final class Label: MapValue, @unchecked Sendable {
    let number: UInt64
    init(_ number: UInt64) { self.number = number }
}

/// What the map should hold.
struct ListModel {
    struct Entry: Equatable {
        var range: ByteRange
        let base: UInt64
        let sequence: UInt64
        var label: UInt64
        var charge: Int
    }
    var entries: [Entry] = []
    /// Not unlinked yet.
    var dead = OffsetMap.Unlinked()

    func overlapping(_ range: ByteRange, through: UInt64 = .max) -> [Entry] {
        entries.filter { $0.sequence <= through && $0.range.overlaps(range) }
            .sorted { ($0.range.lowerBound, $0.sequence) < ($1.range.lowerBound, $1.sequence) }
    }

    /// Whether no entry reaches out of the range on both sides.
    func canTrim(_ range: ByteRange, through: UInt64) -> Bool {
        !entries.contains {
            $0.sequence <= through && $0.range.lowerBound < range.lowerBound && $0.range.upperBound > range.upperBound
        }
    }

    mutating func trim(_ range: ByteRange, through: UInt64) -> OffsetMap.Trimmed {
        var trimmed = OffsetMap.Trimmed()
        for index in entries.indices where entries[index].sequence <= through {
            let left = entries[index].range.subtracting(range)
            let rest = left.first ?? ByteRange(0, 0)
            trimmed.bytes += entries[index].range.count - rest.count
            if left.isEmpty {
                trimmed.deadEntries += 1
                dead.entries += 1
                dead.charge += entries[index].charge
            }
            entries[index].range = rest
        }
        entries.removeAll { $0.range.isEmpty }
        return trimmed
    }
}

extension ListModel.Entry {
    init(_ finding: OffsetMap.Finding, charge: Int) {
        self.init(
            range: finding.range, base: finding.base, sequence: finding.sequence.rawValue,
            label: (finding.value as! Label).number, charge: charge)
    }
}

@Suite("Offset map")
struct OffsetMapTests {
    /// The number of an entry is its charge, so that a finding can be compared whole.
    static func entries(_ findings: [OffsetMap.Finding]) -> [ListModel.Entry] {
        findings.map { ListModel.Entry($0, charge: Int($0.sequence.rawValue)) }
    }

    @Test("finds, orders, trims and forgets what a list would", arguments: 0..<120)
    func model(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        let domain = EpochDomain()
        do {
            let map = OffsetMap(domain)
            var model = ListModel()
            var sequence: UInt64 = 0
            // Around what is a border inside: of a list, of a page, of branches, of all that there is.
            let places: [UInt64] = [
                0, 1 << 16, 1 << 20, 1 << 26, 1 << 32, (1 << 44) - (1 << 20), (1 << 63) - (5 << 20),
            ]
            let place = places[seed % places.count]
            let unit: UInt64 = [1, 4096, 1 << 15, 300_000][Int.random(in: 0..<4, using: &random)]
            func offset() -> UInt64 { place + UInt64.random(in: 0..<12, using: &random) * unit }
            for _ in 0..<250 {
                switch Int.random(in: 0..<12, using: &random) {
                case 0..<5:
                    let start = offset()
                    let count = min(UInt64.random(in: 1...4, using: &random) * unit, 1 << 20)
                    sequence += 1
                    map.publish(
                        map.insert(Label(sequence), at: start, count: Int(count), charge: Int(sequence)),
                        WriteSequence(rawValue: sequence))
                    model.entries.append(
                        ListModel.Entry(
                            range: ByteRange(offset: start, count: count), base: start, sequence: sequence,
                            label: sequence,
                            charge: Int(sequence)))
                case 5:
                    map.abandon(map.insert(Label(0), at: offset(), count: 1, charge: 77))
                case 6..<8:
                    let low = offset()
                    let high =
                        Bool.random(using: &random)
                        ? UInt64(1) << 63 : low + UInt64.random(in: 0..<9, using: &random) * unit
                    let through = UInt64.random(in: 0...sequence, using: &random)
                    let range = ByteRange(low, high)
                    guard model.canTrim(range, through: through) else { continue }
                    #expect(
                        map.trim(range, through: WriteSequence(rawValue: through))
                            == model.trim(range, through: through))
                case 8:
                    let low = offset()
                    let isAll = Bool.random(using: &random)
                    let part = ByteRange(low, low + UInt64.random(in: 0..<3, using: &random) * unit)
                    let unlinked = isAll ? map.unlinkDead() : map.unlinkDead(in: part)
                    model.dead.entries -= unlinked.entries
                    model.dead.charge -= unlinked.charge
                    #expect(model.dead.entries >= 0 && (!isAll || model.dead == OffsetMap.Unlinked()))
                    domain.collect()
                case 9:
                    guard let finding = map.first(endingAfter: offset()) else { continue }
                    sequence += 1
                    let index = model.entries.firstIndex { $0.sequence == finding.sequence.rawValue }!
                    #expect(
                        map.replaceValue(of: finding, by: Label(sequence), charge: model.entries[index].charge) == 0)
                    model.entries[index].label = sequence
                default:
                    let low = offset()
                    let range = ByteRange(low, low + UInt64.random(in: 0..<5, using: &random) * unit)
                    let through = UInt64.random(in: 0...sequence, using: &random)
                    #expect(
                        Self.entries(map.overlapping(range, through: WriteSequence(rawValue: through)))
                            == model.overlapping(range, through: through))
                    var all: [OffsetMap.Finding] = []
                    map.forEach(endingAfter: low) {
                        all.append($0)
                        return true
                    }
                    let expected = model.overlapping(ByteRange(low, 1 << 63))
                    #expect(Self.entries(all) == expected)
                    #expect(map.first(endingAfter: low).map { Self.entries([$0])[0] } == expected.first)
                }
            }
            // What is left, counted without looking at the map.
            _ = map.trim(ByteRange(0, 1 << 63), through: WriteSequence(rawValue: .max))
            _ = model.trim(ByteRange(0, 1 << 63), through: .max)
            #expect(map.unlinkDead() == model.dead)
            for _ in 0..<4 { domain.collect() }
            // With the last entry the last page goes, and with it all branches.
            #expect(domain.liveBlocks == 0, "seed \(seed)")
        }
    }

    @Test("all ways of three overlapping writes and what is drained of them, around a border of pages")
    func exhaustive() {
        // In units of 3/8 MiB: borders of pages are inside of cells and of writes.
        let unit: UInt64 = 3 << 17
        var ranges: [ByteRange] = []
        for low in 0..<4 as Range<UInt64> {
            for count in 1...2 as ClosedRange<UInt64> { ranges.append(ByteRange(low * unit, (low + count) * unit)) }
        }
        let domain = EpochDomain()
        for first in ranges {
            for second in ranges {
                for third in ranges {
                    for (end, through) in [(1, 1), (2, 2), (3, 2), (3, 3), (5, 1), (5, 3)] as [(UInt64, UInt64)] {
                        let map = OffsetMap(domain)
                        var model = ListModel()
                        for (index, range) in [first, second, third].enumerated() {
                            let number = UInt64(index) + 1
                            map.publish(
                                map.insert(
                                    Label(number), at: range.lowerBound, count: Int(range.count), charge: Int(number)),
                                WriteSequence(rawValue: number))
                            model.entries.append(
                                ListModel.Entry(
                                    range: range, base: range.lowerBound, sequence: number, label: number,
                                    charge: Int(number)))
                        }
                        let drained = ByteRange(0, end * unit)
                        let trimmed = map.trim(drained, through: WriteSequence(rawValue: through))
                        #expect(trimmed == model.trim(drained, through: through))
                        #expect(map.unlinkDead(in: drained) == model.dead)
                        for low in 0..<5 as Range<UInt64> {
                            let range = ByteRange(low * unit, (low + 1) * unit)
                            #expect(Self.entries(map.overlapping(range)) == model.overlapping(range))
                        }
                    }
                }
            }
        }
        for _ in 0..<4 { domain.collect() }
        #expect(domain.liveBlocks == 0)
    }

    @Test("an entry is not seen before it is published")
    func publishing() {
        let map = OffsetMap(EpochDomain())
        let insertion = map.insert(Label(1), at: 100, count: 50, charge: 1)
        #expect(map.overlapping(ByteRange(0, 1000)).isEmpty)
        // Nor does a trim take it: what has no sequence yet is later than all that have one.
        #expect(map.trim(ByteRange(0, 1000), through: WriteSequence(rawValue: .max)) == OffsetMap.Trimmed())
        map.unlinkDead()
        map.publish(insertion, WriteSequence(rawValue: 7))
        #expect(map.first(endingAfter: 0)?.range == ByteRange(100, 150))
    }

    @Test("the charge of an entry is given back once, when it is unlinked, less what replacing its value gave back")
    func charges() {
        let map = OffsetMap(EpochDomain())
        map.publish(map.insert(Label(1), at: 0, count: 100, charge: 500), WriteSequence(rawValue: 1))
        let finding = map.first(endingAfter: 0)!
        #expect(map.replaceValue(of: finding, by: Label(2), charge: 80) == 420)
        #expect(map.trim(ByteRange(0, 60), through: WriteSequence(rawValue: 1)).deadEntries == 0)
        #expect(map.unlinkDead() == OffsetMap.Unlinked())
        #expect(map.trim(ByteRange(0, 100), through: WriteSequence(rawValue: 1)).deadEntries == 1)
        // Dead and linked, it takes memory: what is replaced then is freed once, too.
        #expect(map.replaceValue(of: finding, by: Label(3), charge: 10) == 70)
        #expect(map.unlinkDead().charge == 10)
        #expect(map.unlinkDead() == OffsetMap.Unlinked())
    }

    @Test("several ranges are trimmed as one after the other would be", arguments: 0..<40)
    func severalRanges(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        let map = OffsetMap(EpochDomain())
        var model = ListModel()
        for number in 1...60 as ClosedRange<UInt64> {
            let start = UInt64.random(in: 0..<200, using: &random) * 20_000
            let count = UInt64.random(in: 1...3, using: &random) * 20_000
            map.publish(
                map.insert(Label(number), at: start, count: Int(count), charge: Int(number)),
                WriteSequence(rawValue: number))
            model.entries.append(
                ListModel.Entry(
                    range: ByteRange(offset: start, count: count), base: start, sequence: number, label: number,
                    charge: Int(number)))
        }
        // As a plan has them: what entries up to the sequence cover without a gap, the last one cut.
        let through = UInt64.random(in: 1...60, using: &random)
        var runs: [ByteRange] = []
        for entry in model.overlapping(ByteRange(0, 1 << 63), through: through) {
            if let last = runs.last, last.upperBound >= entry.range.lowerBound {
                runs[runs.count - 1] = ByteRange(last.lowerBound, max(last.upperBound, entry.range.upperBound))
            } else {
                runs.append(entry.range)
            }
        }
        runs.removeAll { _ in Int.random(in: 0..<4, using: &random) == 0 }
        if let last = runs.popLast() { runs.append(ByteRange(last.lowerBound, last.upperBound - last.count / 3)) }
        var expected = OffsetMap.Trimmed()
        for run in runs {
            let trimmed = model.trim(run, through: through)
            expected.bytes += trimmed.bytes
            expected.deadEntries += trimmed.deadEntries
        }
        #expect(map.trim(runs, through: WriteSequence(rawValue: through)) == expected, "seed \(seed)")
        #expect(map.unlinkDead() == model.dead)
        #expect(Self.entries(map.overlapping(ByteRange(0, 1 << 63))) == model.overlapping(ByteRange(0, 1 << 63)))
    }
}
