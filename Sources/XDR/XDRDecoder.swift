// Reads XDR (RFC 4506) through libtirpc's memory streams. Each field is checked against what remains, so
// bytes from the wire can make it throw but not crash or allocate more than arrived.
//
// Invariant: the stream's position is 0 ... count and moves only forward. A memory stream owns nothing, so
// there is nothing to destroy.

package import CTirpc

/// Decodes XDR from contiguous bytes, which the caller keeps alive and unchanged as long as the decoder.
///
/// Not synchronised. After an error the position is that of the field that failed or somewhere in it.
public struct XDRDecoder: ~Copyable {
    private let count: Int
    private var stream = xdr_stream()

    /// - Precondition: less than 4 GiB, libtirpc's limit for a stream.
    public init(_ bytes: UnsafeRawBufferPointer) {
        count = bytes.count
        // A decoding stream only reads, but the C declaration is the same as for an encoding one.
        let start = UnsafeMutablePointer(mutating: bytes.baseAddress?.assumingMemoryBound(to: CChar.self))
        xdrmem_create(&stream, start, UInt32(bytes.count), XDR_DECODE)
    }

    /// Bytes consumed.
    public var position: Int {
        withUnsafePointer(to: stream) { Int(sluice_xdr_position($0)) }
    }

    /// Bytes not consumed yet.
    public var remaining: Int { count - position }

    public mutating func uint32() throws(XDRError) -> UInt32 {
        var value: UInt32 = 0
        guard xdr_uint32_t(&stream, &value) != 0 else { throw .truncated }
        return value
    }

    public mutating func int32() throws(XDRError) -> Int32 {
        var value: Int32 = 0
        guard xdr_int32_t(&stream, &value) != 0 else { throw .truncated }
        return value
    }

    public mutating func uint64() throws(XDRError) -> UInt64 {
        var value: UInt64 = 0
        guard xdr_uint64_t(&stream, &value) != 0 else { throw .truncated }
        return value
    }

    public mutating func int64() throws(XDRError) -> Int64 {
        var value: Int64 = 0
        guard xdr_int64_t(&stream, &value) != 0 else { throw .truncated }
        return value
    }

    /// Only 0 and 1 (RFC 4506 §4.4); libtirpc's `xdr_bool` would take any number for true.
    public mutating func bool() throws(XDRError) -> Bool {
        switch try uint32() {
        case 0: return false
        case 1: return true
        default: throw .invalidValue
        }
    }

    /// `opaque[count]` and its padding to a multiple of 4, whatever that contains (RFC 4506 §4.9).
    /// - Precondition: `count` is not negative.
    public mutating func fixedOpaque(_ count: Int) throws(XDRError) -> [UInt8] {
        guard count <= remaining else { throw .truncated }
        var ok = true
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initializedCount in
            ok =
                buffer.withMemoryRebound(to: CChar.self) { xdr_opaque(&stream, $0.baseAddress, UInt32(count)) } != 0
            initializedCount = ok ? count : 0
        }
        guard ok else { throw .truncated }
        return bytes
    }

    /// `opaque<maxCount>` and its padding to a multiple of 4 (RFC 4506 §4.10); also strings (§4.11).
    public mutating func opaque(maxCount: Int) throws(XDRError) -> [UInt8] {
        try fixedOpaque(try opaqueCount(maxCount: maxCount))
    }

    /// The positions, relative to the start of this decoder, of the bytes of an `opaque<maxCount>`. Consumes
    /// only the count. The bytes need not be in this decoder's memory: they are a payload, to be sliced out of
    /// the receive buffers, and whoever does that checks that they arrived.
    public mutating func payloadRange(maxCount: Int) throws(XDRError) -> Range<Int> {
        let count = try opaqueCount(maxCount: maxCount)
        let start = position
        return start..<start + count
    }

    private mutating func opaqueCount(maxCount: Int) throws(XDRError) -> Int {
        let count = Int(try uint32())
        guard count <= maxCount else { throw .tooLong }
        return count
    }

    /// Runs one of libtirpc's own routines on the stream, for the messages of RFC 5531.
    package mutating func withStream<Value>(_ body: (UnsafeMutablePointer<xdr_stream>) -> Value) -> Value {
        body(&stream)
    }
}
