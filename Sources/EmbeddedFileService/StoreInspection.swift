// What the volumes say before any of them is believed: which store, which epoch, who is missing, whose
// metadata count. Reads only.

internal import BlockStore
internal import Model
internal import Namespace
internal import Platform

/// The volumes of a store as a start finds them.
struct StoreInspection {
    /// Volumes of the store that are there, by path.
    let present: [(path: String, superblock: Superblock)]
    /// Of the highest epoch.
    let superblock: Superblock
    /// Volumes that the store counts on and that are not there, each with why.
    let missing: [String]
    /// Mirrors that count and are whole, the one that is farthest first.
    let mirrors: [(location: MirrorLocation, position: MirrorPosition)]
    /// Why a mirror of the epoch is not among `mirrors`.
    let brokenMirrors: [String]

    /// Refuses volumes that can't make up the store.
    init(paths: [String], fileSystem: FileSystem) throws(StoreRefusal) {
        var found: [(path: String, superblock: Superblock)] = []
        var unusable: [String: SuperblockError] = [:]
        for path in paths {
            do throws(SuperblockError) {
                found.append((path, try Superblock.read(volumeDirectory: path, fileSystem: fileSystem)))
            } catch {
                if case .otherFormatVersion = error { throw StoreRefusal(.otherVersion, "\(error)") }
                unusable[path] = error
            }
        }
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
        superblock = highest
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

        var usable: [(location: MirrorLocation, position: MirrorPosition)] = []
        var broken: [String] = []
        for id in highest.mirrorSet {
            guard let (path, superblock) = found.first(where: { $0.superblock.volumeID == id }) else { continue }
            guard superblock.epoch == highest.epoch else {
                broken.append("\(path) is stale (epoch \(superblock.epoch), the store is at \(highest.epoch))")
                continue
            }
            let location = MirrorLocation(volume: id, directory: Volume.metadataDirectory(of: path))
            switch Namespace.inspect(location, fileSystem: fileSystem) {
            case .verified(let position) where position.storeID == highest.storeID:
                usable.append((location, position))
            case .verified: broken.append("\(path) has the metadata of another store")
            case .missing: broken.append("\(path) has no metadata")
            case .damaged(let reason, _): broken.append("\(path) has damaged metadata: \(reason)")
            }
        }
        guard !usable.isEmpty else {
            let holders = highest.registeredVolumes.filter { highest.mirrorSet.contains($0.id) }
                .map { "\($0.lastKnownPath)" }
            throw StoreRefusal(
                .stale,
                "no usable metadata of epoch \(highest.epoch) are there; they were on \(holders.joined(separator: ", "))"
                    + (missing.isEmpty ? "" : "; missing: \(missing.joined(separator: ", "))")
                    + (broken.isEmpty ? "" : "; \(broken.joined(separator: "; "))"))
        }
        mirrors = usable.sorted { $0.position > $1.position }
        brokenMirrors = broken
    }
}
