import ErasureCoding
import Model
import Testing

/// One stripe: cells of `count` bytes, parity made by the coder.
private struct Stripe {
    let coder: ErasureCoder
    let cells: [UnsafeMutableRawBufferPointer]

    init(_ name: String, count: Int, using random: inout some RandomNumberGenerator) throws {
        coder = ErasureCoder.shared(for: try ErasureCodingPolicy(name))
        cells = (0..<coder.policy.totalUnits).map { _ in
            let cell = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
            for index in cell.indices { cell[index] = random.next() }
            return cell
        }
        let k = coder.policy.dataUnits
        coder.encode(
            data: cells[..<k].map { UnsafeRawPointer($0.baseAddress!) }, parity: cells[k...].map { $0.baseAddress! },
            count: count)
    }

    func free() { for cell in cells { cell.deallocate() } }

    /// Whether `wanted`, made of `available`, are what they were.
    func restores(_ wanted: [Int], from available: [Int]) throws -> Bool {
        let made = wanted.map { _ in
            UnsafeMutableRawBufferPointer.allocate(byteCount: cells[0].count, alignment: 64)
        }
        defer { for cell in made { cell.deallocate() } }
        try coder.reconstruct(
            available: available.map { (index: $0, bytes: UnsafeRawPointer(cells[$0].baseAddress!)) },
            wanted: zip(wanted, made).map { (index: $0, bytes: $1.baseAddress!) }, count: cells[0].count)
        return zip(wanted, made).allSatisfy { index, cell in cell.elementsEqual(cells[index]) }
    }
}

struct ErasureCoderTests {
    static let policies = ["RS-3-2-4k", "RS-6-3-4k", "RS-10-4-4k", "XOR-2-1-4k", "RS-2-1-4k", "RS-11-5-4k"]

    /// Multiplication in GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1, a bit at a time.
    private static func multiply(_ left: UInt8, _ right: UInt8) -> UInt8 {
        var (a, b, product): (UInt8, UInt8, UInt8) = (left, right, 0)
        while b != 0 {
            if b & 1 == 1 { product ^= a }
            a = a & 0x80 == 0 ? a << 1 : (a << 1) ^ 0x1d
            b >>= 1
        }
        return product
    }

    @Test("RS parity is the Cauchy matrix times the data: coefficient 1 / (row xor column)", arguments: policies)
    func parityOfCauchyMatrix(name: String) throws {
        guard name.hasPrefix("RS") else { return }
        var random = SystemRandomNumberGenerator()
        let stripe = try Stripe(name, count: 40, using: &random)
        defer { stripe.free() }
        let k = stripe.coder.policy.dataUnits
        func inverse(_ value: UInt8) -> UInt8 { (1...255).first { Self.multiply($0, value) == 1 }! }
        for row in k..<stripe.coder.policy.totalUnits {
            for offset in 0..<40 {
                let expected = (0..<k).reduce(UInt8(0)) {
                    $0 ^ Self.multiply(inverse(UInt8(row ^ $1)), stripe.cells[$1][offset])
                }
                #expect(stripe.cells[row][offset] == expected)
            }
        }
    }

    @Test("XOR parity is the exclusive or of the data cells")
    func parityOfXOR() throws {
        var random = SystemRandomNumberGenerator()
        let stripe = try Stripe("XOR-2-1-4k", count: 100, using: &random)
        defer { stripe.free() }
        for offset in 0..<100 {
            #expect(stripe.cells[2][offset] == stripe.cells[0][offset] ^ stripe.cells[1][offset])
        }
    }

    @Test("every pattern of up to m lost cells is decoded, in lengths that fit no register", arguments: policies)
    func allPatterns(name: String) throws {
        var random = SystemRandomNumberGenerator()
        let stripe = try Stripe(name, count: 101, using: &random)
        defer { stripe.free() }
        let units = stripe.coder.policy.totalUnits
        // RS-11-5 has 6884 patterns: more than the coder keeps tables for.
        for pattern in 1..<(1 << units) where pattern.nonzeroBitCount <= stripe.coder.policy.parityUnits {
            let lost = (0..<units).filter { pattern & 1 << $0 != 0 }
            let left = (0..<units).filter { pattern & 1 << $0 == 0 }
            #expect(try stripe.restores(lost.shuffled(), from: left.shuffled()), "lost \(lost)")
        }
    }

    @Test("with fewer than k cells nothing is made", arguments: policies)
    func tooFew(name: String) throws {
        var random = SystemRandomNumberGenerator()
        let stripe = try Stripe(name, count: 64, using: &random)
        defer { stripe.free() }
        let k = stripe.coder.policy.dataUnits
        #expect(throws: ErasureCodingError.tooFewCells(available: k - 1, needed: k)) {
            _ = try stripe.restores([0], from: Array(1..<k))
        }
    }
}
