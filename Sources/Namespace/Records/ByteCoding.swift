// How metadata is put into bytes, in records and in rows: little-endian integers, counted byte strings.
// Decoding never trusts: each read is checked against the end, each value against its type.

/// Why bytes are no metadata.
public enum CorruptMetadata: Error, Hashable, Sendable {
    /// They end too early, or go on after the end.
    case wrongLength
    case checksumMismatch
    /// Written by a later version of Sluice.
    case unsupportedVersion(UInt8)
    /// A value that its type doesn't have.
    case invalidValue
    /// Values that were never written, or not together.
    case implausible
}

struct ByteEncoder {
    private(set) var bytes: [UInt8] = []

    init(capacity: Int = 128) { bytes.reserveCapacity(capacity) }

    mutating func put<Value: FixedWidthInteger>(_ value: Value) {
        Swift.withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// The bytes as they are.
    mutating func put(raw value: [UInt8]) { bytes.append(contentsOf: value) }

    /// The bytes after their count.
    mutating func put(counted value: [UInt8]) {
        put(UInt32(value.count))
        bytes.append(contentsOf: value)
    }

    mutating func put<Value>(optional value: Value?, _ body: (inout ByteEncoder, Value) -> Void) {
        put(UInt8(value == nil ? 0 : 1))
        if let value { body(&self, value) }
    }

    /// Overwrites what was put at `offset` before.
    mutating func replace(_ value: UInt32, at offset: Int) {
        Swift.withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + 4, with: $0) }
    }
}

struct ByteDecoder {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func integer<Value: FixedWidthInteger>(_: Value.Type = Value.self) throws(CorruptMetadata) -> Value {
        let count = MemoryLayout<Value>.size
        guard bytes.count - position >= count else { throw .wrongLength }
        let value = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: position, as: Value.self) }
        position += count
        return Value(littleEndian: value)
    }

    mutating func counted(maxCount: Int) throws(CorruptMetadata) -> [UInt8] {
        let count = Int(try integer(UInt32.self))
        guard count <= maxCount else { throw .invalidValue }
        guard bytes.count - position >= count else { throw .wrongLength }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    /// Whether a value follows that `put(optional:)` may have left out.
    mutating func isPresent() throws(CorruptMetadata) -> Bool {
        switch try integer(UInt8.self) {
        case 0: return false
        case 1: return true
        default: throw .invalidValue
        }
    }

    /// To be called last: nothing may be left over.
    func finish() throws(CorruptMetadata) {
        guard position == bytes.count else { throw .wrongLength }
    }
}
