// Symbolic links, further names of files, and files that only stand for something: fifos, sockets, devices.

public import FileService
public import Model
internal import Namespace
internal import Platform
internal import WriteBack

extension EmbeddedFileService {
    public func makeSymbolicLink(
        _ name: FileName, in directory: FileReference, to target: LinkTarget, attributes: AttributeUpdate,
        as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        try await make(.symbolicLink, name, in: directory, attributes, as: caller) { inode in
            inode.linkTarget = target
            // POSIX: the length of the target, which clients use to size their buffers.
            inode.size = UInt64(target.bytes.count)
        }
    }

    public func readLink(
        _ file: FileReference, as caller: Credentials
    ) async throws(FileError) -> (target: LinkTarget, attributes: FileAttributes) {
        // No permission is asked for, as with readlink(2): whoever got here may see where the name leads.
        try await core.look { [core] transaction throws(FileError) in
            let inode = try transaction.existing(file)
            guard inode.type == .symbolicLink else { throw .invalidArgument }
            guard let target = inode.linkTarget else { throw .inputOutput }
            return (target, core.entry(of: inode).attributes)
        }
    }

    public func makeSpecialFile(
        _ name: FileName, in directory: FileReference, _ kind: SpecialFile, attributes: AttributeUpdate,
        as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        switch kind {
        case .fifo:
            return try await make(.fifo, name, in: directory, attributes, as: caller)
        case .socket:
            return try await make(.socket, name, in: directory, attributes, as: caller)
        case .blockDevice(let number):
            return try await makeDevice(.blockDevice, number, name, in: directory, attributes, as: caller)
        case .characterDevice(let number):
            return try await makeDevice(.characterDevice, number, name, in: directory, attributes, as: caller)
        }
    }

    /// A device file is a way to a device of the *client*, past the permissions of its own files. So a store takes
    /// none unless told to, and then only from the superuser, as mknod(2) does.
    private func makeDevice(
        _ type: FileType, _ number: DeviceNumber, _ name: FileName, in directory: FileReference,
        _ attributes: AttributeUpdate, as caller: Credentials
    ) async throws(FileError) -> CreatedEntry {
        guard allowsDevices, caller.isSuperuser else { throw .notOwner }
        return try await make(type, name, in: directory, attributes, as: caller) { $0.device = number }
    }

    /// Makes anything that has neither bytes nor entries.
    private func make(
        _ type: FileType, _ name: FileName, in directory: FileReference, _ attributes: AttributeUpdate,
        as caller: Credentials, _ complete: @escaping @Sendable (inout Inode) -> Void = { _ in }
    ) async throws(FileError) -> CreatedEntry {
        let now = core.clock.now()
        return try await core.transact { [core] transaction throws(FileError) in
            let parent = try transaction.directoryForNewName(name, directory, caller)
            var inode = try core.newInode(type, attributes, in: parent, as: caller, now: now, &transaction)
            complete(&inode)
            return try core.link(inode, as: name, into: parent, by: caller, now: now, &transaction)
        }
    }

    public func link(
        _ file: FileReference, as name: FileName, in directory: FileReference, by caller: Credentials
    ) async throws(FileError) -> LinkResult {
        let now = core.clock.now()
        return try await core.transact { [core] transaction throws(FileError) in
            var inode = try transaction.existing(file)
            // RFC 1813 §3.3.15 has no other status for it. Two names of a directory would make a loop.
            guard inode.type != .directory else { throw .invalidArgument }
            var parent = try transaction.directoryForNewName(name, directory, caller)
            let before = parent.attributes
            try parent.checkChange(by: caller)
            guard inode.linkCount < Limits.maxLinks else { throw .tooManyLinks }
            try core.putEntry(name, of: inode.id, into: &parent, now: now, &transaction)
            try core.record(parent, &transaction)
            try core.change(&inode, &transaction) { attributes in
                attributes.linkCount += 1
                attributes.touchChangeTime(now)
            }
            return LinkResult(
                attributes: core.entry(of: inode).attributes,
                directory: AttributeChange(before: before, after: parent.attributes))
        }
    }
}

extension Transaction {
    /// The directory for a name that must not be there yet; "." and ".." always are.
    mutating func directoryForNewName(
        _ name: FileName, _ directory: FileReference, _ caller: Credentials
    ) throws(FileError) -> Inode {
        let parent = try self.directory(directory)
        guard parent.attributes.allowsExecute(by: caller) else { throw .accessDenied }
        guard !name.isDot, !name.isDotDot, try childIfAny(name, of: parent) == nil else { throw .alreadyExists }
        return parent
    }
}
