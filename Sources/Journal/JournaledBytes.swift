// A claim on bytes that the journal holds.

public import Model
public import Platform

/// Bytes of one WRITE, or of a part of one, that are durable in the intent journal and not yet striped. As long as
/// somebody refers to this, the segment that they are in is kept. Thread-safe.
///
/// A class to be inherited from, so that write-back needn't know where segments are: the journal's own is `SegmentBytes`.
open class JournaledBytes: @unchecked Sendable {
    public let file: FileID
    /// Where they are in the file.
    public let offset: UInt64
    public let count: Int
    /// Of the WRITE.
    public let sequence: WriteSequence

    public init(file: FileID, offset: UInt64, count: Int, sequence: WriteSequence) {
        self.file = file
        self.offset = offset
        self.count = count
        self.sequence = sequence
    }

    public var range: ByteRange { ByteRange(offset: offset, count: UInt64(count)) }

    /// Reads all of them back, checked, from whichever replica has them.
    open func load() async throws(JournalError) -> Payload {
        preconditionFailure("a subclass says where the bytes are")
    }
}

extension JournaledBytes {
    /// A claim on a part of these: what is left of a WRITE that was overwritten or truncated in part.
    /// - Precondition: `part` is not empty and within `range`.
    public func part(_ part: ByteRange) -> JournaledBytes {
        part == range ? self : PartOfJournaledBytes(self, part)
    }
}

/// Some of the bytes of another claim.
private final class PartOfJournaledBytes: JournaledBytes, @unchecked Sendable {
    private let whole: JournaledBytes

    init(_ whole: JournaledBytes, _ part: ByteRange) {
        precondition(!part.isEmpty && whole.range.contains(part))
        self.whole = whole
        super.init(file: whole.file, offset: part.lowerBound, count: Int(part.count), sequence: whole.sequence)
    }

    override func load() async throws(JournalError) -> Payload {
        let start = Int(offset - whole.offset)
        return try await whole.load().slice(start..<start + count).compacted()
    }
}
