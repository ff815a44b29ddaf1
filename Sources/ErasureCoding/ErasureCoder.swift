// Parity and its inverse, by ISA-L. A policy's generator matrix has k + m rows of k coefficients: k rows
// of the identity, so that data cells are stored as they are, then one row per parity cell. RS takes
// ISA-L's Cauchy matrix, which is HDFS's codec "rs" too; XOR a row of ones.
//
// What is left of a stripe is k of those rows; the inverse of that k × k matrix gives the data back, and
// its product with the other rows gives parity back. ISA-L multiplies by tables of 32 bytes for each
// coefficient. Those of a decoding depend only on which cells are left and wanted, and are kept.
//
// Invariant: no output byte is written unless the matrix was inverted.
// Lock order: the two locks are leaves, nothing is called while one is held.

internal import CISAL
public import Model
internal import Synchronization

/// Why cells could not be decoded. Nothing has been written then.
public enum ErasureCodingError: Error, Hashable, Sendable {
    /// Decoding needs k cells.
    case tooFewCells(available: Int, needed: Int)
    /// The rows of these cells have no inverse; can't happen with the policies' matrices.
    case notInvertible(available: [Int])
}

/// The encoder and decoder of a policy. May be used by several threads at once.
public final class ErasureCoder: Sendable {
    public let policy: ErasureCodingPolicy

    /// k + m rows of k coefficients.
    private let generator: [UInt8]
    private let encodingTables: [UInt8]
    private let decodingTables = Mutex<[ErasurePattern: [UInt8]]>([:])

    /// RS-10-4 has 14 + 91 + 364 + 1001 = 1470 patterns of up to four lost cells, of which a store sees a
    /// few. 256 of them, each 32 bytes × 10 × 4 at most, are 320 KiB.
    private static let maxDecodingTables = 256

    /// Which cells are read and which are made of them; bit i stands for index i.
    private struct ErasurePattern: Hashable {
        var sources: UInt16
        var wanted: UInt16
    }

    private static let coders = Mutex<[ErasureCodingPolicy: ErasureCoder]>([:])

    /// The one coder of this policy.
    public static func shared(for policy: ErasureCodingPolicy) -> ErasureCoder {
        coders.withLock { coders in
            if let coder = coders[policy] { return coder }
            let coder = ErasureCoder(policy: policy)
            coders[policy] = coder
            return coder
        }
    }

    public init(policy: ErasureCodingPolicy) {
        self.policy = policy
        let k = policy.dataUnits
        var generator = [UInt8](repeating: 0, count: policy.totalUnits * k)
        switch policy.codec {
        case .reedSolomon:
            gf_gen_cauchy1_matrix(&generator, Int32(policy.totalUnits), Int32(k))
        case .xor:
            for index in 0..<k {
                generator[index * k + index] = 1
                generator[k * k + index] = 1
            }
        }
        self.generator = generator
        encodingTables = Self.tables(rows: Array(generator[(k * k)...]), dataUnits: k)
    }

    /// Makes the parity cells of a stripe from its data cells.
    ///
    /// - Parameters:
    ///   - data: k pointers to `count` bytes.
    ///   - parity: m pointers to room for `count` bytes.
    /// - Precondition: the numbers of pointers are right; `count` > 0.
    public func encode(data: [UnsafeRawPointer], parity: [UnsafeMutableRawPointer], count: Int) {
        precondition(data.count == policy.dataUnits && parity.count == policy.parityUnits)
        Self.multiply(encodingTables, data, into: parity, count: count)
    }

    /// Makes cells of a stripe from any k others.
    ///
    /// - Parameters:
    ///   - available: index and pointer to `count` bytes of at least k different cells; k of them are used.
    ///   - wanted: index of and room for each cell to make, `count` bytes.
    /// - Precondition: indices are below k + m, none twice; `count` > 0.
    public func reconstruct(
        available: [(index: Int, bytes: UnsafeRawPointer)], wanted: [(index: Int, bytes: UnsafeMutableRawPointer)],
        count: Int
    ) throws(ErasureCodingError) {
        let sources = available.sorted { $0.index < $1.index }.prefix(policy.dataUnits)
        let targets = wanted.sorted { $0.index < $1.index }
        guard sources.count == policy.dataUnits else {
            throw .tooFewCells(available: sources.count, needed: policy.dataUnits)
        }
        if targets.isEmpty { return }
        let tables = try decodingTables(sources: sources.map(\.index), wanted: targets.map(\.index))
        Self.multiply(tables, sources.map(\.bytes), into: targets.map(\.bytes), count: count)
    }

    /// Both sorted.
    private func decodingTables(sources: [Int], wanted: [Int]) throws(ErasureCodingError) -> [UInt8] {
        let pattern = ErasurePattern(sources: bits(sources), wanted: bits(wanted))
        if let tables = decodingTables.withLock({ $0[pattern] }) { return tables }

        let k = policy.dataUnits
        var left = sources.flatMap { generator[($0 * k)..<(($0 + 1) * k)] }
        var inverse = [UInt8](repeating: 0, count: k * k)
        guard gf_invert_matrix(&left, &inverse, Int32(k)) == 0 else { throw .notInvertible(available: sources) }
        var rows: [UInt8] = []
        for index in wanted {
            // The wanted cell is `generator[index]` × data, and data is `inverse` × sources.
            for column in 0..<k {
                rows.append(
                    (0..<k).reduce(0) { $0 ^ gf_mul(generator[index * k + $1], inverse[$1 * k + column]) })
            }
        }
        let tables = Self.tables(rows: rows, dataUnits: k)
        decodingTables.withLock { cache in
            if cache.count >= Self.maxDecodingTables { cache.removeAll(keepingCapacity: true) }
            cache[pattern] = tables
        }
        return tables
    }

    /// Also checks that indices are in range and none is there twice.
    private func bits(_ indices: [Int]) -> UInt16 {
        indices.reduce(0) { bits, index in
            precondition(index >= 0 && index < policy.totalUnits && bits & (1 << index) == 0)
            return bits | 1 << index
        }
    }

    private static func tables(rows: [UInt8], dataUnits: Int) -> [UInt8] {
        var rows = rows
        // 32 bytes for each coefficient: the products of its low and its high nibble.
        var tables = [UInt8](repeating: 0, count: 32 * rows.count)
        ec_init_tables(Int32(dataUnits), Int32(rows.count / dataUnits), &rows, &tables)
        return tables
    }

    private static func multiply(
        _ tables: [UInt8], _ sources: [UnsafeRawPointer], into targets: [UnsafeMutableRawPointer], count: Int
    ) {
        precondition(count > 0 && count <= Int(Int32.max))
        var inputs = sources.map {
            Optional(UnsafeMutablePointer(mutating: $0.assumingMemoryBound(to: UInt8.self)))
        }
        var outputs = targets.map { Optional($0.assumingMemoryBound(to: UInt8.self)) }
        // ISA-L reads tables and sources only; its parameters just lack `const`.
        tables.withUnsafeBufferPointer { tables in
            ec_encode_data(
                Int32(count), Int32(inputs.count), Int32(outputs.count),
                UnsafeMutablePointer(mutating: tables.baseAddress!), &inputs, &outputs)
        }
    }
}
