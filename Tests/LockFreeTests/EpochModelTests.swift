// Nothing is freed that somebody may look at, in any interleaving of a few threads; and the model would see it.

import Testing

@Suite("Epoch model")
struct EpochModelTests {
    /// Readers' rounds and collectors' rounds, beside one who takes the node out.
    static let casts: [(readers: [UInt8], collectors: [UInt8])] = [
        ([1], [4]), ([2], [4]), ([1, 1], [3]), ([1], [2, 2]),
    ]

    @Test("no interleaving frees what somebody may look at", arguments: 0..<casts.count)
    func allInterleavings(index: Int) {
        let cast = Self.casts[index]
        let result = EpochModel(readers: cast.readers, collectors: cast.collectors).run()
        #expect(result.violation == nil)
        // There was something to see.
        #expect(result.freed > 0 && result.situations > 1000)
    }

    @Test("the model reports each flaw", arguments: EpochFlaw.allCases)
    func flaws(flaw: EpochFlaw) {
        let violation = Self.casts.lazy
            .compactMap { EpochModel(readers: $0.readers, collectors: $0.collectors, flaw: flaw).run().violation }.first
        #expect(violation != nil)
    }
}
