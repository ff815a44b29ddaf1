// Keeping m + 1 copies of the metadata while the store is served.
//
// A mirror whose volume has failed is given up before it fails itself, but only where a new epoch can be begun: otherwise
// the store, which may still be read, would end by it.
//
// Which mirrors there are, the namespace says, on its thread: the epoch is what was recorded of it, perhaps less. A copy
// is made and recorded in one turn of that thread, so that a mirror that fails is never recorded after it failed.

internal import BlockStore
internal import Logging
internal import Model
internal import Namespace
internal import Platform
internal import Synchronization

extension StoreCore {
    /// Gives up the mirrors of volumes that have failed, and makes another one where there are too few: one at a time,
    /// since bodies wait meanwhile. To be called about once a second, by one task.
    func restoreMirrors() async {
        guard !failure.hasOccurred, epochs.canAdvance else { return }
        do throws(NamespaceError) {
            let all = try await namespace.mirrorVolumes()
            let failed = all.filter { volumes[$0]?.isHealthy != true }
            // The last one may be better than its volume: it is what another one is copied from.
            if failed.count < all.count { for id in failed { try await namespace.dropMirror(on: id) } }
            let now = clock.elapsed()
            guard !mirrorRetries.withLock({ $0.isPaused(at: now) }) else { return }
            // Those that a new epoch had to leave out, for want of descriptors say, are recorded when it can be done.
            let (mirrors, areRecorded) = try await namespace.withMirrors { [epochs] mirrors in
                (mirrors, epochs.recordAll(of: mirrors))
            }
            mirrorRetries.withLock { $0.see(mirrors: mirrors, at: now) }
            guard areRecorded else { return mirrorRetries.withLock { $0.failed(at: now) } }
            guard mirrors.count(where: { volumes[$0]?.isHealthy == true }) < policy.parityUnits + 1 else { return }
            let candidates = volumes.present.filter { $0.isHealthy && !mirrors.contains($0.id) }
            let next = mirrorRetries.withLock { $0.next(of: candidates.map(\.id), at: now) }
            if let candidate = candidates.first(where: { $0.id == next }) { await addMirror(on: candidate) }
        } catch {
            log.error("the metadata cannot be written any more: \(error)")
        }
    }

    private func addMirror(on volume: Volume) async {
        let place: Logger.Metadata = ["volume": "\(volume.directory)"]
        do throws(NamespaceError) {
            try await namespace.addMirror(MirrorLocation(volume: volume.id, directory: volume.metadataDirectory)) {
                [epochs] mirrors in epochs.mirrorAdded(volume.id, mirrors: mirrors)
            }
            mirrorRetries.withLock { $0.succeeded(volume.id) }
            log.notice("the metadata have another copy", metadata: place)
        } catch {
            // From when it failed, however long that took.
            let now = clock.elapsed()
            mirrorRetries.withLock { $0.failed(volume.id, at: now) }
            log.error("the metadata could not be copied, and will be later: \(error)", metadata: place)
        }
    }
}
