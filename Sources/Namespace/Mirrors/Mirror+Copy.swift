// Making mirrors. A mirror is built under a temporary name, read back, synced, and only then renamed, so
// that what has the real name is always whole.

internal import Model
internal import Platform

extension Mirror {
    /// Makes the mirror at `location` with `fill`, in place of whatever is there. After an error that is still there,
    /// and nothing else, unless the disk takes no changes any more.
    static func build(
        at location: MirrorLocation, _ fileSystem: FileSystem,
        _ fill: (_ fileSystem: FileSystem) throws(MirrorError) -> Void
    ) throws(MirrorError) {
        do throws(MirrorError) {
            try tidy(location.temporaryPath, fileSystem)
            try fill(fileSystem)
            try verify(location, fileSystem)
        } catch {
            // It would take room that the disk may lack. That it can't be removed either is no news.
            try? tidy(location.temporaryPath, fileSystem)
            throw error
        }
        do throws(IOError) {
            // The old database goes before its log: a log that is left alone would be taken for the new one's. Where
            // there is none, as when the old one was closed, the new one takes its place in one step.
            var hasLog = false
            for name in sidecars(of: location.path) where try fileSystem.status(name) != nil { hasLog = true }
            if hasLog { try remove(location.path, fileSystem) }
            try fileSystem.rename(location.temporaryPath, to: location.path)
            try fileSystem.syncDirectory(location.directory)
        } catch {
            try? tidy(location.temporaryPath, fileSystem)
            throw .sqlite(code: 0, message: "a new mirror cannot be given its name", cause: error)
        }
    }

    /// Reads what was built, and makes it durable as one file.
    private static func verify(_ location: MirrorLocation, _ fileSystem: FileSystem) throws(MirrorError) {
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
            // It was moved into the database by the checkpoint. One that is left, since closing failed, must not stay
            // behind when the database gets its name.
            for name in sidecars(of: location.temporaryPath) where try fileSystem.status(name) != nil {
                try fileSystem.remove(name)
            }
        } catch {
            throw .sqlite(code: 0, message: "a new mirror cannot be made durable", cause: error)
        }
    }

    /// Makes the mirror at `location` with the committed content of `source`.
    ///
    /// - Parameter pause: called now and then, when others may read from the source.
    static func build(
        at location: MirrorLocation, _ fileSystem: FileSystem, copying source: SQLiteConnection,
        pause: () throws(MirrorError) -> Void = { () throws(MirrorError) in }
    ) throws(MirrorError) {
        try build(at: location, fileSystem) { fileSystem throws(MirrorError) in
            let target = try SQLiteConnection(location.temporaryPath, fileSystem, create: true)
            defer { target.close() }
            // Nobody relies on it before it is synced as a whole.
            try target.execute("PRAGMA journal_mode=OFF")
            try target.execute("PRAGMA synchronous=OFF")
            try target.copy(from: source, pause: pause)
        }
    }

    /// Removes a database, then what SQLite keeps beside it, each durably.
    private static func tidy(_ path: String, _ fileSystem: FileSystem) throws(MirrorError) {
        do throws(IOError) {
            try remove(path, fileSystem)
        } catch {
            throw .sqlite(code: 0, message: "an old mirror cannot be removed", cause: error)
        }
    }

    private static func remove(_ path: String, _ fileSystem: FileSystem) throws(IOError) {
        for name in [path] + sidecars(of: path) where try fileSystem.status(name) != nil {
            try fileSystem.remove(name)
            try fileSystem.syncDirectory(VirtualFileSystem.parent(of: path))
        }
    }

    private static func sidecars(of path: String) -> [String] { [path + "-wal", path + "-journal"] }
}
