// An inode in use: its live attributes and, of a regular file, its write state and its extents.
//
// There is at most one node of a file at any time (FileNodeTable), so what it says is what is true.
// All changes but those by WRITE are made on the namespace thread, in the order of the records.
//
// Lock order: `extents`, then the context's own lock.

internal import Journal
internal import LockFree
internal import Model
internal import Namespace
internal import Synchronization
internal import WriteBack

/// The one object of an inode that is in use.
final class FileNode: Sendable {
    let id: FileID
    let generation: FileGeneration
    let type: FileType
    /// Of a regular file.
    let context: OpenFileContext?
    /// Of a regular file, loaded with the node.
    let extents: Mutex<ExtentMap>

    /// Of everything but regular files, whose context has theirs.
    private let ownAttributes: Mutex<FileAttributes>

    /// - Parameters:
    ///   - journaled: what a start has found in the journal of the file; see RecoveredPayloads.
    ///   - writes: what the maps of all files' pending writes share.
    init(_ inode: Inode, extents: ExtentMap = ExtentMap(), journaled: [JournaledBytes] = [], writes: EpochDomain) {
        id = inode.id
        generation = inode.generation
        type = inode.type
        context =
            inode.type == .regular
            ? OpenFileContext(
                attributes: inode.attributes, sequence: inode.writeSequence, epochs: writes, journaled: journaled) : nil
        self.extents = Mutex(extents)
        ownAttributes = Mutex(inode.attributes)
    }

    /// As readers see them.
    var attributes: FileAttributes {
        if let context { return context.attributes }
        return ownAttributes.withLock { $0 }
    }

    /// Used bytes that are pending only.
    var unrecordedBytes: UInt64 {
        guard let context else { return 0 }
        let stored = extents.withLock { $0.extents.reduce(0) { $0 + $1.range.count } }
        let used = context.attributes.usedBytes
        return used - min(used, stored)
    }

    /// Takes over what was recorded. For a regular file everything but size and used bytes, which run ahead
    /// of the record while writes are pending.
    func update(from inode: Inode) {
        guard let context else {
            ownAttributes.withLock { $0 = inode.attributes }
            return
        }
        context.updateAttributes { attributes in
            let size = attributes.size
            attributes = inode.attributes
            attributes.size = size
        }
    }

    /// Whether the node can be forgotten without losing anything.
    var isClean: Bool { context?.isClean ?? true }
}
