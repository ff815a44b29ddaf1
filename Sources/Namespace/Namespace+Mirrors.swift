// Making, examining and opening mirrors. These calls block: not for an event loop.

internal import Glibc
public import Logging
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
            number: LogNumber(rawValue: 1),
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

    /// Opens the namespace. The caller has seen to it that the mirrors are of the current mirror set and that
    /// `inspect` has verified at least the one that is farthest; mirrors behind it are copied anew. They are
    /// level, and `epoch` is durable on them, when this returns.
    ///
    /// - Parameters:
    ///   - epoch: at least that of every mirror.
    ///   - isForReading: nothing is recorded, not even the epoch. Bodies must not change anything.
    ///   - cacheLimit: how many inodes, and how many entries, are cached. An inode takes about 300 bytes.
    ///   - onMirrorFailure: is told of mirrors that have been given up, on the namespace thread, before
    ///     anybody is answered who relies on the ones that remain: the place to write down, durably, which
    ///     those are. It may block. Returns whether they are enough to go on.
    ///   - onFailure: is told once, on the namespace thread and before anybody is answered, that the namespace has failed
    ///     for good. Must not block.
    public static func open(
        _ mirrors: [MirrorLocation], fileSystem: FileSystem, storeID: StoreID, epoch: Epoch,
        isForReading: Bool = false, cacheLimit: Int = 65_536, logger: Logger,
        onMirrorFailure: @escaping @Sendable (_ failed: [VolumeID], _ remaining: [VolumeID]) -> Bool,
        onFailure: @escaping @Sendable (NamespaceError) -> Void = { _ in }
    ) throws(NamespaceError) -> Namespace {
        // SQLite's locks are off: a database that is opened twice would be destroyed.
        guard Set(mirrors.map(\.volume)).count == mirrors.count, Set(mirrors.map(\.path)).count == mirrors.count else {
            throw .inputOutput("a mirror is named twice")
        }
        var failures: [(volume: VolumeID, reason: String)] = []
        var opened: [(mirror: Mirror, position: MirrorPosition)] = []
        func closeAll() { for (mirror, _) in opened { mirror.close() } }
        for location in mirrors {
            do throws(MirrorError) {
                let mirror = try Mirror(location, fileSystem)
                do throws(MirrorError) {
                    opened.append((mirror, try mirror.position()))
                } catch {
                    mirror.giveUp()
                    throw error
                }
            } catch {
                failures.append((location.volume, "\(location.path): \(error)"))
            }
        }
        guard let best = opened.max(by: { $0.position < $1.position }) else {
            throw .inputOutput(failures.map(\.reason).joined(separator: "; "))
        }
        if let other = opened.first(where: { $0.position.storeID != storeID }) {
            closeAll()
            throw .wrongStore(other.mirror.location.path)
        }
        guard best.position.epoch <= epoch else {
            closeAll()
            throw .staleEpoch("\(best.mirror.location.path) has epoch \(best.position.epoch), later than \(epoch)")
        }
        var level = [best.mirror]
        for (mirror, position) in opened where mirror !== best.mirror {
            guard position < best.position else {
                level.append(mirror)
                continue
            }
            let location = mirror.location
            logger.notice("a metadata mirror is behind and is copied anew", metadata: ["path": "\(location.path)"])
            mirror.giveUp()
            do throws(MirrorError) {
                try Mirror.build(at: location, fileSystem, copying: best.mirror.connection)
                level.append(try Mirror(location, fileSystem))
            } catch {
                failures.append((location.volume, "\(location.path): \(error)"))
            }
        }
        for failure in failures { logger.error("a metadata mirror cannot be used: \(failure.reason)") }
        let set = MirrorSet(
            level, lastNumber: best.position.logNumber, logger: logger, onMirrorFailure: onMirrorFailure,
            onFailure: onFailure)
        do throws(NamespaceError) {
            if !failures.isEmpty, !onMirrorFailure(failures.map(\.volume), set.volumes) {
                throw .failed(failures.map(\.reason).joined(separator: "; "))
            }
            let state = try MetadataState(set, cacheLimit: cacheLimit)
            if !isForReading {
                state.set(.epoch, epoch.rawValue)
                try state.reserveGroupIDs()
                try state.commit()
            }
            return Namespace(state, fileSystem, isForReading: isForReading)
        } catch {
            set.close()
            throw error
        }
    }
}
