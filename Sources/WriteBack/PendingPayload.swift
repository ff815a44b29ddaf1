// What an entry of the map of pending writes refers to: bytes in memory, or where they were dumped.

internal import LockFree
public import Platform

/// The bytes of a pending write, or of a part of one. Never changes: dumping puts another one in its place.
final class PendingPayload: MapValue, @unchecked Sendable {
    enum Content {
        case memory(Payload)
        case dumped(DumpPlace)
    }
    let content: Content

    init(_ content: Content) { self.content = content }

    convenience init(_ payload: Payload) { self.init(.memory(payload)) }

    /// Memory that goes with a pending write beside the buffers of its bytes: its entry in the map (64 bytes), this object
    /// (48), the payload's array (64) and a buffer's own head (48), each with what the allocator adds. The nodes of the map
    /// are counted there.
    static let overheadBytes = 320

    var heldBytes: Int {
        switch content {
        case .memory(let payload): payload.bufferBytes + Self.overheadBytes
        case .dumped: Self.overheadBytes
        }
    }

    /// What dumping it would free.
    var dumpableBytes: Int {
        guard case .memory(let payload) = content else { return 0 }
        return payload.bufferBytes
    }
}

/// What was read back from the dump last: the pieces of one write often come one after another, with newer ones between.
public struct DumpedBytes {
    private var place: DumpPlace?
    private var payload = Payload()

    public init() {}

    fileprivate mutating func load(_ wanted: DumpPlace) async throws(WriteBackError) -> Payload {
        if place !== wanted {
            payload = try await wanted.load()
            place = wanted
        }
        return payload
    }
}

/// Bytes of a pending write, wherever they are.
public struct PendingBytes: Sendable {
    private let content: PendingPayload.Content
    private let range: Range<Int>

    init(_ content: PendingPayload.Content, _ range: Range<Int>) {
        self.content = content
        self.range = range
    }

    /// For tests.
    public init(_ payload: Payload) { self.init(.memory(payload), 0..<payload.count) }

    public var count: Int { range.count }

    /// The bytes, if they are in memory.
    public var inMemory: Payload? {
        guard case .memory(let payload) = content else { return nil }
        return payload.slice(range)
    }

    /// The bytes `part`, counted from the first.
    public func slice(_ part: Range<Int>) -> PendingBytes {
        precondition(part.lowerBound >= 0 && part.upperBound <= range.count)
        return PendingBytes(content, range.lowerBound + part.lowerBound..<range.lowerBound + part.upperBound)
    }

    /// Memory that it takes to read them back: all of the write that they are of.
    public var loadBytes: Int {
        guard case .dumped(let place) = content else { return 0 }
        return place.count
    }

    /// The bytes, read back if they were dumped. Throws `dumpLost` if the dump file doesn't give them back.
    public func load(_ dumped: inout DumpedBytes) async throws(WriteBackError) -> Payload {
        switch content {
        case .memory(let payload): payload.slice(range)
        // A small part must not keep all that was read.
        case .dumped(let place): try await dumped.load(place).slice(range).compacted()
        }
    }
}
