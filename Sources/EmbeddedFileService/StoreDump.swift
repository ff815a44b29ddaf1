// Where an open store dumps pending bytes that memory has no room for: a directory on one of its volumes, or the one that it
// was given.

internal import BlockStore
internal import Logging
internal import Model
internal import Platform
internal import WriteBack

extension StoreCore {
    /// Makes the dump, and removes what an earlier run left of one. nil if there is no place for it: then everything is
    /// drained.
    func makeDump(in directory: String?, _ fileSystem: FileSystem) -> DumpLog? {
        let places = volumes.present.map { ($0, $0.directory + "/dump") }
        for (volume, place) in places {
            do throws(IOError) {
                try DumpLog.clean(place, fileSystem)
            } catch {
                log.warning("an old dump cannot be removed: \(error)", metadata: ["volume": "\(volume.directory)"])
            }
        }
        // It promises nothing, so any one volume will do: that with the most room.
        let healthy = places.filter { $0.0.isHealthy }
        let roomiest = healthy.max { room($0.0, fileSystem) < room($1.0, fileSystem) }
        guard let chosen = directory ?? roomiest?.1 else { return nil }
        do throws(IOError) {
            return try DumpLog(directory: chosen, fileSystem: fileSystem) { [complaints] error in
                complaints.warning(.failedDump, of: .store, "\(error)")
            }
        } catch {
            log.warning("there is no dump, so pending bytes are drained out of order instead: \(error)")
            return nil
        }
    }

    private func room(_ volume: Volume, _ fileSystem: FileSystem) -> UInt64 {
        do throws(IOError) { return try fileSystem.space(volume.directory).availableBytes } catch { return 0 }
    }
}
