// How the namespace fails.

/// What went wrong with the namespace as a whole or with a mirror; not with one caller's request.
public enum NamespaceError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The log has failed, or no mirror is left, or the mirrors that are left may not go on. Nothing is answered any more,
    /// since nothing would be durable.
    case failed(String)
    /// A row's checksum doesn't match, on every mirror.
    case damaged(String)
    /// `close` was called.
    case closed
    /// Block group ids were used up faster than new ones became durable. Try again.
    case outOfGroupIDs
    /// Formatting where there is a namespace already.
    case alreadyFormatted(String)
    /// The mirror belongs to another store.
    case wrongStore(String)
    /// The mirror was written by another version of Sluice.
    case unsupportedVersion(UInt64)
    /// A mirror has an epoch that is higher than the one to open.
    case staleEpoch(String)
    /// The records that were recovered don't begin where a mirror ends, or don't reach as far as one does.
    case incompleteLog(String)
    /// No mirror could be read, written or copied.
    case inputOutput(String)

    public var description: String {
        switch self {
        case .failed(let reason): "the namespace has failed: \(reason)"
        case .damaged(let what): "damaged metadata: \(what)"
        case .closed: "the namespace is closed"
        case .outOfGroupIDs: "no reserved block group id is left for the moment"
        case .alreadyFormatted(let path): "\(path) is there already"
        case .wrongStore(let path): "\(path) belongs to another store"
        case .unsupportedVersion(let version): "metadata of version \(version) cannot be used"
        case .staleEpoch(let reason): reason
        case .incompleteLog(let reason): "the log and the mirrors don't fit: \(reason)"
        case .inputOutput(let reason): reason
        }
    }
}

/// An error of the bodies of `Namespace.perform`: it can also say that the namespace failed.
public protocol NamespaceFailure: Error {
    init(_ error: NamespaceError)
}

extension NamespaceError: NamespaceFailure {
    public init(_ error: NamespaceError) { self = error }
}
