// Making, examining and copying mirrors. These calls block: not for an event loop.

internal import Glibc
public import Model
public import Platform

extension Namespace {
    /// Makes a new namespace with one directory, `root`, on all mirrors. Refuses if one of them is there. A
    /// crash in between leaves some of them, and none by half.
    ///
    /// - Precondition: `root` is a directory with `FileID.root`.
    public static func format(
        _ mirrors: [MirrorLocation], fileSystem: FileSystem, storeID: StoreID, epoch: Epoch, root: Inode
    ) throws(NamespaceError) {
        precondition(root.id == .root && root.type == .directory)
        for location in mirrors {
            do throws(IOError) {
                guard try fileSystem.status(location.path) == nil else {
                    throw IOError(code: EEXIST, operation: "format", path: location.path)
                }
            } catch {
                throw error.isAlreadyThere ? .alreadyFormatted(location.path) : .inputOutput("\(error)")
            }
        }
        let first = MetadataRecord(
            number: .ofFormat,
            mutations: [
                .putState(.formatVersion, Mirror.formatVersion),
                .putState(.storeIDHigh, storeID.rawValue.high),
                .putState(.storeIDLow, storeID.rawValue.low),
                .putState(.epoch, epoch.rawValue),
                .putState(.fileIDsReserved, FileID.root.rawValue + 1),
                .putState(.groupOrdinalsReserved, 0),
                .putState(.directoryCount, 1),
                .putState(.usedBytes, root.usedBytes),
                .putInode(root),
            ])
        for location in mirrors {
            do throws(MirrorError) {
                try Mirror.build(at: location, fileSystem) { fileSystem throws(MirrorError) in
                    let mirror = try Mirror(location, fileSystem, isTemporary: true, create: true)
                    defer { mirror.close() }
                    try mirror.apply([first])
                    try mirror.commit(upTo: first.number)
                }
            } catch {
                throw .inputOutput("\(location.path): \(error)")
            }
        }
    }

    /// Reads a mirror whole and says how far it is and whether it can be believed. The mirror must not be
    /// open. What its write-ahead log holds is moved into the database by the way.
    public static func inspect(_ location: MirrorLocation, fileSystem: FileSystem) -> MirrorState {
        var position: MirrorPosition?
        do throws(MirrorError) {
            do throws(IOError) {
                guard try fileSystem.status(location.path) != nil else { return .missing }
            } catch {
                return .damaged("\(error)", nil)
            }
            let mirror = try Mirror(location, fileSystem)
            do throws(MirrorError) {
                let found = try mirror.position()
                position = found
                try mirror.verify()
                mirror.close()
                return .verified(found)
            } catch {
                mirror.giveUp()
                throw error
            }
        } catch {
            return .damaged("\(error)", position)
        }
    }

    /// Copies a mirror over another, which is missing, stale or damaged; neither may be open. The copy is read
    /// whole before it gets its name, so a damaged one is never copied. What is there under the real name is
    /// removed only then.
    public static func copy(
        from source: MirrorLocation, to target: MirrorLocation, fileSystem: FileSystem
    ) throws(NamespaceError) {
        do throws(MirrorError) {
            let mirror = try Mirror(source, fileSystem)
            defer { mirror.close() }
            try Mirror.build(at: target, fileSystem, copying: mirror.connection)
        } catch {
            throw .inputOutput("copying \(source.path) to \(target.path): \(error)")
        }
    }
}
