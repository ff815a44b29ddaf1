// How MNT ended (RFC 1813 §5.1.5, mountstat3).

internal import FileService

/// The status of a MNT reply.
public enum MountStatus: UInt32, Error, Hashable, Sendable, CaseIterable {
    case ok = 0
    case notOwner = 1
    case noEntry = 2
    case inputOutput = 5
    case accessDenied = 13
    case notDirectory = 20
    case invalidArgument = 22
    case nameTooLong = 63
    case notSupported = 10004
    case serverFault = 10006

    /// MOUNT has fewer statuses than NFS; looking a path up should not end in one of the others.
    init(_ error: FileError) {
        self =
            switch error {
            case .notOwner: .notOwner
            case .notFound, .stale: .noEntry
            case .inputOutput: .inputOutput
            case .accessDenied: .accessDenied
            case .notDirectory: .notDirectory
            case .invalidArgument: .invalidArgument
            case .nameTooLong: .nameTooLong
            case .notSupported: .notSupported
            case .alreadyExists, .isDirectory, .fileTooBig, .noSpace, .readOnly, .notEmpty, .notSynchronized,
                .tooManyLinks, .busy:
                .serverFault
            }
    }
}
