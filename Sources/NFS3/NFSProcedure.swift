// The procedures of the two programs and their numbers.

/// The procedures of program 100003 version 3 (RFC 1813 §3).
public enum NFSProcedure: UInt32, Hashable, Sendable, CaseIterable {
    case null = 0
    case getattr = 1
    case setattr = 2
    case lookup = 3
    case access = 4
    case readlink = 5
    case read = 6
    case write = 7
    case create = 8
    case mkdir = 9
    case symlink = 10
    case mknod = 11
    case remove = 12
    case rmdir = 13
    case rename = 14
    case link = 15
    case readdir = 16
    case readdirplus = 17
    case fsstat = 18
    case fsinfo = 19
    case pathconf = 20
    case commit = 21

    /// Whether a success changes files, names or attributes. Such a call is refused where the export is read-only,
    /// and must not be carried out twice when a client sends it again (RFC 1813 §4.5). COMMIT changes none.
    var changesFiles: Bool {
        switch self {
        case .setattr, .write, .create, .mkdir, .symlink, .mknod, .remove, .rmdir, .rename, .link: true
        case .null, .getattr, .lookup, .access, .readlink, .read, .readdir, .readdirplus, .fsstat, .fsinfo, .pathconf,
            .commit:
            false
        }
    }
}

/// The procedures of program 100005 version 3 (RFC 1813 §5.2).
public enum MountProcedure: UInt32, Hashable, Sendable, CaseIterable {
    case null = 0
    case mnt = 1
    case dump = 2
    case umnt = 3
    case umntall = 4
    case export = 5
}
