// XDR by hand (RFC 4506): big-endian, in units of 4 bytes. Independent of the project's encoder, which it
// checks.

/// Bytes put together field by field.
struct WireBytes: Equatable, ExpressibleByArrayLiteral, CustomStringConvertible {
    var bytes: [UInt8] = []

    init() {}
    init(arrayLiteral elements: WireBytes...) { bytes = elements.flatMap(\.bytes) }
    init(bytes: [UInt8]) { self.bytes = bytes }

    static func + (left: WireBytes, right: WireBytes) -> WireBytes { WireBytes(bytes: left.bytes + right.bytes) }

    static func u32(_ value: UInt32) -> WireBytes {
        WireBytes(bytes: [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) })
    }

    static func u64(_ value: UInt64) -> WireBytes {
        WireBytes(bytes: [56, 48, 40, 32, 24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) })
    }

    static let yes = u32(1)
    static let no = u32(0)

    static func opaque(_ data: [UInt8]) -> WireBytes {
        var padded = data
        while padded.count % 4 != 0 { padded.append(0) }
        return u32(UInt32(data.count)) + WireBytes(bytes: padded)
    }

    static func string(_ text: String) -> WireBytes { opaque(Array(text.utf8)) }

    static func hex(_ digits: String) -> WireBytes {
        let nibbles = digits.map { UInt8($0.hexDigitValue!) }
        return WireBytes(bytes: stride(from: 0, to: nibbles.count, by: 2).map { nibbles[$0] << 4 | nibbles[$0 + 1] })
    }

    var description: String {
        bytes.enumerated().map { offset, byte in
            (offset % 4 == 0 && offset > 0 ? " " : "") + String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
        }.joined()
    }
}
