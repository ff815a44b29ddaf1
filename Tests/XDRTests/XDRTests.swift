// The codec against bytes written by hand, and against itself over random values.

import FaultInjection
import NIOCore
import Testing
import XDR

@Suite("XDR")
struct XDRTests {
    @Test("each type is encoded as RFC 4506 §4 lays it out")
    func layout() {
        var encoder = XDREncoder(capacity: 4)
        encoder.uint32(0x0102_0304)
        encoder.int32(-2)
        encoder.uint64(0x0102_0304_0506_0708)
        encoder.int64(-3)
        encoder.bool(true)
        encoder.bool(false)
        encoder.fixedOpaque([1, 2, 3, 4, 5])
        encoder.opaque([9])
        encoder.opaque([])
        let expected: [UInt8] =
            [1, 2, 3, 4]  // §4.2
            + [0xff, 0xff, 0xff, 0xfe]  // §4.1
            + [1, 2, 3, 4, 5, 6, 7, 8]  // §4.5
            + [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfd]
            + [0, 0, 0, 1, 0, 0, 0, 0]  // §4.4
            + [1, 2, 3, 4, 5, 0, 0, 0]  // §4.9
            + [0, 0, 0, 1, 9, 0, 0, 0]  // §4.10
            + [0, 0, 0, 0]
        #expect(encoder.count == expected.count)
        #expect(Array(encoder.finish().readableBytesView) == expected)
    }

    @Test("truncate(to:) drops what was encoded later")
    func truncation() {
        var encoder = XDREncoder()
        encoder.uint32(1)
        let count = encoder.count
        encoder.opaque(Array(repeating: 7, count: 1000))
        encoder.truncate(to: count)
        encoder.uint32(2)
        #expect(Array(encoder.finish().readableBytesView) == [0, 0, 0, 1, 0, 0, 0, 2])
    }

    @Test("a bool is 0 or 1, any other number is refused (RFC 4506 §4.4)")
    func strictBool() {
        #expect(failure([0, 0, 0, 2]) { decoder throws(XDRError) in _ = try decoder.bool() } == .invalidValue)
    }

