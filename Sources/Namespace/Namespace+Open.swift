// Opening the namespace: mirrors, and on top of them what the log has that they lack. Blocks: not for an event loop.

public import Logging
public import Model
public import Platform

extension Namespace {
    /// Opens the namespace. The caller has seen to it that the mirrors are of the current mirror set, that `inspect` has
    /// verified them, and that the records reach back to the one that is farthest behind: they need not be level. The
    /// records are there for bodies when this returns, and applied to the mirrors in the background; `epoch` is durable
    /// in the log.
    ///
    /// - Parameters:
    ///   - records: what was recovered from the log, in order; those that all mirrors have may be among them.
    ///   - lastNumber: of the last of them; that before the next record if there is none.
    ///   - epoch: at least that of every mirror and record.
    ///   - log: where records go, the first one having the number after `lastNumber`; nil: for reading only. Nothing is
    ///     written then, to no mirror either. Bodies must not change anything.
    ///   - patience: for a batch of records on a mirror; one that takes longer has failed. `tick` must be called for that.
    ///   - cacheLimit: how many inodes, and how many entries, are cached. An inode takes about 300 bytes.
    ///   - onMirrorFailure: is told of mirrors that have been given up, on the applier's thread, before
    ///     the log hears that it need not keep what they lack: the place to write down, durably, which
    ///     ones remain. It may block. Returns whether they are enough to go on. Perhaps called before this returns, too.
    ///   - onFailure: is told once, on any thread and before anybody is answered because of it, that the namespace has
    ///     failed for good. Must not block.
    public static func open(
        _ mirrors: [MirrorLocation], records: [MetadataRecord], lastNumber: LogNumber, fileSystem: FileSystem,
        storeID: StoreID, epoch: Epoch, log: MetadataLog?, clock: SystemClock = SystemClock(),
        patience: Duration = .seconds(60), cacheLimit: Int = 65_536, logger: Logger,
        onMirrorFailure: @escaping @Sendable (_ failed: [VolumeID], _ remaining: [VolumeID]) -> Bool,
        onFailure: @escaping @Sendable (NamespaceError) -> Void = { _ in }
    ) throws(NamespaceError) -> Namespace {
        try open(
            mirrors, records: records, lastNumber: lastNumber, fileSystem: fileSystem, storeID: storeID, epoch: epoch,
            log: log, clock: clock, patience: patience, cacheLimit: cacheLimit, bounds: Backlog.Bounds(),
            logger: logger,
            onMirrorFailure: onMirrorFailure, onFailure: onFailure)
    }

    /// The same with other bounds, for tests.
    static func open(
        _ locations: [MirrorLocation], records: [MetadataRecord], lastNumber: LogNumber, fileSystem: FileSystem,
        storeID: StoreID, epoch: Epoch, log: MetadataLog?, clock: SystemClock = SystemClock(),
        patience: Duration = .seconds(60), cacheLimit: Int, bounds: Backlog.Bounds, logger: Logger,
        onMirrorFailure: @escaping @Sendable (_ failed: [VolumeID], _ remaining: [VolumeID]) -> Bool,
        onFailure: @escaping @Sendable (NamespaceError) -> Void
    ) throws(NamespaceError) -> Namespace {
        // SQLite's locks are off: a database that is opened twice would be destroyed.
        guard Set(locations.map(\.volume)).count == locations.count, Set(locations.map(\.path)).count == locations.count
        else { throw .inputOutput("a mirror is named twice") }
        let (mirrors, failures) = openMirrors(locations, fileSystem)
        func giveUpAll() { for mirror in mirrors { mirror.0.giveUp() } }
        guard !mirrors.isEmpty else { throw .inputOutput(failures.map(\.reason).joined(separator: "; ")) }
        let missing: [MetadataRecord]
        do throws(NamespaceError) {
            missing = try missingRecords(mirrors, records, lastNumber, storeID, epoch)
        } catch {
            giveUpAll()
            throw error
        }
        for failure in failures { logger.error("a metadata mirror cannot be used: \(failure.reason)") }
        if !failures.isEmpty, !onMirrorFailure(failures.map(\.volume), mirrors.map(\.0.location.volume)) {
            giveUpAll()
            throw .failed(failures.map(\.reason).joined(separator: "; "))
        }

        let cache = MetadataCache(limit: cacheLimit)
        let backlog = Backlog(missing, last: lastNumber, bounds: bounds)
        let failure = FailureLatch { error in
            cache.close()
            backlog.abandon()
            onFailure(error)
        }
        let applying = WorkThread(name: "applier")
        let set = MirrorSet(
            mirrors.map(\.0), applying: applying, failure: failure, clock: clock, patience: patience, logger: logger,
            onMirrorFailure: onMirrorFailure)
        let state: MetadataState
        do throws(NamespaceError) {
            state = try MetadataState(set, records: missing, lastNumber: lastNumber, cache: cache)
        } catch {
            applying.stop()
            set.close(properly: false)
            throw error
        }
        let namespace = Namespace(
            state, backlog: backlog, failure: failure, applying: applying, log: log, fileSystem: fileSystem)
        guard log != nil else { return namespace }
        do throws(NamespaceError) {
            try namespace.begin(epoch)
        } catch {
            namespace.abandon()
            throw error
        }
        if !missing.isEmpty { namespace.applier.schedule() }
        return namespace
    }

    private static func openMirrors(
        _ locations: [MirrorLocation], _ fileSystem: FileSystem
    ) -> (opened: [(Mirror, MirrorPosition)], failures: [(volume: VolumeID, reason: String)]) {
        var failures: [(volume: VolumeID, reason: String)] = []
        var opened: [(Mirror, MirrorPosition)] = []
        for location in locations {
            do throws(MirrorError) {
                let mirror = try Mirror(location, fileSystem)
                do throws(MirrorError) {
                    let position = try mirror.position()
                    mirror.applied = position.logNumber
                    opened.append((mirror, position))
                } catch {
                    mirror.giveUp()
                    throw error
                }
            } catch {
                failures.append((location.volume, "\(location.path): \(error)"))
            }
        }
        return (opened, failures)
    }

    /// The records that not all mirrors have. Throws when mirrors and log can't be those of one store at this epoch.
    private static func missingRecords(
        _ mirrors: [(Mirror, MirrorPosition)], _ records: [MetadataRecord], _ lastNumber: LogNumber,
        _ storeID: StoreID, _ epoch: Epoch
    ) throws(NamespaceError) -> [MetadataRecord] {
        var lowest = lastNumber
        for (mirror, position) in mirrors {
            let path = mirror.location.path
            guard position.storeID == storeID else { throw .wrongStore(path) }
            guard position.epoch <= epoch else {
                throw .staleEpoch("\(path) has epoch \(position.epoch), later than \(epoch)")
            }
            guard position.logNumber <= lastNumber else {
                throw .incompleteLog("\(path) is at record \(position.logNumber), the log ends at \(lastNumber)")
            }
            lowest = min(lowest, position.logNumber)
        }
        let missing = records.filter { $0.number > lowest }
        var expected = lowest
        for record in missing {
            expected = expected.next
            guard record.number == expected else { break }
            for case .putState(.epoch, let value) in record.mutations where value > epoch.rawValue {
                throw .staleEpoch("record \(record.number) begins epoch \(value), later than \(epoch)")
            }
        }
        guard expected == lastNumber, missing.count == Int(lastNumber.rawValue - lowest.rawValue) else {
            throw .incompleteLog("record \(expected.next) is missing, of \(lowest.next) … \(lastNumber)")
        }
        return missing
    }
}
