// What an entry of the map of pending writes refers to.

internal import LockFree
internal import Platform

/// The bytes of a pending write, or of a part of one.
final class PendingPayload: MapValue, @unchecked Sendable {
    let payload: Payload

    init(_ payload: Payload) { self.payload = payload }

    /// Memory that goes with a pending write beside the buffers of its bytes: its entry in the map (64 bytes), this object
    /// (48), the payload's array (64) and a buffer's own head (48), each with what the allocator adds. The nodes of the map
    /// are counted there.
    static let overheadBytes = 320

    var heldBytes: Int { payload.bufferBytes + Self.overheadBytes }
}
