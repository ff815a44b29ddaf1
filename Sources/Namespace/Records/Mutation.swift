// The changes of metadata. Each states what is there afterwards, whatever was there before, so that
// records may be applied again: a log that is replayed from too early leads to the same state.

public import Model

/// One absolute change.
public enum Mutation: Hashable, Sendable {
    case putInode(Inode)
    case removeInode(FileID)
    /// The cookie must be unique in the directory: the inode's `nextCookie`, which goes up.
    case putEntry(directory: FileID, name: FileName, cookie: UInt64, child: FileID)
    case removeEntry(directory: FileID, name: FileName)
    /// Replaces the extent of the file that begins at the same offset.
    case putExtent(file: FileID, Extent)
    /// Removes the extent that begins at the offset.
    case removeExtent(file: FileID, offset: UInt64)
    /// Removes all extents that begin at the offset or behind it.
    case removeExtents(file: FileID, from: UInt64)
    case putGroup(BlockGroup)
    case removeGroup(BlockGroupID)
    case putState(StateKey, UInt64)
}

extension Mutation {
    /// The stored numbers of the cases. Never given to another meaning.
    private enum Tag: UInt8 {
        case putInode = 1
        case removeInode, putEntry, removeEntry, putExtent, removeExtent, putGroup, removeGroup, putState, removeExtents
    }

    func encode(to encoder: inout ByteEncoder) {
        func put(_ tag: Tag, _ key: UInt64) {
            encoder.put(tag.rawValue)
            encoder.put(key)
        }
        switch self {
        case .putInode(let inode):
            put(.putInode, inode.id.rawValue)
            inode.encodeBody(to: &encoder)
        case .removeInode(let id): put(.removeInode, id.rawValue)
        case .putEntry(let directory, let name, let cookie, let child):
            put(.putEntry, directory.rawValue)
            encoder.put(counted: name.bytes)
            encoder.put(cookie)
            encoder.put(child.rawValue)
        case .removeEntry(let directory, let name):
            put(.removeEntry, directory.rawValue)
            encoder.put(counted: name.bytes)
        case .putExtent(let file, let extent):
            put(.putExtent, file.rawValue)
            encoder.put(extent.range.lowerBound)
            extent.encodeBody(to: &encoder)
        case .removeExtent(let file, let offset):
            put(.removeExtent, file.rawValue)
            encoder.put(offset)
        case .removeExtents(let file, let offset):
            put(.removeExtents, file.rawValue)
            encoder.put(offset)
        case .putGroup(let group):
            put(.putGroup, UInt64(bitPattern: group.id.rawValue))
            group.encodeBody(to: &encoder)
        case .removeGroup(let id): put(.removeGroup, UInt64(bitPattern: id.rawValue))
        case .putState(let key, let value):
            put(.putState, UInt64(key.rawValue))
            encoder.put(value)
        }
    }

    init(from decoder: inout ByteDecoder) throws(CorruptMetadata) {
        guard let tag = Tag(rawValue: try decoder.integer()) else { throw .invalidValue }
        let key: UInt64 = try decoder.integer()
        let file = FileID(rawValue: key)
        let group = BlockGroupID(rawValue: Int64(bitPattern: key))
        switch tag {
        case .putInode: self = .putInode(try Inode(id: file, body: &decoder))
        case .removeInode: self = .removeInode(file)
        case .putEntry:
            let name = try FileName(from: &decoder)
            let cookie: UInt64 = try decoder.integer()
            self = .putEntry(
                directory: file, name: name, cookie: cookie, child: FileID(rawValue: try decoder.integer()))
        case .removeEntry: self = .removeEntry(directory: file, name: try FileName(from: &decoder))
        case .putExtent: self = .putExtent(file: file, try Extent(offset: try decoder.integer(), body: &decoder))
        case .removeExtent: self = .removeExtent(file: file, offset: try decoder.integer())
        case .removeExtents: self = .removeExtents(file: file, from: try decoder.integer())
        case .putGroup: self = .putGroup(try BlockGroup(id: group, body: &decoder))
        case .removeGroup: self = .removeGroup(group)
        case .putState:
            guard let number = UInt32(exactly: key) else { throw .invalidValue }
            self = .putState(StateKey(rawValue: number), try decoder.integer())
        }
    }
}

extension FileName {
    fileprivate init(from decoder: inout ByteDecoder) throws(CorruptMetadata) {
        let bytes = try decoder.counted(maxCount: Limits.maxNameBytes)
        guard let name = try? FileName(bytes) else { throw .invalidValue }
        self = name
    }
}
