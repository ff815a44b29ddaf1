// What an entry of the map of pending writes refers to: bytes in memory, or where they were dumped, or journaled.

internal import Journal
internal import LockFree
public import Platform

/// The bytes of a pending write, or of a part of one. Never changes: dumping and journaling
/// put another one in its place.
final class PendingPayload: MapValue, @unchecked Sendable {
    enum Content {
        case memory(Payload)
        case dumped(DumpPlace)
        /// Durable in the journal, and in memory if it has not been let go. Of both the first byte is that of the claim: a
        /// part of the write that has been striped before is in neither.
        case journaled(JournaledBytes, Payload?)
    }
    let content: Content

    init(_ content: Content) { self.content = content }

    convenience init(_ payload: Payload) { self.init(.memory(payload)) }

    /// Memory that goes with a pending write beside the buffers of its bytes: its entry in the map (64 bytes), this object
    /// (48), the payload's array (64) and a buffer's own head (48), each with what the allocator adds. The nodes of the map
    /// are counted there.
    static let overheadBytes = 320

    /// Memory of a claim, and what keeps its segment.
    private static let claimBytes = 160

    /// Whether its bytes are durable where they are.
    var isJournaled: Bool { if case .journaled = content { true } else { false } }

    var heldBytes: Int {
        switch content {
        case .memory(let payload): payload.bufferBytes + Self.overheadBytes
        case .dumped: Self.overheadBytes
        case .journaled(_, let payload): (payload?.bufferBytes ?? 0) + Self.overheadBytes + Self.claimBytes
        }
    }

    /// What dumping it would free.
    var dumpableBytes: Int {
        guard case .memory(let payload) = content else { return 0 }
        return payload.bufferBytes
    }
}

/// What was read back last from the dump or the journal: the pieces of one write often come one after another, with newer ones between.
public struct DumpedBytes {
    private var source: AnyObject?
    private var payload = Payload()

    public init() {}

    fileprivate mutating func load(_ wanted: DumpPlace) async throws(WriteBackError) -> Payload {
        if source !== wanted {
            payload = try await wanted.load()
            source = wanted
        }
        return payload
    }

    fileprivate mutating func load(_ wanted: JournaledBytes) async throws(WriteBackError) -> Payload {
        if source !== wanted {
            do throws(JournalError) {
                payload = try await wanted.load()
            } catch {
                // Who reads it said why where it arose.
                throw .inputOutput
            }
            source = wanted
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
        switch content {
        case .memory(let payload), .journaled(_, let payload?): payload.slice(range)
        case .dumped, .journaled: nil
        }
    }

    /// Whether they are durable in the journal.
    public var isJournaled: Bool { if case .journaled = content { true } else { false } }

    /// The bytes `part`, counted from the first.
    public func slice(_ part: Range<Int>) -> PendingBytes {
        precondition(part.lowerBound >= 0 && part.upperBound <= range.count)
        return PendingBytes(content, range.lowerBound + part.lowerBound..<range.lowerBound + part.upperBound)
    }

    /// Memory that it takes to read them back: all of the write that they are of.
    public var loadBytes: Int {
        switch content {
        case .dumped(let place): place.count
        case .journaled(let claim, nil): claim.count
        case .memory, .journaled: 0
        }
    }

    /// The bytes, read back if they are not in memory. Throws `dumpLost` if the dump file doesn't give them back, and
    /// `inputOutput` if the journal doesn't.
    public func load(_ dumped: inout DumpedBytes) async throws(WriteBackError) -> Payload {
        switch content {
        case .memory(let payload), .journaled(_, let payload?): payload.slice(range)
        // A small part must not keep all that was read.
        case .dumped(let place): try await dumped.load(place).slice(range).compacted()
        case .journaled(let claim, nil): try await dumped.load(claim).slice(range).compacted()
        }
    }
}
