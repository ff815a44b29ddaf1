// Record marking on TCP (RFC 5531 §11) as a state machine without I/O. A record is a sequence of fragments;
// each has a 4-byte mark: the top bit says that it is the last of its record, the rest is its length.
//
// Input waits here, unparsed, until `next` is called: a connection that has enough calls in flight stops
// calling it.
//
// Invariant: the record under construction never exceeds `maxRecordBytes` nor what was admitted, which is checked
// when a fragment announces itself, before any of its bytes are taken.

internal import NIOCore
internal import Platform

/// Cuts a stream of bytes into records.
struct RecordReader {
    /// The stream can't be followed any further; the connection has to be closed.
    enum Failure: Error, Hashable {
        case recordTooLong
        case tooManyFragments
    }

    private enum State {
        /// Inside a mark, of which `count` bytes have been read into the low bytes of `bits`.
        case mark(bits: UInt32, count: Int)
        /// A fragment that makes its record longer than was admitted.
        case unadmitted(length: Int, isLast: Bool)
        case fragment(remaining: Int, isLast: Bool)
    }

    private static let startOfMark = State.mark(bits: 0, count: 0)

    private let maxRecordBytes: Int
    private let maxFragments: Int
    /// Records up to here need no admission.
    private let maxUnadmittedBytes: Int
    /// How long the record under construction may get without being admitted further.
    private var admittedBytes: Int
    private var input = CircularBuffer<ByteBuffer>()
    private var state = startOfMark
    private var fragmentCount = 0
    private var record = RecordAssembly()

    init(maxRecordBytes: Int, maxFragments: Int, maxUnadmittedBytes: Int = .max) {
        self.maxRecordBytes = maxRecordBytes
        self.maxFragments = maxFragments
        self.maxUnadmittedBytes = maxUnadmittedBytes
        admittedBytes = maxUnadmittedBytes
    }

    /// Adds bytes at the end of the stream.
    mutating func receive(_ buffer: ByteBuffer) {
        if buffer.readableBytes > 0 { input.append(buffer) }
    }

    /// The memory of input that waits.
    var pinnedInputBytes: Int { input.reduce(0) { $0 + $1.storageCapacity } }

    /// Forgets all that was received, also the beginning of a record.
    mutating func discard() {
        self = RecordReader(
            maxRecordBytes: maxRecordBytes, maxFragments: maxFragments, maxUnadmittedBytes: maxUnadmittedBytes)
    }

    /// The record under construction waits for being admitted up to this length: that which it announces, or the
    /// longest of all when more fragments follow, so that it is admitted once.
    var wantedBytes: Int? {
        guard case .unadmitted(let length, let isLast) = state else { return nil }
        return isLast ? record.count + length : maxRecordBytes
    }

    /// - Parameter bytes: at least `wantedBytes`.
    mutating func admit(_ bytes: Int) { admittedBytes = max(admittedBytes, bytes) }

    /// Some of a record or of a mark has arrived, and the rest has not.
    var isInsideRecord: Bool {
        switch state {
        case .mark(_, let count): count > 0 || fragmentCount > 0
        case .unadmitted, .fragment: true
        }
    }

    /// The next record that has arrived completely; nil when there is none. After a failure the stream is lost.
    mutating func next() throws(Failure) -> Payload? {
        while true {
            switch state {
            case .mark(var bits, var count):
                while count < 4 {
                    guard let byte = takeByte() else {
                        state = .mark(bits: bits, count: count)
                        return nil
                    }
                    bits = bits << 8 | UInt32(byte)
                    count += 1
                }
                let length = Int(bits & 0x7fff_ffff)
                fragmentCount += 1
                guard length <= maxRecordBytes - record.count else { throw .recordTooLong }
                guard fragmentCount <= maxFragments else { throw .tooManyFragments }
                state = .unadmitted(length: length, isLast: bits & 0x8000_0000 != 0)

            case .unadmitted(let length, let isLast):
                guard record.count + length <= admittedBytes else { return nil }
                state = .fragment(remaining: length, isLast: isLast)

            case .fragment(0, let isLast):
                state = Self.startOfMark
                if isLast {
                    fragmentCount = 0
                    admittedBytes = maxUnadmittedBytes
                    return record.finish()
                }

            case .fragment(let remaining, let isLast):
                guard let piece = takePiece(atMost: remaining) else { return nil }
                record.append(piece, announcedBytes: remaining)
                state = .fragment(remaining: remaining - piece.readableBytes, isLast: isLast)
            }
        }
    }

    private mutating func takeByte() -> UInt8? {
        guard !input.isEmpty else { return nil }
        let byte: UInt8? = input[input.startIndex].readInteger()
        dropReadInput()
        return byte
    }

    private mutating func takePiece(atMost count: Int) -> ByteBuffer? {
        guard !input.isEmpty else { return nil }
        let available = input[input.startIndex].readableBytes
        let piece = input[input.startIndex].readSlice(length: min(count, available))
        dropReadInput()
        return piece
    }

    /// Keeps the invariant that no buffer in `input` is empty.
    private mutating func dropReadInput() {
        if input[input.startIndex].readableBytes == 0 { input.removeFirst() }
    }
}
