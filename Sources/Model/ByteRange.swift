// Half-open ranges of byte offsets, in files, groups and blocks.

/// The bytes from `lowerBound` up to, not including, `upperBound`.
public struct ByteRange: Hashable, Sendable, CustomStringConvertible {
    public let lowerBound: UInt64
    public let upperBound: UInt64

    /// - Precondition: `lowerBound` ≤ `upperBound`.
    public init(_ lowerBound: UInt64, _ upperBound: UInt64) {
        precondition(lowerBound <= upperBound)
        self.lowerBound = lowerBound
        self.upperBound = upperBound
    }

    /// `count` bytes from `offset`.
    public init(offset: UInt64, count: UInt64) {
        self.init(offset, offset + count)
    }

    public var count: UInt64 { upperBound - lowerBound }
    public var isEmpty: Bool { lowerBound == upperBound }

    /// Whether the two share at least one byte.
    public func overlaps(_ other: ByteRange) -> Bool {
        max(lowerBound, other.lowerBound) < min(upperBound, other.upperBound)
    }

    public func contains(_ offset: UInt64) -> Bool { offset >= lowerBound && offset < upperBound }

    public func contains(_ other: ByteRange) -> Bool {
        other.lowerBound >= lowerBound && other.upperBound <= upperBound
    }

    /// The shared bytes; nil when there are none.
    public func intersection(_ other: ByteRange) -> ByteRange? {
        let low = max(lowerBound, other.lowerBound)
        let high = min(upperBound, other.upperBound)
        return low < high ? ByteRange(low, high) : nil
    }

    /// What is left of this range without `other`: none, one or two ranges, in order, none empty.
    public func subtracting(_ other: ByteRange) -> [ByteRange] {
        guard let shared = intersection(other) else { return isEmpty ? [] : [self] }
        var rest: [ByteRange] = []
        if lowerBound < shared.lowerBound { rest.append(ByteRange(lowerBound, shared.lowerBound)) }
        if shared.upperBound < upperBound { rest.append(ByteRange(shared.upperBound, upperBound)) }
        return rest
    }

    public var description: String { "[\(lowerBound), \(upperBound))" }
}
