// Property tests of what readers and drains make of overlapping writes, against the simplest model: an array of bytes with
// the sequence that wrote each.

import FaultInjection
import LockFree
import Model
import Platform
import Testing

@testable import WriteBack

@Suite("Overlay and drain planner")
struct DrainPlannerTests {
    /// A map, and what should be seen in it.
    private struct Writes {
        static let size = 512
        let map = OffsetMap(EpochDomain())
        var sequence = WriteSequence.zero
        /// Of each byte, newest last: who wrote it and what.
        var bytes: [[(sequence: WriteSequence, value: UInt8)]] = Array(repeating: [], count: size)

        mutating func write(_ payload: [UInt8], at offset: Int) {
            sequence = sequence.next
            map.publish(
                map.insert(
                    PendingPayload(Payload(bytes: payload)), at: UInt64(offset), count: payload.count, charge: 1),
                sequence)
            for (index, value) in payload.enumerated() { bytes[offset + index].append((sequence, value)) }
        }

        mutating func remove(_ range: ByteRange, through: WriteSequence) {
            _ = map.trim(range, through: through)
            map.unlinkDead()
            for index in Int(range.lowerBound)..<Int(range.upperBound) {
                bytes[index].removeAll { $0.sequence <= through }
            }
        }

        func covered(_ index: Int, _ through: WriteSequence) -> Bool {
            bytes[index].contains { $0.sequence <= through }
        }

        static func random(_ seed: Int) -> (Writes, SeededGenerator) {
            var random = SeededGenerator(seed: UInt64(seed))
            var writes = Writes()
            for _ in 0..<Int.random(in: 1...80, using: &random) {
                let low = Int.random(in: 0..<500, using: &random)
                let count = Int.random(
                    in: 1...min([4, 16, 64].randomElement(using: &random)!, 512 - low), using: &random)
                writes.write(random.bytes(count), at: low)
                if Int.random(in: 0..<30, using: &random) == 0 {
                    writes.remove(
                        ByteRange(UInt64(Int.random(in: 0..<512, using: &random)), 512), through: writes.sequence)
                }
            }
            return (writes, random)
        }
    }

    @Test("a reader finds for each byte what was written last, in pieces that don't overlap", arguments: 0..<200)
    func overlay(seed: Int) {
        var (writes, random) = Writes.random(seed)
        for _ in 0..<10 {
            let low = Int.random(in: 0..<512, using: &random)
            let range = low..<Int.random(in: low...512, using: &random)
            let through = WriteSequence(rawValue: UInt64.random(in: 0...writes.sequence.rawValue, using: &random))
            let wanted = ByteRange(UInt64(range.lowerBound), UInt64(range.upperBound))
            var overlay = PendingOverlay(writes.map.overlapping(wanted, through: through)[...], in: wanted)
            var found: [Int: (WriteSequence, UInt8)] = [:]
            var end = wanted.lowerBound
            while let piece = overlay.nextPiece() {
                #expect(piece.range.lowerBound >= end && wanted.contains(piece.range) && !piece.range.isEmpty)
                #expect(piece.bytes.count == Int(piece.range.count))
                end = piece.range.upperBound
                for (index, value) in piece.content.enumerated() {
                    found[Int(piece.range.lowerBound) + index] = (piece.sequence, value)
                }
            }
            for index in range {
                let expected = writes.bytes[index].last { $0.sequence <= through }
                #expect(found[index]?.0 == expected?.sequence && found[index]?.1 == expected?.value, "seed \(seed)")
            }
        }
    }

