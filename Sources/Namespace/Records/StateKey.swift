// Single numbers that the store keeps: counters, reservations, where it stands.

/// Names a number. Keys below `firstFree` are the namespace's own.
public struct StateKey: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// From here on keys are the user's of the namespace.
    public static let firstFree = StateKey(rawValue: 1000)

    static let formatVersion = StateKey(rawValue: 1)
    static let storeIDHigh = StateKey(rawValue: 2)
    static let storeIDLow = StateKey(rawValue: 3)
    static let epoch = StateKey(rawValue: 4)
    /// The last record that a mirror holds. Set with each transaction, not by a mutation.
    static let logNumber = StateKey(rawValue: 5)
    /// File ids below this have been reserved and may be in use.
    static let fileIDsReserved = StateKey(rawValue: 6)
    /// Ordinals of block groups below this have been reserved and may be in use.
    static let groupOrdinalsReserved = StateKey(rawValue: 7)
    static let fileCount = StateKey(rawValue: 8)
    static let directoryCount = StateKey(rawValue: 9)
    static let groupCount = StateKey(rawValue: 10)
    static let usedBytes = StateKey(rawValue: 11)
}
