// What a READ takes from pending writes and what from extents, byte by byte.

import FaultInjection
import Model
import Namespace
import Platform
import Testing
import WriteBack

@testable import EmbeddedFileService

@Suite("Pieces of a READ")
struct ReadPiecesTests {
    private enum Source: Equatable {
        case hole
        case pending(UInt8)
        case stored(offset: UInt64)
    }

    /// Ranges below 200, in order, that don't overlap, each with a sequence.
    private func ranges(_ random: inout SeededGenerator) -> [(ByteRange, WriteSequence)] {
        let bounds = Set((0..<16).map { _ in UInt64.random(in: 0...200, using: &random) }).sorted()
        return zip(bounds, bounds.dropFirst()).compactMap { low, high in
            Bool.random(using: &random)
                ? (ByteRange(low, high), WriteSequence(rawValue: UInt64.random(in: 1...9, using: &random))) : nil
        }
    }

    @Test("come from the later of the two, also while a drain takes its writes out of memory", arguments: 0..<300)
    func laterWins(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var pending: [PendingWrite] = []
        for (range, sequence) in ranges(&random) {
            pending.append(
                PendingWrite(
                    range: range, sequence: sequence,
                    bytes: PendingBytes(Payload(bytes: (range.lowerBound..<range.upperBound).map { UInt8($0) }))))
        }
        let extents = ranges(&random).map { range, sequence in
            Extent(
                range: range, group: BlockGroupID(rawValue: -16), groupOffset: 1000 + range.lowerBound,
                sequence: sequence)
        }
        let low = UInt64.random(in: 0..<200, using: &random)
        let wanted = ByteRange(low, UInt64.random(in: low...200, using: &random))

        var found: [Source] = Array(repeating: .hole, count: 201)
        var end = wanted.lowerBound
        for piece in FileReader.pieces(of: wanted, pending, extents) {
            #expect(piece.range.lowerBound >= end && wanted.contains(piece.range) && !piece.range.isEmpty)
            end = piece.range.upperBound
            for index in piece.range.lowerBound..<piece.range.upperBound {
                let offset = index - piece.range.lowerBound
                switch piece.source {
                case .pending(let bytes): found[Int(index)] = .pending(bytes.inMemory!.bytes[Int(offset)])
                case .stored(let extent): found[Int(index)] = .stored(offset: extent.groupOffset + offset)
                }
            }
        }
        for index in wanted.lowerBound..<wanted.upperBound {
            let above = pending.first { $0.range.contains(index) }
            let below = extents.first { $0.range.contains(index) }
            let expected: Source
            if let below, below.sequence >= above?.sequence ?? .zero {
                expected = .stored(offset: below.groupOffset + index - below.range.lowerBound)
            } else if above != nil {
                expected = .pending(UInt8(index))
            } else {
                expected = .hole
            }
            #expect(found[Int(index)] == expected, "seed \(seed), byte \(index)")
        }
    }
}
