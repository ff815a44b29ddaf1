// What an operator is told of a dump.

public import Platform

/// What goes wrong with a dump.
public enum DumpFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// Its disk fails.
    case inputOutput(IOError)
    /// The disk has not ended anything for so long.
    case hangs(Duration)
    /// It may have no more.
    case full(bytes: UInt64)
    /// It leaves the room that is there to others.
    case noRoom(directory: String)
    /// No volume may be written to.
    case noPlace
    /// What was dumped can't be read back.
    case notRead(String)
    /// A file that nobody needs any more is still there.
    case notRemoved(IOError)

    public var description: String {
        switch self {
        case .inputOutput(let error), .notRemoved(let error): "\(error)"
        case .hangs(let duration): "the disk has not answered for \(duration.components.seconds) s"
        case .full(let bytes): "the dump has \(bytes >> 20) MiB, the most it may"
        case .noRoom(let directory): "\(directory): the file system is nearly full"
        case .noPlace: "no volume may be written to"
        case .notRead(let cause): cause
        }
    }
}
