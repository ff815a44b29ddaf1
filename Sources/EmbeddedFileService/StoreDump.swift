// Where an open store dumps pending bytes that memory has no room for: a directory on each of its volumes, or below the one
// that it was given. And what its operator is told of that.

internal import BlockStore
internal import Logging
internal import Model
internal import Platform
internal import WriteBack

extension StoreCore {
    /// Makes the dump, and removes what an earlier run left of one. nil if no volume has a place for it: then everything is
    /// drained. Throws if the directory that was given can't be used.
    func makeDump(in directory: String?, _ fileSystem: FileSystem) throws(StoreRefusal) -> DumpLog? {
        var places: [DumpLog.Place] = []
        for volume in volumes.present {
            let place = volume.directory + "/dump"
            do throws(IOError) {
                if directory == nil {
                    try DumpLog.prepare(place, fileSystem)
                    places.append(DumpLog.Place(place) { volume.isHealthy })
                } else {
                    try DumpLog.clean(place, fileSystem)
                }
            } catch {
                log.warning("a volume cannot be dumped to: \(error)", metadata: ["volume": "\(volume.directory)"])
            }
        }
        if let directory {
            // Others may have theirs beside it, and what else is there is nobody's business.
            let own = "\(directory)/sluice-\(storeID)"
            do throws(IOError) {
                try DumpLog.prepare(own, fileSystem)
            } catch {
                throw StoreRefusal(.notWritable, "the dump cannot be made: \(error)")
            }
            places = [DumpLog.Place(own)]
        }
        guard !places.isEmpty else {
            log.warning("there is no dump, so pending bytes are drained out of order instead")
            return nil
        }
        return DumpLog(places: places, fileSystem: fileSystem, clock: clock, bounds: bounds.dump) { [complaints] in
            complaints.warn($0)
        }
    }
}

extension EmbeddedFileService {
    /// Says so when the dump's disk hangs: nothing else does.
    func checkDump() {
        if let obstacle = dump?.obstacle, case .hangs = obstacle { core.complaints.warn(obstacle) }
    }

    func addDump(to status: inout StoreStatus) {
        guard let dump else {
            status.dump = StoreStatus.Dump(state: "no volume has a place for it", segments: 0, bytes: 0)
            return
        }
        let usage = dump.usage
        status.dump = StoreStatus.Dump(
            state: dump.obstacle.map { "\($0)" } ?? "ready", segments: usage.segments, bytes: usage.bytes)
        status.counters.dumpedBytes = usage.dumpedBytes
        status.counters.failedDumps = usage.failures
        status.counters.failedDumpReads = usage.failedReads
    }
}

extension StoreLog {
    fileprivate func warn(_ failure: DumpFailure) {
        let complaint: StoreComplaint =
            switch failure {
            case .inputOutput, .hangs, .full, .noRoom, .noPlace: .failedDump
            case .notRead: .unreadableDump
            case .notRemoved: .keptDumpFile
            }
        warning(complaint, of: .store, "\(failure)")
    }
}
