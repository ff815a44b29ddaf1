// How much memory an open store may use for data on its way.

/// Shares of memory for the data that goes through a store.
public struct StoreMemory: Hashable, Sendable {
    /// What was written and is not published; beyond it writers wait.
    public var pendingBytes: Int
    /// Reads that have to decode.
    public var decodingBytes: Int
    /// Stripes that are being written. At least two are there, whatever this says.
    public var cellBytes: Int

    public init(pendingBytes: Int = 256 << 20, decodingBytes: Int = 128 << 20, cellBytes: Int = 96 << 20) {
        self.pendingBytes = pendingBytes
        self.decodingBytes = decodingBytes
        self.cellBytes = cellBytes
    }
}
