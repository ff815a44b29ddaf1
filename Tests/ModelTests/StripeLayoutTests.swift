// The layout against a model that places byte after byte (HDFS: StripedBlockUtil).

import Model
import Testing

@Suite("The stripe layout")
struct StripeLayoutTests {
    /// Where each byte of a group goes when they are dealt out one by one.
    private func deal(_ policy: ErasureCodingPolicy, length: Int) -> [(index: Int, offset: Int)] {
        var places: [(Int, Int)] = []
        var lengths = [Int](repeating: 0, count: policy.dataUnits)
        var index = 0
        for byte in 0..<length {
            if byte > 0, byte % policy.cellSizeBytes == 0 { index = (index + 1) % policy.dataUnits }
            places.append((index, lengths[index]))
            lengths[index] += 1
        }
        return places
    }

    @Test("block lengths and pieces are those of bytes dealt out one by one", arguments: ["RS-3-2-4k", "XOR-2-1-4k"])
    func matchesModel(_ name: String) throws {
        let policy = try ErasureCodingPolicy(name)
        let layout = StripeLayout(policy)
        let cell = policy.cellSizeBytes
        let stripe = policy.stripeSizeBytes
        for length in [0, 1, cell - 1, cell, cell + 1, 2 * cell, stripe - 1, stripe, stripe + 1, 2 * stripe + cell + 7]
        {
            let places = deal(policy, length: length)
            for index in 0..<policy.dataUnits {
                let expected = places.filter { $0.index == index }.count
                #expect(layout.internalBlockLength(index: index, groupLength: UInt64(length)) == UInt64(expected))
            }
            let longest = layout.internalBlockLength(index: 0, groupLength: UInt64(length))
            for index in policy.dataUnits..<policy.totalUnits {
                #expect(layout.internalBlockLength(index: index, groupLength: UInt64(length)) == longest)
            }
            for (low, high) in [(0, length), (length / 3, length), (length / 2, length / 2), (1, length - 1)]
            where low <= high && low >= 0 {
                var next = UInt64(low)
                for piece in layout.cellPieces(ByteRange(UInt64(low), UInt64(high))) {
                    #expect(piece.groupRange.lowerBound == next)
                    #expect(piece.groupRange.count == piece.blockRange.count && !piece.groupRange.isEmpty)
                    let first = places[Int(piece.groupRange.lowerBound)]
                    let last = places[Int(piece.groupRange.upperBound) - 1]
                    #expect(first.index == piece.index && last.index == piece.index)
                    #expect(UInt64(first.offset) == piece.blockRange.lowerBound)
                    #expect(UInt64(last.offset) + 1 == piece.blockRange.upperBound)
                    #expect(piece.stripe == piece.groupRange.lowerBound / UInt64(stripe))
                    next = piece.groupRange.upperBound
                }
                #expect(next == UInt64(high))
            }
        }
    }

    @Test("a full group has internal blocks of at most the limit, and not much less")
    func maxGroupLength() throws {
        for name in ["RS-3-2-1024k", "RS-10-4-1024k", "RS-3-2-4k", "RS-2-1-16384k"] {
            let layout = StripeLayout(try ErasureCodingPolicy(name))
            let length = layout.internalBlockLength(index: 0, groupLength: layout.maxGroupLength)
            #expect(length <= UInt64(Limits.maxInternalBlockBytes))
            #expect(length + UInt64(layout.policy.cellSizeBytes) > UInt64(Limits.maxInternalBlockBytes))
        }
    }
}
