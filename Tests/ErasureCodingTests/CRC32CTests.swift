import ErasureCoding
import Testing

struct CRC32CTests {
    static let vectors: [(bytes: [UInt8], checksum: UInt32)] = [
        ([UInt8](repeating: 0, count: 32), 0x8a91_36aa),
        ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43),
        ([UInt8](0..<32), 0x46dd_794e),
        ([UInt8]((0..<32).reversed()), 0x113f_db5c),
        ([UInt8]("123456789".utf8), 0xe306_9283),
        ([], 0),
    ]

    @Test("the test vectors of RFC 3720 appendix B.4", arguments: vectors)
    func knownVectors(bytes: [UInt8], expected: UInt32) {
        #expect(CRC32C.checksum(bytes) == expected)
    }

    @Test("adding a run of bytes in pieces gives the checksum of the whole")
    func incremental() {
        let bytes = (0..<2000).map { UInt8(truncatingIfNeeded: $0 * $0 + 7) }
        for cut in stride(from: 0, through: 2000, by: 37) {
            var checksum = CRC32C()
            checksum.update(Array(bytes[..<cut]))
            checksum.update(Array(bytes[cut...]))
            #expect(checksum.value == CRC32C.checksum(bytes))
        }
    }
}
