// What bodies on the namespace thread ask for, in the terms and the errors of files.

public import FileService
internal import Model
public import Namespace

extension FileError: NamespaceFailure {
    /// The namespace could not be read or written.
    public init(_ error: NamespaceError) { self = .inputOutput }
}

extension Transaction {
    /// The inode that a file handle names.
    mutating func existing(_ file: FileReference) throws(FileError) -> Inode {
        guard let inode = try inodeIfAny(file.id), inode.generation == file.generation else { throw .stale }
        return inode
    }

    /// The inode that a row names.
    mutating func existing(_ id: FileID) throws(FileError) -> Inode {
        do throws(NamespaceError) { return try existingInode(id) } catch { throw FileError(error) }
    }

    mutating func directory(_ file: FileReference) throws(FileError) -> Inode {
        let inode = try existing(file)
        guard inode.type == .directory else { throw .notDirectory }
        return inode
    }

    mutating func childIfAny(_ name: FileName, of directory: Inode) throws(FileError) -> Inode? {
        do throws(NamespaceError) {
            guard let entry = try entry(directory.id, name) else { return nil }
            return try existingInode(entry.child)
        } catch {
            throw FileError(error)
        }
    }

    mutating func child(_ name: FileName, of directory: Inode) throws(FileError) -> Inode {
        guard let inode = try childIfAny(name, of: directory) else { throw .notFound }
        return inode
    }

    mutating func inodeIfAny(_ id: FileID) throws(FileError) -> Inode? {
        do throws(NamespaceError) { return try inode(id) } catch { throw FileError(error) }
    }

    mutating func allExtents(of file: FileID) throws(FileError) -> [Extent] {
        do throws(NamespaceError) {
            return try allExtents(file)
        } catch {
            throw FileError(error)
        }
    }

    mutating func groupIfAny(_ id: BlockGroupID) throws(FileError) -> BlockGroup? {
        do throws(NamespaceError) { return try group(id) } catch { throw FileError(error) }
    }

    /// A group that an extent names, or a stream has published, with the bytes up to `end`.
    mutating func published(_ id: BlockGroupID, holding end: UInt64 = 0) throws(FileError) -> BlockGroup {
        do throws(NamespaceError) { return try existingGroup(id, holding: end) } catch { throw FileError(error) }
    }

    mutating func entries(
        of directory: FileID, after cookie: UInt64, limit: Int
    ) throws(FileError) -> [NamespaceEntry] {
        do throws(NamespaceError) {
            return try entries(directory, after: cookie, limit: limit)
        } catch {
            throw FileError(error)
        }
    }

    mutating func groupRows(after id: BlockGroupID?, limit: Int) throws(FileError) -> [BlockGroup] {
        do throws(NamespaceError) { return try groups(after: id, limit: limit) } catch { throw FileError(error) }
    }

    mutating func reservedGroupID() throws(FileError) -> BlockGroupID {
        do throws(NamespaceError) { return try newGroupID() } catch { throw FileError(error) }
    }

    mutating func put(_ mutation: Mutation) throws(FileError) {
        do throws(NamespaceError) { try mutate(mutation) } catch { throw FileError(error) }
    }
}
