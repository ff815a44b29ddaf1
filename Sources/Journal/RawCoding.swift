// Big-endian numbers in memory that is not Swift's.

/// Writes one after another. Room is the caller's business.
struct RawWriter {
    private let bytes: UnsafeMutableRawBufferPointer
    private(set) var position: Int

    init(_ bytes: UnsafeMutableRawBufferPointer, from position: Int = 0) {
        self.bytes = bytes
        self.position = position
    }

    mutating func put(_ value: some FixedWidthInteger & BitwiseCopyable) {
        take(value.bitWidth / 8).storeBytes(of: value.bigEndian, as: type(of: value))
    }

    mutating func put(_ value: [UInt8]) { value.withUnsafeBytes { take($0.count).copyMemory(from: $0) } }

    mutating func putZeros(_ count: Int) {
        let room = take(count)
        _ = room.initializeMemory(as: UInt8.self, repeating: 0)
    }

    /// The next bytes, for the caller to fill.
    mutating func take(_ count: Int) -> UnsafeMutableRawBufferPointer {
        precondition(count >= 0 && count <= bytes.count - position, "no room was made for this")
        defer { position += count }
        return UnsafeMutableRawBufferPointer(rebasing: bytes[position..<position + count])
    }
}

/// Reads what may be anything: nil beyond the end.
struct RawReader {
    private let bytes: UnsafeRawBufferPointer
    private(set) var position: Int

    init(_ bytes: UnsafeRawBufferPointer, from position: Int = 0) {
        self.bytes = bytes
        self.position = position
    }

    var isAtEnd: Bool { position == bytes.count }

    mutating func number<Number: FixedWidthInteger & BitwiseCopyable>() -> Number? {
        guard let piece = take(Number.bitWidth / 8) else { return nil }
        return Number(bigEndian: piece.loadUnaligned(as: Number.self))
    }

    mutating func take(_ count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, count <= bytes.count - position else { return nil }
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
    }
}
