// How large reads are. What is read is mostly used at once; what is not, because its connection waits for room, is
// others' memory. When there is much of that, reads are small: then a connection is left with 8 KiB at most.
//
// A read may be made before what an earlier one left behind was counted only on another event loop, so the bound is
// exceeded by one read per event loop.

internal import NIOCore
internal import Synchronization

/// Bytes of all connections that were received and not looked at. May be used from any thread.
final class UnparsedInput: Sendable {
    private let count = Atomic<Int>(0)

    var bytes: Int { count.load(ordering: .relaxed) }
    func change(by bytes: Int) {
        if bytes != 0 { count.wrappingAdd(bytes, ordering: .relaxed) }
    }
}

/// As large as what the connection has sent lately, or small.
struct ReceiveBuffers: RecvByteBufferAllocator {
    static let smallBytes = 8 << 10

    private let unparsed: UnparsedInput
    private let maxUnparsedBytes: Int
    /// 256 KiB: larger ones don't make loopback faster, and a piece of at least half is kept as it is.
    private var usual = AdaptiveRecvByteBufferAllocator(minimum: 2 << 10, initial: 64 << 10, maximum: 256 << 10)

    init(_ unparsed: UnparsedInput, maxUnparsedBytes: Int) {
        self.unparsed = unparsed
        self.maxUnparsedBytes = maxUnparsedBytes
    }

    private var size: Int {
        let size = usual.nextBufferSize() ?? Self.smallBytes
        return unparsed.bytes < maxUnparsedBytes ? size : min(size, Self.smallBytes)
    }

    func buffer(allocator: ByteBufferAllocator) -> ByteBuffer { allocator.buffer(capacity: size) }
    func nextBufferSize() -> Int? { size }
    mutating func record(actualReadBytes: Int) -> Bool { usual.record(actualReadBytes: actualReadBytes) }
}
