// What the namespace knows of a block group.

public import Model

/// A block group: its version, coding, length and where its internal blocks are.
public struct BlockGroup: Hashable, Sendable {
    public let id: BlockGroupID
    public var generationStamp: GenerationStamp
    public let policy: ErasureCodingPolicy
    /// Bytes of the group's stream that are published: durable, with valid checksums.
    public var length: UInt64
    public var isSealed: Bool
    /// The volume of each internal block, k + m of them; nil: it was never written or is lost.
    public private(set) var locations: [VolumeID?]
    /// Bytes that extents refer to.
    public var liveBytes: UInt64

    /// - Precondition: `locations` has k + m elements.
    public init(
        id: BlockGroupID, generationStamp: GenerationStamp, policy: ErasureCodingPolicy, length: UInt64 = 0,
        isSealed: Bool = false, locations: [VolumeID?], liveBytes: UInt64 = 0
    ) {
        precondition(locations.count == policy.totalUnits)
        self.id = id
        self.generationStamp = generationStamp
        self.policy = policy
        self.length = length
        self.isSealed = isSealed
        self.locations = locations
        self.liveBytes = liveBytes
    }

    /// Says where the internal block is from now on.
    public mutating func setLocation(_ volume: VolumeID?, ofBlock index: Int) { locations[index] = volume }
}

extension BlockGroup {
    /// All but the id, which is the key.
    func encodeBody(to encoder: inout ByteEncoder) {
        encoder.put(generationStamp.rawValue)
        encoder.put(counted: Array(policy.description.utf8))
        encoder.put(length)
        encoder.put(UInt8(isSealed ? 1 : 0))
        for location in locations {
            encoder.put(optional: location) {
                $0.put($1.rawValue.high)
                $0.put($1.rawValue.low)
            }
        }
        encoder.put(liveBytes)
    }

    /// Longer than any policy's name.
    private static let maxPolicyNameBytes = 64

    init(id: BlockGroupID, body decoder: inout ByteDecoder) throws(CorruptMetadata) {
        let generationStamp = GenerationStamp(rawValue: try decoder.integer())
        let name = try decoder.counted(maxCount: Self.maxPolicyNameBytes)
        guard let policy = try? ErasureCodingPolicy(String(decoding: name, as: UTF8.self)) else { throw .invalidValue }
        let length: UInt64 = try decoder.integer()
        let isSealed = try decoder.isPresent()
        var locations: [VolumeID?] = []
        for _ in 0..<policy.totalUnits {
            guard try decoder.isPresent() else {
                locations.append(nil)
                continue
            }
            let high: UInt64 = try decoder.integer()
            locations.append(VolumeID(rawValue: UniqueID(high: high, low: try decoder.integer())))
        }
        self.init(
            id: id, generationStamp: generationStamp, policy: policy, length: length, isSealed: isSealed,
            locations: locations, liveBytes: try decoder.integer())
        try checkPlausibility()
    }
}
