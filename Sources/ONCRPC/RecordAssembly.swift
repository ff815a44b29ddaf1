// The bytes of one record, collected as they arrive. Large pieces are kept as slices of the receive buffers;
// small ones are copied, so that what is kept never pins more than twice its size (a buffer's storage is
// rounded up to a power of two).
//
// Invariant: the first `headBytes` of the record, or all that has arrived, are in the first segment. So the
// header and the arguments before a payload can be decoded in place.

internal import NIOCore
internal import Platform

/// Collects the pieces of a record.
struct RecordAssembly {
    /// What is made contiguous: what `RPCCall.decodeArguments` promises and, before it, the header of the call:
    /// six words, and two authenticators of two words and at most 400 bytes (RFC 5531 §8.2, §9): 840 bytes.
    static let headBytes = RPCCall.maxDecodableBytes + 1024
    /// Smaller pieces are copied: a copy of 64 KiB costs some microseconds, about what its system call cost.
    static let minSharedBytes = 64 << 10
    /// The longest fragment that gets a copy's memory at once; for longer ones it grows as bytes arrive, since
    /// they may never.
    static let maxReservedBytes = 128 << 10

    private(set) var count = 0
    private var segments: [ByteBuffer] = []
    /// The last segment's memory belongs to this record alone.
    private var lastIsCopy = false

    /// Adds the bytes that arrived.
    /// - Parameter announcedBytes: what is still to come of this fragment, with these bytes.
    mutating func append(_ piece: ByteBuffer, announcedBytes: Int) {
        var piece = piece
        let announcedAfter = announcedBytes - piece.readableBytes
        count += piece.readableBytes
        if segments.isEmpty {
            if Self.isWorthSharing(piece), piece.readableBytes >= Self.headBytes {
                share(piece)
                return
            }
            startCopy(announcedBytes: announcedBytes)
        }
        let headMissing = Self.headBytes - segments[0].readableBytes
        if headMissing > 0, var head = piece.readSlice(length: min(headMissing, piece.readableBytes)) {
            segments[0].writeBuffer(&head)
        }
        if piece.readableBytes == 0 { return }
        if Self.isWorthSharing(piece) {
            share(piece)
            return
        }
        // A copy is filled up to its storage and then another is started, so that no byte is copied twice.
        if lastIsCopy {
            let room = segments[segments.count - 1].writableBytes
            if var part = piece.readSlice(length: min(room, piece.readableBytes)) {
                segments[segments.count - 1].writeBuffer(&part)
            }
        }
        if piece.readableBytes > 0 {
            startCopy(announcedBytes: piece.readableBytes + announcedAfter)
            segments[segments.count - 1].writeBuffer(&piece)
        }
    }

    /// The record; this is empty again.
    mutating func finish() -> Payload {
        var record = Payload()
        for segment in segments { record.append(segment) }
        self = RecordAssembly()
        return record
    }

    private static func isWorthSharing(_ piece: ByteBuffer) -> Bool {
        piece.readableBytes >= minSharedBytes && piece.readableBytes * 2 >= piece.storageCapacity
    }

    private mutating func share(_ piece: ByteBuffer) {
        segments.append(piece)
        lastIsCopy = false
    }

    private mutating func startCopy(announcedBytes: Int) {
        let capacity = announcedBytes <= Self.maxReservedBytes ? announcedBytes : Self.minSharedBytes
        segments.append(ByteBufferAllocator().buffer(capacity: capacity))
        lastIsCopy = true
    }
}
