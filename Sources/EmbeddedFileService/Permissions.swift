// Who may do what: the rules of POSIX over AUTH_SYS credentials, with the one exception that NFS needs.

internal import FileService
internal import Model

extension FileAttributes {
    /// The `rwx` bits of the class that `caller` falls into. The superuser has all; execute on a file only
    /// if anyone may execute it.
    private func permissionBits(of caller: Credentials) -> UInt32 {
        if caller.isSuperuser {
            return type == .directory || mode & 0o111 != 0 ? 0o7 : 0o6
        }
        if caller.uid == uid { return mode >> 6 & 0o7 }
        if caller.isMember(of: gid) { return mode >> 3 & 0o7 }
        return mode & 0o7
    }

    func allowsRead(by caller: Credentials) -> Bool { permissionBits(of: caller) & 0o4 != 0 }
    func allowsWrite(by caller: Credentials) -> Bool { permissionBits(of: caller) & 0o2 != 0 }
    func allowsExecute(by caller: Credentials) -> Bool { permissionBits(of: caller) & 0o1 != 0 }

    func isOwned(by caller: Credentials) -> Bool { caller.isSuperuser || caller.uid == uid }

    /// READ of a file's bytes. The owner always may: the client checked at open, and has its descriptor
    /// although the mode says otherwise by now (RFC 1813 §4.4). So may who can execute the file, since a
    /// client must read a program to run it.
    func allowsReadingData(by caller: Credentials) -> Bool {
        isOwned(by: caller) || allowsRead(by: caller) || allowsExecute(by: caller)
    }

    /// WRITE to a file's bytes; see `allowsReadingData`.
    func allowsWritingData(by caller: Credentials) -> Bool { isOwned(by: caller) || allowsWrite(by: caller) }

    /// Changing the entries of this directory.
    func allowsChangingEntries(by caller: Credentials) -> Bool {
        allowsWrite(by: caller) && allowsExecute(by: caller)
    }

    /// The subset of `rights` that the caller has (RFC 1813 §3.3.4). Rights that mean nothing for this type
    /// are not granted.
    func granted(_ rights: AccessRights, to caller: Credentials) -> AccessRights {
        var granted: AccessRights = []
        if allowsRead(by: caller) { granted.insert(.read) }
        if allowsWrite(by: caller) {
            granted.formUnion([.modify, .extend])
            if type == .directory, allowsExecute(by: caller) { granted.insert(.delete) }
        }
        if allowsExecute(by: caller) {
            if type == .directory { granted.insert(.lookup) }
            if type == .regular { granted.insert(.execute) }
        }
        return granted.intersection(rights)
    }

    /// The mode bits that a write by `caller` takes away.
    func modeBitsClearedByWriting(by caller: Credentials) -> UInt32 {
        caller.isSuperuser || type != .regular ? 0 : privilegeBits
    }

    /// setuid, and setgid where it means what it does for programs (with group execute).
    var privilegeBits: UInt32 { mode & 0o4000 | (mode & 0o010 != 0 ? mode & 0o2000 : 0) }

    /// Whether the sticky bit of this directory keeps `caller` from removing or renaming an entry of `owner`.
    func isProtectedBySticky(entryOwnedBy owner: UInt32, from caller: Credentials) -> Bool {
        mode & 0o1000 != 0 && !isOwned(by: caller) && caller.uid != owner
    }
}
