// Where an open store dumps pending bytes that memory has no room for: a directory on one of its volumes, or below the one
// that it was given.

internal import BlockStore
internal import Logging
internal import Model
internal import Platform
internal import WriteBack

extension StoreCore {
    /// Makes the dump, and removes what an earlier run left of one. nil if no volume has a place for it: then everything is
    /// drained. Throws if the directory that was given can't be used.
    func makeDump(in directory: String?, _ fileSystem: FileSystem) throws(StoreRefusal) -> DumpLog? {
        var places: [(volume: Volume, directory: String)] = []
        for volume in volumes.present {
            let place = volume.directory + "/dump"
            places.append((volume, place))
            do throws(IOError) {
                try DumpLog.clean(place, fileSystem)
            } catch {
                log.warning("an old dump cannot be removed: \(error)", metadata: ["volume": "\(volume.directory)"])
            }
        }
        if let directory {
            do throws(IOError) {
                // Others may have theirs beside it, and what else is there is nobody's business.
                return try dump(in: "\(directory)/sluice-\(storeID)", fileSystem)
            } catch {
                throw StoreRefusal(.notWritable, "the dump cannot be made: \(error)")
            }
        }
        // It promises nothing, so any one volume will do: that with the most room.
        let roomiest = places.filter { $0.volume.isHealthy }
            .max { room($0.volume, fileSystem) < room($1.volume, fileSystem) }
        guard let roomiest else { return nil }
        do throws(IOError) {
            return try dump(in: roomiest.directory, fileSystem) { [volume = roomiest.volume] in volume.isHealthy }
        } catch {
            log.warning("there is no dump, so pending bytes are drained out of order instead: \(error)")
            return nil
        }
    }

    private func dump(
        in directory: String, _ fileSystem: FileSystem, isUsable: @escaping @Sendable () -> Bool = { true }
    ) throws(IOError) -> DumpLog {
        try DumpLog(
            directory: directory, fileSystem: fileSystem, clock: clock, bounds: bounds.dump, isUsable: isUsable
        ) { [complaints] error in
            complaints.warning(.failedDump, of: .store, "\(error)")
        }
    }

    private func room(_ volume: Volume, _ fileSystem: FileSystem) -> UInt64 {
        do throws(IOError) { return try fileSystem.space(volume.directory).availableBytes } catch { return 0 }
    }
}