    @Test(
        "a plan takes the newest bytes of runs without gaps, and reaches what nothing older is left of",
        arguments: 0..<200)
    func plan(seed: Int) {
        var (writes, random) = Writes.random(seed)
        var limits = WriteBackLimits()
        limits.maxRunsPerTurn = Int.random(in: 1...6, using: &random)
        limits.maxDrainBytes = Int.random(in: 1...200, using: &random)
        let through = WriteSequence(rawValue: UInt64.random(in: 0...writes.sequence.rawValue, using: &random))
        let planner = DrainPlanner(writes.map, through: through)

        // Runs are as long as can be.
        var runs: [Range<Int>] = []
        for index in 0..<512 where writes.covered(index, through) {
            if let last = runs.last, last.upperBound == index {
                runs[runs.count - 1] = last.lowerBound..<index + 1
            } else {
                runs.append(index..<index + 1)
            }
        }
        #expect(planner.runs.map { Int($0.range.lowerBound)..<Int($0.range.upperBound) } == runs, "seed \(seed)")
        #expect(planner.fullStripeBytes(12) == runs.reduce(0) { $0 + $1.count / 12 * 12 })

        let choice =
            Bool.random(using: &random)
            ? planner.chooseFullStripes(12, limits)
            : planner.chooseAll(from: UInt64.random(in: 0..<512, using: &random), 12, limits)
        let plan = planner.plan(choice, DrainPlanner.Place(through: through, rests: false)).plan
        #expect(plan.runs.count <= limits.maxRunsPerTurn)
        var durable = Set<Int>()
        for run in plan.runs {
            #expect(run.content.count == Int(run.range.count))
            for (offset, value) in run.content.enumerated() {
                let index = Int(run.range.lowerBound) + offset
                #expect(writes.bytes[index].last { $0.sequence <= through }?.value == value, "seed \(seed)")
                #expect(durable.insert(index).inserted)
            }
        }
        // What is promised up to `reaches`: each byte of these writes is durable, or a newer one of its place.
        for index in 0..<512 where !durable.contains(index) {
            #expect(!writes.bytes[index].contains { $0.sequence <= plan.reaches }, "seed \(seed)")
        }
        // And no less is promised than could be.
        if plan.reaches < through {
            #expect(
                (0..<512).contains { index in
                    !durable.contains(index) && writes.bytes[index].contains { $0.sequence == plan.reaches.next }
                }, "seed \(seed)")
        }
        // What was planned can be taken out of the map as it is.
        for run in plan.runs { writes.remove(run.range, through: plan.sequence) }
        let left = DrainPlanner(writes.map, through: through)
        #expect(left.runs.reduce(0) { $0 + Int($1.range.count) } == (0..<512).count { writes.covered($0, through) })
    }

    @Test(
        "everything becomes durable: full stripes striped, the rest journaled, nothing in both, nothing older on top",
        arguments: 0..<200)
    func durable(seed: Int) {
        var (writes, random) = Writes.random(seed)
        var limits = WriteBackLimits()
        limits.maxRunsPerTurn = [3, 10, 4096].randomElement(using: &random)!
        limits.maxJournaledBytes = [0, 20, 100, 1 << 20].randomElement(using: &random)!
        let room = [0, 50, 1 << 20].randomElement(using: &random)!
        let planner = DrainPlanner(writes.map, through: writes.sequence)
        let planned = planner.planDurable(
            DrainPlanner.Place(through: writes.sequence, rests: false),
            from: UInt64.random(in: 0..<512, using: &random), 12, limits, journalHasRoom: { $0 <= room })
        let plan = planned.plan
        #expect(plan.mayPad || plan.byteCount % 12 == 0)
        #expect(
            plan.journaling.isEmpty || !plan.mayPad && plan.journalingByteCount <= min(limits.maxJournaledBytes, room))
        #expect(max(plan.runs.count, plan.journaling.count) <= limits.maxRunsPerTurn)
        #expect(plan.journaling.count == planned.journaling.count)
        /// Of each byte: the newest write of it that is durable then.
        var durable = [WriteSequence](repeating: .zero, count: 512)
        for run in plan.runs {
            for index in Int(run.range.lowerBound)..<Int(run.range.upperBound) { durable[index] = plan.sequence }
        }
        for piece in plan.journaling {
            var isOnTop = false
            for (offset, value) in piece.content.enumerated() {
                let index = Int(piece.range.lowerBound) + offset
                #expect(durable[index] != plan.sequence, "striped and journaled, seed \(seed)")
                #expect(writes.bytes[index].contains { $0.sequence == piece.sequence && $0.value == value })
                if writes.bytes[index].last?.sequence == piece.sequence { isOnTop = true }
            }
            #expect(isOnTop, "seed \(seed)")
        }
        for piece in plan.journaling {
            for index in Int(piece.range.lowerBound)..<Int(piece.range.upperBound) {
                durable[index] = max(durable[index], piece.sequence)
            }
        }
        for index in 0..<512 {
            let owed = writes.bytes[index].last { $0.sequence <= plan.reaches }?.sequence ?? .zero
            #expect(durable[index] >= owed, "seed \(seed)")
        }
        if limits.maxRunsPerTurn == 4096 { #expect(plan.reaches == writes.sequence && plan.coversEverything) }
        // What is covered is covered by what is durable.
        for finding in planned.covered {
            for index in Int(finding.range.lowerBound)..<Int(finding.range.upperBound) {
                #expect(durable[index] > finding.sequence, "seed \(seed)")
            }
        }
        // Runs of a stripe are never journaled, and nothing is padded without need.
        if limits.maxJournaledBytes == 1 << 20, room == 1 << 20, limits.maxRunsPerTurn == 4096 {
            #expect(!plan.mayPad)
            let long = planner.runs.filter { $0.range.count >= 12 }.reduce(0) { $0 + Int($1.range.count) }
            #expect(plan.byteCount == long / 12 * 12, "seed \(seed)")
        }
    }

    @Test("an equal range keeps the new bytes (HDFS drops them as a repeated request)")
    func equalRange() {
        var writes = Writes()
        writes.write([1, 2, 3], at: 7)
        writes.write([4, 5, 6], at: 7)
        let planner = DrainPlanner(writes.map, through: writes.sequence)
        let place = DrainPlanner.Place(through: writes.sequence, rests: false)
        let plan = planner.plan(planner.chooseAll(from: 0, 12, WriteBackLimits()), place).plan
        #expect(plan.runs.map(\.content) == [[4, 5, 6]] && plan.coversEverything)
    }
}
