// How a block group is coded. The names are HDFS's: RS-6-3-1024k, XOR-2-1-1024k.
// Invariants: k > m ≥ 1 (two starts of a store that each miss m volumes must share one: "Epochs" in
// Sources/README.md), k + m ≤ 16 (the index nibble of HDFS's block ids).

/// An erasure coding policy: codec, k, m and the size of a cell.
public struct ErasureCodingPolicy: Hashable, Sendable, CustomStringConvertible {
    /// How parity is computed.
    public enum Codec: String, Sendable {
        /// Reed–Solomon over GF(2^8) with ISA-L's Cauchy matrix; HDFS's "rs".
        case reedSolomon = "RS"
        /// One parity cell, the exclusive or of the data cells.
        case xor = "XOR"
    }

    public let codec: Codec
    /// k: data cells of a stripe.
    public let dataUnits: Int
    /// m: parity cells of a stripe.
    public let parityUnits: Int
    public let cellSizeBytes: Int

    /// k + m.
    public var totalUnits: Int { dataUnits + parityUnits }
    /// Data bytes of a full stripe.
    public var stripeSizeBytes: Int { dataUnits * cellSizeBytes }

    /// Why a policy was refused, as one line for a person.
    public struct Refusal: Error, Equatable, CustomStringConvertible {
        public let description: String
    }

    /// Throws `Refusal` when the numbers can't make a safe policy.
    public init(codec: Codec, dataUnits: Int, parityUnits: Int, cellSizeBytes: Int) throws(Refusal) {
        guard dataUnits >= 1, parityUnits >= 1 else {
            throw Refusal(description: "a policy needs at least one data and one parity unit")
        }
        guard dataUnits > parityUnits else {
            throw Refusal(
                description: "\(codec.rawValue)-\(dataUnits)-\(parityUnits) has no more data than parity units: "
                    + "two starts of the store could then miss each other; k must be greater than m")
        }
        guard dataUnits + parityUnits <= Limits.maxInternalBlocks else {
            throw Refusal(
                description: "\(codec.rawValue)-\(dataUnits)-\(parityUnits) has more than "
                    + "\(Limits.maxInternalBlocks) units")
        }
        guard codec != .xor || parityUnits == 1 else {
            throw Refusal(description: "XOR has exactly one parity unit")
        }
        guard cellSizeBytes >= Limits.minCellSizeBytes, cellSizeBytes <= Limits.maxCellSizeBytes,
            cellSizeBytes & (cellSizeBytes - 1) == 0
        else {
            throw Refusal(
                description: "the cell size must be a power of two from \(Limits.minCellSizeBytes / 1024)k to "
                    + "\(Limits.maxCellSizeBytes / 1024)k")
        }
        self.codec = codec
        self.dataUnits = dataUnits
        self.parityUnits = parityUnits
        self.cellSizeBytes = cellSizeBytes
    }

    /// Reads `RS-6-3-1024k`, or `RS-6-3` for the same: HDFS's usual cells are of 1024k.
    public init(_ name: String) throws(Refusal) {
        var parts = name.split(separator: "-", omittingEmptySubsequences: false)
        if parts.count == 3 { parts.append("1024k") }
        guard parts.count == 4, let codec = Codec(rawValue: String(parts[0])), let k = Int(parts[1]),
            let m = Int(parts[2]), parts[3].last == "k", let cell = Int(parts[3].dropLast()),
            cell > 0, cell <= Limits.maxCellSizeBytes / 1024
        else {
            throw Refusal(description: "'\(name)' is not a policy; one looks like RS-3-2-1024k")
        }
        try self.init(codec: codec, dataUnits: k, parityUnits: m, cellSizeBytes: cell * 1024)
    }

    public var description: String { "\(codec.rawValue)-\(dataUnits)-\(parityUnits)-\(cellSizeBytes / 1024)k" }

    /// The widest of the usual policies that `volumes` volumes can hold; nil below three.
    public static func standard(forVolumes volumes: Int) -> ErasureCodingPolicy? {
        let names = [(14, "RS-10-4-1024k"), (9, "RS-6-3-1024k"), (5, "RS-3-2-1024k"), (3, "XOR-2-1-1024k")]
        guard let name = names.first(where: { volumes >= $0.0 })?.1 else { return nil }
        return try? ErasureCodingPolicy(name)
    }
}
