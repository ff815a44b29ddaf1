// What the volumes say before any of them is believed: which store, which epoch, who is missing, whose
// metadata count. Reads only.

internal import BlockStore
internal import Glibc
internal import Model
internal import Namespace
internal import Platform

/// The volumes of a store as a start finds them.
struct StoreInspection {
    /// Volumes of the store that are there, by path.
    let present: [(path: String, superblock: Superblock)]
    /// Of the highest epoch that can be gone on from.
    let superblock: Superblock
    /// Volumes that the store counts on and that are not there, each with why.
    let missing: [String]
    /// Mirrors that count and are whole, the one that is farthest first.
    let mirrors: [(location: MirrorLocation, position: MirrorPosition)]
    /// Why a mirror of the epoch is not among `mirrors`.
    let brokenMirrors: [String]
    /// Keep other processes away from the volumes, under whatever data directory they run.
    let locks: [File]

    /// Refuses volumes that can't make up the store.
    init(paths: [String], fileSystem: FileSystem) throws(StoreRefusal) {
        var found: [(path: String, superblock: Superblock)] = []
        var unusable: [String: SuperblockError] = [:]
        var locks: [File] = []
        for path in paths {
            var isInUse = false
            do throws(SuperblockError) {
                // Read once before the lock, so that no lock file is left in a directory that is no volume.
                _ = try Superblock.read(volumeDirectory: path, fileSystem: fileSystem)
                let lock = try Self.lock(path, fileSystem)
                isInUse = lock == nil
                if let lock {
                    locks.append(lock)
                    found.append((path, try Superblock.read(volumeDirectory: path, fileSystem: fileSystem)))
                }
            } catch {
                if case .otherFormatVersion = error { throw StoreRefusal(.otherVersion, "\(error)") }
                unusable[path] = error
            }
            if isInUse { throw StoreRefusal(.inUse, "another process uses \(path)") }
        }
        self.locks = locks
        guard let highest = found.max(by: { $0.superblock.epoch < $1.superblock.epoch })?.superblock else {
            let reasons = paths.compactMap { unusable[$0].map { "\($0)" } }
            throw StoreRefusal(.notFormatted, "no volume of a store was found: \(reasons.joined(separator: "; "))")
        }
        for (path, superblock) in found where superblock.storeID != highest.storeID {
            throw StoreRefusal(
                .foreign,
                "\(path) is a volume of another store (\(superblock.storeID), the others are of \(highest.storeID))")
        }
        for (path, superblock) in found {
            guard highest.registeredVolumes.contains(where: { $0.id == superblock.volumeID }) else {
                throw StoreRefusal(.foreign, "\(path) is not, or no longer, a volume of store \(highest.storeID)")
            }
            if let twin = found.first(where: { $0.path != path && $0.superblock.volumeID == superblock.volumeID }) {
                throw StoreRefusal(.foreign, "\(path) and \(twin.path) are copies of one volume")
            }
        }
        present = found
        missing = highest.registeredVolumes
            .filter { volume in !found.contains { $0.superblock.volumeID == volume.id } }
            .map { volume in
                let why = unusable[volume.lastKnownPath].map { ": \($0)" } ?? ""
                return "volume \(volume.index) (\(volume.id), last at \(volume.lastKnownPath)\(why))"
            }
        let needed = highest.registeredVolumes.count - highest.defaultPolicy.parityUnits
        guard found.count >= needed else {
            throw StoreRefusal(
                .incomplete,
                "only \(found.count) of \(highest.registeredVolumes.count) volumes are there, \(needed) are needed; "
                    + "missing: \(missing.joined(separator: ", "))")
        }

        // The metadata are read only now that nobody else can write them.
        (superblock, mirrors, brokenMirrors) = try Self.believed(found, missing, fileSystem)
    }

    private typealias Mirrors = [(location: MirrorLocation, position: MirrorPosition)]

    /// Who is believed: an epoch's superblock, its mirrors, and why others are none.
    private static func believed(
        _ found: [(path: String, superblock: Superblock)], _ missing: [String], _ fileSystem: FileSystem
    ) throws(StoreRefusal) -> (Superblock, Mirrors, [String]) {
        var problems: [String] = []
        for candidate in candidates(found.map(\.superblock)) {
            let (usable, broken) = mirrors(of: candidate, found, fileSystem)
            if !usable.isEmpty { return (candidate, usable.sorted { $0.position > $1.position }, problems + broken) }
            let holders = candidate.registeredVolumes.filter { candidate.mirrorSet.contains($0.id) }
                .map { "\($0.lastKnownPath)" }
            problems.append(
                "no usable metadata of epoch \(candidate.epoch) are there; they were on "
                    + (holders.joined(separator: ", ") + (broken.isEmpty ? "" : "; "))
                    + broken.joined(separator: "; "))
        }
        throw StoreRefusal(
            .stale,
            problems.joined(separator: "; ") + (missing.isEmpty ? "" : "; missing: \(missing.joined(separator: ", "))"))
    }

    /// The highest epoch, and those below it as long as all above can't have come about: fewer than N − m volumes have these,
    /// also with those that aren't there. Nothing was answered in such an epoch, so where its metadata can't be used the ones
    /// of the epoch before it are as good.
    private static func candidates(_ superblocks: [Superblock]) -> [Superblock] {
        var candidates: [Superblock] = []
        for superblock in superblocks.sorted(by: { $0.epoch > $1.epoch })
        where candidates.last?.epoch != superblock.epoch {
            candidates.append(superblock)
            let volumes = superblock.registeredVolumes.count
            let mayHaveIt = volumes - superblocks.count { $0.epoch < superblock.epoch }
            if mayHaveIt >= volumes - superblock.defaultPolicy.parityUnits { break }
        }
        return candidates
    }

    /// The mirrors that count in an epoch: those that are whole, and why the others aren't among them.
    private static func mirrors(
        of superblock: Superblock, _ found: [(path: String, superblock: Superblock)], _ fileSystem: FileSystem
    ) -> (usable: Mirrors, broken: [String]) {
        var usable: Mirrors = []
        var broken: [String] = []
        for id in superblock.mirrorSet {
            guard let (path, own) = found.first(where: { $0.superblock.volumeID == id }) else { continue }
            guard own.epoch >= superblock.epoch else {
                broken.append("\(path) is stale (epoch \(own.epoch), the store is at \(superblock.epoch))")
                continue
            }
            let location = MirrorLocation(volume: id, directory: Volume.metadataDirectory(of: path))
            switch Namespace.inspect(location, fileSystem: fileSystem) {
            case .verified(let position) where position.storeID == superblock.storeID:
                usable.append((location, position))
            case .verified: broken.append("\(path) has the metadata of another store")
            case .missing: broken.append("\(path) has no metadata")
            case .damaged(let reason, _): broken.append("\(path) has damaged metadata: \(reason)")
            }
        }
        return (usable, broken)
    }

    /// Locks a volume; nil when another process has it.
    private static func lock(_ path: String, _ fileSystem: FileSystem) throws(SuperblockError) -> File? {
        do throws(IOError) {
            return try fileSystem.lock("\(path)/lock")
        } catch {
            if error.code == EWOULDBLOCK { return nil }
            throw .inputOutput(error)
        }
    }
}