    @Test("an opaque longer than its type allows is refused before its bytes are looked at")
    func tooLong() {
        #expect(
            failure([0, 0, 0, 5]) { decoder throws(XDRError) in _ = try decoder.opaque(maxCount: 4) } == .tooLong)
        #expect(
            failure([0xff, 0xff, 0xff, 0xff]) { decoder throws(XDRError) in
                _ = try decoder.payloadRange(maxCount: 1 << 20)
            } == .tooLong)
    }

    @Test("an announced length that didn't arrive is truncated, and nothing is allocated for it")
    func announcedButAbsent() {
        #expect(
            failure([0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4]) { decoder throws(XDRError) in
                _ = try decoder.opaque(maxCount: .max)
            } == .truncated)
    }

    @Test("an opaque without its padding is truncated (RFC 4506 §4.9)")
    func missingPadding() {
        #expect(
            failure([0, 0, 0, 1, 9]) { decoder throws(XDRError) in _ = try decoder.opaque(maxCount: 4) } == .truncated)
    }

    @Test("a payload's range is told though its bytes are elsewhere")
    func payloadRange() throws {
        let bytes: [UInt8] = [0, 0, 0, 7, 0, 1, 0, 0]
        let (range, position) = try bytes.withUnsafeBytes { bytes in
            var decoder = XDRDecoder(bytes)
            _ = try decoder.uint32()
            let range = try decoder.payloadRange(maxCount: 1 << 20)
            return (range, decoder.position)
        }
        #expect(range == 8..<8 + 65536)
        #expect(position == 8)
    }

    @Test("no bytes at all are truncated, not a crash")
    func empty() {
        let empty = UnsafeRawBufferPointer(start: nil, count: 0)
        var decoder = XDRDecoder(empty)
        #expect(decoder.remaining == 0)
        #expect(throws: XDRError.truncated) { try decoder.uint64() }
        #expect(throws: XDRError.truncated) { try decoder.fixedOpaque(1) }
    }

    @Test("random fields come back as they went in at any alignment, and any prefix is truncated")
    func roundTrip() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<300 {
            let fields = (0..<Int.random(in: 1...12, using: &generator)).map { _ in Field(using: &generator) }
            var encoder = XDREncoder(capacity: Int.random(in: 0...64, using: &generator))
            for field in fields { field.encode(&encoder) }
            let bytes = Array(encoder.finish().readableBytesView)
            #expect(bytes.count % 4 == 0)

            let shift = Int.random(in: 0..<8, using: &generator)
            let shifted = [UInt8](repeating: 0xee, count: shift) + bytes
            #expect(Self.decode(shifted[shift...], like: fields) == .success(fields), "seed \(seed)")
            let cut = Int.random(in: 0..<bytes.count, using: &generator)
            #expect(Self.decode(shifted[shift..<shift + cut], like: fields) == .failure(.truncated), "seed \(seed)")
        }
    }

    private static func decode(_ bytes: ArraySlice<UInt8>, like fields: [Field]) -> Result<[Field], XDRError> {
        bytes.withUnsafeBytes { bytes in
            var decoder = XDRDecoder(bytes)
            do throws(XDRError) {
                var result: [Field] = []
                for field in fields { result.append(try Field(like: field, from: &decoder)) }
                return .success(result)
            } catch {
                return .failure(error)
            }
        }
    }

    private func failure(
        _ bytes: [UInt8], _ body: (inout XDRDecoder) throws(XDRError) -> Void
    ) -> XDRError? {
        bytes.withUnsafeBytes { bytes in
            var decoder = XDRDecoder(bytes)
            do throws(XDRError) {
                try body(&decoder)
                return nil
            } catch {
                return error
            }
        }
    }
}

/// One field of any type.
private enum Field: Equatable {
    case uint32(UInt32), int32(Int32), uint64(UInt64), int64(Int64), bool(Bool)
    case fixed([UInt8]), variable([UInt8])

    init(using generator: inout SeededGenerator) {
        let bytes = (0..<Int.random(in: 1...40, using: &generator)).map { _ in
            UInt8.random(in: 0 ... .max, using: &generator)
        }
        self =
            switch Int.random(in: 0..<7, using: &generator) {
            case 0: .uint32(.random(in: 0 ... .max, using: &generator))
            case 1: .int32(.random(in: .min ... .max, using: &generator))
            case 2: .uint64(.random(in: 0 ... .max, using: &generator))
            case 3: .int64(.random(in: .min ... .max, using: &generator))
            case 4: .bool(.random(using: &generator))
            case 5: .fixed(bytes)
            default: .variable(bytes)
            }
    }

    init(like field: Field, from decoder: inout XDRDecoder) throws(XDRError) {
        switch field {
        case .uint32: self = .uint32(try decoder.uint32())
        case .int32: self = .int32(try decoder.int32())
        case .uint64: self = .uint64(try decoder.uint64())
        case .int64: self = .int64(try decoder.int64())
        case .bool: self = .bool(try decoder.bool())
        case .fixed(let bytes): self = .fixed(try decoder.fixedOpaque(bytes.count))
        case .variable: self = .variable(try decoder.opaque(maxCount: 40))
        }
    }

    func encode(_ encoder: inout XDREncoder) {
        switch self {
        case .uint32(let value): encoder.uint32(value)
        case .int32(let value): encoder.int32(value)
        case .uint64(let value): encoder.uint64(value)
        case .int64(let value): encoder.int64(value)
        case .bool(let value): encoder.bool(value)
        case .fixed(let bytes): encoder.fixedOpaque(bytes)
        case .variable(let bytes): encoder.opaque(bytes)
        }
    }
}
