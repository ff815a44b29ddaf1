// Writes XDR (RFC 4506) through libtirpc's memory streams, straight into the buffer that goes to the
// socket. A stream is made per field, on the stack: that costs a few nanoseconds and nothing has to hold a
// pointer into the buffer between fields, so the buffer can grow.
//
// Invariant: `count` is a multiple of 4.

package import CTirpc
public import NIOCore

/// Encodes XDR into a buffer that grows. Encoding cannot fail.
///
/// Not synchronised. A field allocates only when the capacity is exceeded, and then the capacity doubles.
public struct XDREncoder: ~Copyable {
    private var buffer: ByteBuffer

    /// - Parameter capacity: bytes that can be encoded without growing.
    public init(capacity: Int = 256) {
        buffer = ByteBufferAllocator().buffer(capacity: capacity)
    }

    /// Bytes encoded so far.
    public var count: Int { buffer.writerIndex }

    /// Drops what was encoded after the first `count` bytes.
    /// - Precondition: `count` is an earlier value of `count`.
    public mutating func truncate(to count: Int) {
        precondition(count >= 0 && count <= self.count && count % 4 == 0)
        buffer.moveWriterIndex(to: count)
    }

    public mutating func uint32(_ value: UInt32) {
        var value = value
        encode(count: 4) { xdr_uint32_t($0, &value) }
    }

    public mutating func int32(_ value: Int32) {
        var value = value
        encode(count: 4) { xdr_int32_t($0, &value) }
    }

    public mutating func uint64(_ value: UInt64) {
        var value = value
        encode(count: 8) { xdr_uint64_t($0, &value) }
    }

    public mutating func int64(_ value: Int64) {
        var value = value
        encode(count: 8) { xdr_int64_t($0, &value) }
    }

    public mutating func bool(_ value: Bool) {
        uint32(value ? 1 : 0)
    }

    /// `opaque[bytes.count]` and zeroes up to a multiple of 4 (RFC 4506 §4.9).
    public mutating func fixedOpaque(_ bytes: [UInt8]) {
        encode(count: (bytes.count + 3) & ~3) { stream in
            bytes.withUnsafeBytes { source in
                // The routine only reads when it encodes, but its C declaration serves both directions.
                let start = UnsafeMutablePointer(mutating: source.baseAddress?.assumingMemoryBound(to: CChar.self))
                return xdr_opaque(stream, start, UInt32(source.count))
            }
        }
    }

    /// `opaque<>`: the count, the bytes, and zeroes up to a multiple of 4 (RFC 4506 §4.10); also strings (§4.11).
    /// - Precondition: less than 4 GiB.
    public mutating func opaque(_ bytes: [UInt8]) {
        uint32(UInt32(bytes.count))
        fixedOpaque(bytes)
    }

    public consuming func finish() -> ByteBuffer { buffer }

    /// Runs a routine that encodes exactly `count` bytes or, with `atMost`, up to that many.
    private mutating func encode(count: Int, _ body: (UnsafeMutablePointer<xdr_stream>) -> bool_t) {
        let written = encode(atMost: count, body)
        precondition(written == count, "libtirpc encoded \(written) bytes instead of \(count)")
    }

    /// Runs one of libtirpc's own routines, for the messages of RFC 5531; returns the bytes that it encoded.
    /// - Precondition: it succeeds within `atMost` bytes.
    @discardableResult
    package mutating func encode(atMost: Int, _ body: (UnsafeMutablePointer<xdr_stream>) -> bool_t) -> Int {
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: atMost) { bytes in
            var stream = xdr_stream()
            xdrmem_create(
                &stream, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), UInt32(atMost), XDR_ENCODE)
            let ok = body(&stream) != 0
            precondition(ok, "libtirpc refused to encode a value into \(atMost) bytes")
            return Int(sluice_xdr_position(&stream))
        }
    }
}
