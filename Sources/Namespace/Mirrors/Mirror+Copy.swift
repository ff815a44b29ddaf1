// Making mirrors. A mirror is built under a temporary name, read back, synced, and only then renamed, so
// that what has the real name is always whole.

internal import Model
internal import Platform

extension Mirror {
    /// Makes the mirror at `location` with `fill`, in place of whatever is there.
    static func build(
        at location: MirrorLocation, _ fileSystem: FileSystem,
        _ fill: (_ fileSystem: FileSystem) throws(MirrorError) -> Void
    ) throws(MirrorError) {
        try tidy(location.temporaryPath, fileSystem)
        try fill(fileSystem)
        let mirror = try Mirror(location, fileSystem, isTemporary: true)
        do throws(MirrorError) {
            try mirror.verify()
            _ = try mirror.position()
            try mirror.checkpoint()
        } catch {
            mirror.giveUp()
            throw error
        }
        mirror.close()
        do throws(IOError) {
            let file = try fileSystem.open(location.temporaryPath, .readWrite)
            defer { file.close() }
            try file.sync()
        } catch {
            throw .sqlite(code: 0, message: "a new mirror cannot be made durable", cause: error)
        }
        // The old database goes before its log: a log that is left alone would be taken for the new one's.
        try tidy(location.path, fileSystem)
        do throws(IOError) {
            try fileSystem.rename(location.temporaryPath, to: location.path)
            try fileSystem.syncDirectory(location.directory)
        } catch {
            throw .sqlite(code: 0, message: "a new mirror cannot be given its name", cause: error)
        }
    }

    /// Makes the mirror at `location` with the committed content of `source`.
    static func build(
        at location: MirrorLocation, _ fileSystem: FileSystem, copying source: SQLiteConnection
    ) throws(MirrorError) {
        try build(at: location, fileSystem) { fileSystem throws(MirrorError) in
            let target = try SQLiteConnection(location.temporaryPath, fileSystem, create: true)
            defer { target.close() }
            // Nobody relies on it before it is synced as a whole.
            try target.execute("PRAGMA journal_mode=OFF")
            try target.execute("PRAGMA synchronous=OFF")
            try target.copy(from: source)
        }
    }

    /// Removes a database, then what SQLite keeps beside it, each durably.
    private static func tidy(_ path: String, _ fileSystem: FileSystem) throws(MirrorError) {
        do throws(IOError) {
            for name in [path, path + "-wal", path + "-journal"] where try fileSystem.status(name) != nil {
                try fileSystem.remove(name)
                try fileSystem.syncDirectory(VirtualFileSystem.parent(of: path))
            }
        } catch {
            throw .sqlite(code: 0, message: "an old mirror cannot be removed", cause: error)
        }
    }
}
