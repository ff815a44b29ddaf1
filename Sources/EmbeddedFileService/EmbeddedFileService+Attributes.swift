// SETATTR.

public import FileService
public import Model
internal import Namespace
internal import Platform
internal import WriteBack

extension EmbeddedFileService {
    public func setAttributes(
        of file: FileReference, to update: AttributeUpdate, guardTime: Timestamp?, as caller: Credentials
    ) async throws(FileError) -> AttributeChange {
        let now = core.clock.now()
        let (change, effects) = try await core.transact {
            [core] transaction throws(FileError) -> (AttributeChange, StoreCore.Effects) in
            var inode = try transaction.existing(file)
            let node = try core.loadNode(inode, &transaction)
            // RFC 1813 §3.3.2: the guard is compared before anything else is looked at; and, since WRITEs come at any
            // moment, once more where the change is made.
            let seen = node.attributes
            try seen.checkGuard(guardTime)
            try update.check(on: seen, by: caller)
            // The SETATTR that follows an exclusive CREATE (RFC 1813 §3.3.8) says that its answer has arrived. From
            // here on the same verifier is somebody else's: Linux makes it of a clock and a process id.
            inode.exclusiveVerifier = nil
            let apply = update.change(by: caller, now: now)
            guard let size = update.size else {
                let change = try core.change(&inode, &transaction) { attributes throws(FileError) in
                    try attributes.checkGuard(guardTime)
                    apply(&attributes)
                }
                return (change, .none)
            }
            return try core.truncate(
                node, &inode, to: size, ifChangedAt: guardTime,
                clearing: seen.modeBitsClearedByWriting(by: caller), now: now, &transaction, alsoChanging: apply)
        }
        core.carryOut(effects, writeBack)
        return change
    }
}

extension AttributeUpdate {
    /// Whether `caller` may make this change.
    fileprivate func check(on attributes: FileAttributes, by caller: Credentials) throws(FileError) {
        let isOwner = attributes.isOwned(by: caller)
        if mode != nil, !isOwner { throw .notOwner }
        if let uid, uid != attributes.uid || !isOwner, !caller.isSuperuser { throw .notOwner }
        if let gid, !caller.isSuperuser {
            // chown_restricted: the owner may give the file to a group that he is in.
            guard isOwner, gid == attributes.gid || caller.isMember(of: gid) else { throw .notOwner }
        }
        for time in [accessTime, modificationTime] {
            switch time {
            case .unchanged: break
            case .to: if !isOwner { throw .notOwner }
            case .toServerTime: if !isOwner, !attributes.allowsWrite(by: caller) { throw .accessDenied }
            }
        }
        guard let size else { return }
        guard attributes.type != .directory else { throw .isDirectory }
        guard attributes.type == .regular else { throw .invalidArgument }
        guard attributes.allowsWritingData(by: caller) else { throw .accessDenied }
        guard size <= Limits.maxFileBytes else { throw .fileTooBig }
    }

    /// The change of everything but the size.
    fileprivate func change(
        by caller: Credentials, now: Timestamp
    ) -> (inout FileAttributes) -> Void {
        { attributes in
            if let mode { attributes.mode = mode & 0o7777 }
            if let uid { attributes.uid = uid }
            if let gid { attributes.gid = gid }
            // chown(2): a program must not run with the rights of somebody who never made it setuid, so also the
            // superuser has to say again that it should.
            if uid != nil || gid != nil, attributes.type != .directory, mode == nil || !caller.isSuperuser {
                attributes.mode &= ~attributes.privilegeBits
            }
            // setgid for a group that the caller is not in would lend him its rights.
            if mode != nil, !caller.isSuperuser, !caller.isMember(of: attributes.gid) { attributes.mode &= ~0o2000 }
            switch accessTime {
            case .unchanged: break
            case .toServerTime: attributes.accessTime = now
            case .to(let time): attributes.accessTime = time
            }
            switch modificationTime {
            case .unchanged: break
            case .toServerTime: attributes.modificationTime = now
            case .to(let time): attributes.modificationTime = time
            }
            attributes.touchChangeTime(now)
        }
    }
}
