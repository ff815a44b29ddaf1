// Every way in which a file operation can fail, in the words of files, not of a protocol. The protocol
// programs map them to their wire statuses, exhaustively.

/// The outcome of a file operation that was refused or failed.
public enum FileError: Error, Hashable, Sendable, CaseIterable {
    /// The caller is not the owner (EPERM).
    case notOwner
    /// No such name (ENOENT).
    case notFound
    /// The bytes could not be read or made durable. After a write-back error: told once per file (EIO).
    case inputOutput
    /// Permission bits forbid it (EACCES).
    case accessDenied
    /// The name is there already (EEXIST).
    case alreadyExists
    /// A directory operation on something else (ENOTDIR).
    case notDirectory
    /// A file operation on a directory (EISDIR).
    case isDirectory
    /// An argument makes no sense: "." as a new name, a directory moved into itself (EINVAL).
    case invalidArgument
    /// Beyond `Limits.maxFileBytes` (EFBIG).
    case fileTooBig
    /// No room (ENOSPC).
    case noSpace
    /// Too few volumes can be written to for bytes to be safe; they can be read (EROFS).
    case readOnly
    /// The name is longer than `Limits.maxNameBytes` (ENAMETOOLONG).
    case nameTooLong
    /// rmdir or rename over a directory with entries (ENOTEMPTY).
    case notEmpty
    /// The file that the reference names is gone (ESTALE).
    case stale
    /// The guard of a SETATTR didn't match the change time (RFC 1813 §3.3.2).
    case notSynchronized
    /// The store does not do this.
    case notSupported
    /// Too many links (EMLINK).
    case tooManyLinks
    /// The store cannot take it now; try again (NFS3ERR_JUKEBOX). Linux waits for 5 s.
    case busy
}
