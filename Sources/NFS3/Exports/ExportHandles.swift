// Handles and fsid as the clients of one export see them.

internal import FileService
internal import Model

/// Makes and checks the handles of one export.
struct ExportHandles: Sendable {
    private let codec: FileHandleCodec
    let exportRoot: FileID

    init(_ codec: FileHandleCodec, exportRoot: FileID) {
        self.codec = codec
        self.exportRoot = exportRoot
    }

    var isOfWholeStore: Bool { exportRoot == .root }

    /// fattr3's fsid (RFC 1813 §2.6): of the whole store its id; each other export is a file system of its own, so that
    /// clients don't take the file ids and limits of one for the other's.
    var fileSystemID: UInt64 {
        // Odd, so different roots give different numbers.
        exportRoot == .root ? codec.storeTag : codec.storeTag ^ (exportRoot.rawValue &* 0x9e37_79b9_7f4a_7c15)
    }

    /// Whether ".." of a directory is the directory itself, as above the root of an export. The store's own root is its
    /// own parent already.
    func hidesParent(of directory: FileReference) -> Bool { directory.id == exportRoot && exportRoot != .root }

    func handle(of file: FileReference) -> FileHandle { codec.handle(of: file, exportRoot: exportRoot) }

    /// The file that a handle names; `stale` for one of another export.
    func reference(of handle: FileHandle) throws(NFSStatus) -> FileReference {
        let (file, exportRoot) = try codec.decode(handle)
        guard exportRoot == self.exportRoot else { throw .stale }
        return file
    }
}
