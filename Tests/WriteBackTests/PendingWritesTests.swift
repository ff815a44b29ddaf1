// Property tests of the pending writes against the simplest model: an array of bytes with the sequence that
// wrote each.

import FaultInjection
import Model
import Platform
import Testing

@testable import WriteBack

@Suite("Pending writes")
struct PendingWritesTests {
    struct Model {
        var bytes: [(value: UInt8, sequence: UInt64)?] = Array(repeating: nil, count: 512)
        /// Of what is not durable at a place.
        var oldest: [UInt64?] = Array(repeating: nil, count: 512)
    }

    @Test("hold for each byte what was written last, whatever overlaps", arguments: 0..<40)
    func newestByteWins(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var pending = PendingWrites()
        var model = Model()
        for step in 1...300 {
            let low = Int.random(in: 0..<500, using: &random)
            let count = Int.random(in: 1...min(64, 512 - low), using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 0:
                // What a drain publishes: everything in a range up to some sequence.
                let through = UInt64.random(in: 0...UInt64(step), using: &random)
                // In one to three ranges.
                let cuts = [low] + (0..<2).map { _ in Int.random(in: low...low + count, using: &random) }.sorted()
                let ranges = zip(cuts, cuts.dropFirst() + [low + count]).map { $0..<$1 - ($1 - $0) / 3 }
                    .filter { !$0.isEmpty }
                pending.remove(
                    ranges.map { ByteRange(UInt64($0.lowerBound), UInt64($0.upperBound)) },
                    through: WriteSequence(rawValue: through))
                for index in ranges.joined() {
                    if (model.bytes[index]?.sequence ?? .max) <= through { model.bytes[index] = nil }
                    model.oldest[index] = model.bytes[index] == nil ? nil : max(model.oldest[index]!, through + 1)
                }
            case 1 where step % 7 == 0:
                pending.truncate(to: UInt64(low))
                for index in low..<512 { (model.bytes[index], model.oldest[index]) = (nil, nil) }
            default:
                let value = UInt8.random(in: 0...255, using: &random)
                pending.insert(
                    Payload(bytes: (0..<count).map { value &+ UInt8($0) }), at: UInt64(low),
                    sequence: WriteSequence(rawValue: UInt64(step)))
                for index in 0..<count {
                    model.bytes[low + index] = (value &+ UInt8(index), UInt64(step))
                    model.oldest[low + index] = model.oldest[low + index] ?? UInt64(step)
                }
            }
            check(pending, model, "seed \(seed), step \(step)")
            let window = ByteRange(UInt64(low), UInt64(low + count))
            let seen = pending.overlapping(window)
            #expect(seen.allSatisfy { window.contains($0.range) })
            #expect(seen.reduce(0) { $0 + $1.payload.count } == model.bytes[low..<low + count].count { $0 != nil })
        }
    }

    private func check(_ pending: PendingWrites, _ model: Model, _ comment: Comment) {
        var found: [(value: UInt8, sequence: UInt64)?] = Array(repeating: nil, count: 512)
        var end: UInt64 = 0
        for piece in pending.pieces {
            #expect(piece.range.lowerBound >= end && !piece.range.isEmpty, comment)
            #expect(UInt64(piece.payload.count) == piece.range.count, comment)
            end = piece.range.upperBound
            // It may say older than is true: what was covered in part is not looked at byte by byte.
            let oldest = model.oldest[Int(piece.range.lowerBound)..<Int(piece.range.upperBound)].compactMap(\.self).min()
            #expect(piece.oldest.rawValue <= oldest ?? 0, comment)
            for (index, byte) in piece.payload.bytes.enumerated() {
                found[Int(piece.range.lowerBound) + index] = (byte, piece.sequence.rawValue)
            }
        }
        let isEqual = found.elementsEqual(model.bytes) { $0?.value == $1?.value && $0?.sequence == $1?.sequence }
        #expect(isEqual, comment)
        #expect(pending.byteCount == model.bytes.count { $0 != nil }, comment)
    }

    @Test("give runs without gaps, joined where pieces touch")
    func runs() {
        var pending = PendingWrites()
        for (index, offset) in [10, 0, 5, 30].enumerated() {
            pending.insert(
                Payload(bytes: Array(repeating: 1, count: 5)), at: UInt64(offset),
                sequence: WriteSequence(rawValue: UInt64(index + 1)))
        }
        #expect(pending.runs() == [ByteRange(0, 15), ByteRange(30, 35)])
    }

    @Test("keep the new bytes of an equal range (HDFS drops them as a repeated request)")
    func equalRange() {
        var pending = PendingWrites()
        pending.insert(Payload(bytes: [1, 2, 3]), at: 7, sequence: WriteSequence(rawValue: 1))
        pending.insert(Payload(bytes: [4, 5, 6]), at: 7, sequence: WriteSequence(rawValue: 2))
        #expect(pending.overlapping(ByteRange(0, 100)).map(\.payload.bytes) == [[4, 5, 6]])
        #expect(pending.byteCount == 3)
    }
}
