// What is appended to the journal.

public import Model
public import Platform

/// One record of the log: metadata, which the journal doesn't look into, and bytes that go with it. All of it becomes
/// durable, or nothing.
public struct JournalEntry: Sendable {
    /// One more than that of the entry before.
    public let number: LogNumber
    public let record: [UInt8]
    public let payloads: [JournalPayload]

    public init(number: LogNumber, record: [UInt8], payloads: [JournalPayload] = []) {
        self.number = number
        self.record = record
        self.payloads = payloads
    }
}

/// Bytes of a file.
public struct JournalPayload: Sendable {
    public let file: FileID
    public let offset: UInt64
    /// Of the WRITE that brought them: for each byte of a file the highest wins.
    public let sequence: WriteSequence
    /// Not empty.
    public let bytes: Payload

    public init(file: FileID, offset: UInt64, sequence: WriteSequence, bytes: Payload) {
        self.file = file
        self.offset = offset
        self.sequence = sequence
        self.bytes = bytes
    }
}

/// Why the journal can't do what it was asked for.
public enum JournalError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Nothing can be made durable any more: too few volumes are left, or no new epoch could be begun.
    case failed(String)
    case closed
    /// No replica gives the bytes back.
    case unreadable(String)

    public var description: String {
        switch self {
        case .failed(let reason): "the journal has failed: \(reason)"
        case .closed: "the journal is closed"
        case .unreadable(let reason): "journaled bytes cannot be read back: \(reason)"
        }
    }
}
