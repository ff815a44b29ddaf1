// File data on its way through the gateway: slices of the buffers that it was received or read into, so
// that the bytes of a WRITE are copied once, into the cells, and those of a READ not at all.

public import NIOCore

/// A run of bytes in one or more buffers. Value semantics; slicing copies no bytes.
public struct Payload: Sendable {
    /// The pieces in order, none of them empty.
    public private(set) var segments: [ByteBuffer] = []
    public private(set) var count = 0

    public init() {}

    public init(_ buffer: ByteBuffer) { append(buffer) }

    /// A copy of `bytes`; for tests and small pieces.
    public init(bytes: some Sequence<UInt8>) { self.init(ByteBuffer(bytes: bytes)) }

    public var isEmpty: Bool { count == 0 }

    public mutating func append(_ buffer: ByteBuffer) {
        guard buffer.readableBytes > 0 else { return }
        count += buffer.readableBytes
        segments.append(buffer)
    }

    public mutating func append(_ other: Payload) {
        count += other.count
        segments.append(contentsOf: other.segments)
    }

    /// The bytes `range` of this payload.
    /// - Precondition: the range is inside 0 ..< count.
    public func slice(_ range: Range<Int>) -> Payload {
        precondition(range.lowerBound >= 0 && range.upperBound <= count)
        if range == 0..<count { return self }
        var result = Payload()
        var start = 0
        for segment in segments {
            let end = start + segment.readableBytes
            let low = max(range.lowerBound, start)
            let high = min(range.upperBound, end)
            if low < high, let piece = segment.getSlice(at: segment.readerIndex + low - start, length: high - low) {
                result.append(piece)
            }
            if end >= range.upperBound { break }
            start = end
        }
        return result
    }

    /// The same bytes, where segments that use less than half of their buffer are copied out of it.
    public func compacted() -> Payload {
        guard segments.contains(where: { $0.readableBytes * 2 < $0.storageCapacity }) else { return self }
        var result = Payload()
        for segment in segments {
            result.append(
                segment.readableBytes * 2 < segment.storageCapacity
                    ? ByteBuffer(bytes: segment.readableBytesView) : segment)
        }
        return result
    }

    /// The size of the buffers that this payload keeps in memory; those of which it has several parts count again.
    public var bufferBytes: Int { segments.reduce(0) { $0 + $1.storageCapacity } }

    /// Copies the whole payload to `destination`.
    /// - Precondition: there is room for `count` bytes.
    public func copy(to destination: UnsafeMutableRawBufferPointer) {
        precondition(destination.count >= count)
        var offset = 0
        for segment in segments {
            segment.withUnsafeReadableBytes { bytes in
                (destination.baseAddress! + offset).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
                offset += bytes.count
            }
        }
    }

    /// The bytes as one array; for tests and small pieces.
    public var bytes: [UInt8] { segments.flatMap { Array($0.readableBytesView) } }
}
