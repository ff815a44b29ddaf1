// How an NFS procedure ended (RFC 1813 §2.6, nfsstat3), and the one place where the outcomes of the file
// service become protocol statuses.

public import FileService

/// The status of a reply: `ok`, or why the procedure failed.
public enum NFSStatus: UInt32, Error, Hashable, Sendable, CaseIterable {
    case ok = 0
    case notOwner = 1
    case noEntry = 2
    case inputOutput = 5
    case noSuchDevice = 6
    case accessDenied = 13
    case exists = 17
    case crossDevice = 18
    case noDevice = 19
    case notDirectory = 20
    case isDirectory = 21
    case invalidArgument = 22
    case fileTooBig = 27
    case noSpace = 28
    case readOnly = 30
    case tooManyLinks = 31
    case nameTooLong = 63
    case notEmpty = 66
    case quotaExceeded = 69
    case stale = 70
    case remote = 71
    case badHandle = 10001
    case notSynchronized = 10002
    case badCookie = 10003
    case notSupported = 10004
    case tooSmall = 10005
    case serverFault = 10006
    case badType = 10007
    /// Try again later.
    case jukebox = 10008

    /// Exhaustive on purpose: a new outcome of the file service must be given a status here.
    public init(_ error: FileError) {
        self =
            switch error {
            case .notOwner: .notOwner
            case .notFound: .noEntry
            case .inputOutput: .inputOutput
            case .accessDenied: .accessDenied
            case .alreadyExists: .exists
            case .notDirectory: .notDirectory
            case .isDirectory: .isDirectory
            case .invalidArgument: .invalidArgument
            case .fileTooBig: .fileTooBig
            case .noSpace: .noSpace
            case .readOnly: .readOnly
            case .nameTooLong: .nameTooLong
            case .notEmpty: .notEmpty
            case .stale: .stale
            case .notSynchronized: .notSynchronized
            case .notSupported: .notSupported
            case .tooManyLinks: .tooManyLinks
            case .busy: .jukebox
            }
    }

    /// The name in RFC 1813.
    public var name: String {
        switch self {
        case .ok: "NFS3_OK"
        case .notOwner: "NFS3ERR_PERM"
        case .noEntry: "NFS3ERR_NOENT"
        case .inputOutput: "NFS3ERR_IO"
        case .noSuchDevice: "NFS3ERR_NXIO"
        case .accessDenied: "NFS3ERR_ACCES"
        case .exists: "NFS3ERR_EXIST"
        case .crossDevice: "NFS3ERR_XDEV"
        case .noDevice: "NFS3ERR_NODEV"
        case .notDirectory: "NFS3ERR_NOTDIR"
        case .isDirectory: "NFS3ERR_ISDIR"
        case .invalidArgument: "NFS3ERR_INVAL"
        case .fileTooBig: "NFS3ERR_FBIG"
        case .noSpace: "NFS3ERR_NOSPC"
        case .readOnly: "NFS3ERR_ROFS"
        case .tooManyLinks: "NFS3ERR_MLINK"
        case .nameTooLong: "NFS3ERR_NAMETOOLONG"
        case .notEmpty: "NFS3ERR_NOTEMPTY"
        case .quotaExceeded: "NFS3ERR_DQUOT"
        case .stale: "NFS3ERR_STALE"
        case .remote: "NFS3ERR_REMOTE"
        case .badHandle: "NFS3ERR_BADHANDLE"
        case .notSynchronized: "NFS3ERR_NOT_SYNC"
        case .badCookie: "NFS3ERR_BAD_COOKIE"
        case .notSupported: "NFS3ERR_NOTSUPP"
        case .tooSmall: "NFS3ERR_TOOSMALL"
        case .serverFault: "NFS3ERR_SERVERFAULT"
        case .badType: "NFS3ERR_BADTYPE"
        case .jukebox: "NFS3ERR_JUKEBOX"
        }
    }
}
