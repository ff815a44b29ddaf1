// At the start, after a crash perhaps: the blocks on the volumes against the groups of the namespace.
//
// - A group that was open is sealed at its published length: what was appended after that is cut off each
//   block. It is never appended to again.
// - Blocks of groups that the namespace doesn't know are removed: they were being written, or their group was
//   deleted. Group ids are never reused, so they can't be anything else.
// - Blocks that are missing, short or of another generation stamp are noted as damage.

internal import BlockStore
internal import FileService
internal import Logging
internal import Model
internal import Namespace
internal import Platform

extension StoreCore {
    /// Runs before anything is served.
    func reconcile() async {
        do throws(FileError) {
            try await sealOpenGroups()
            for volume in volumes.present {
                for number in 0..<Volume.subdirectoryCount { try await reconcile(volume, subdirectory: number) }
            }
        } catch {
            // Rows that can't be read are damage that `status` must show; the files that are whole are served.
            log.error("blocks and metadata could not be compared completely: \(error)")
        }
        await noteDamage()
    }

    /// Notes the blocks that are missing or short. Changes nothing on the volumes.
    func noteDamage() async {
        do throws(FileError) {
            try await findMissingBlocks()
        } catch {
            log.error("missing blocks could not be looked for completely: \(error)")
        }
    }

    private func sealOpenGroups() async throws(FileError) {
        try await forEachGroup { group throws(FileError) in
            guard !group.isSealed else { return }
            for (index, location) in group.locations.enumerated() {
                guard let location, let volume = volumes[location] else { continue }
                let block = group.id.internalBlock(index)
                let length = StripeLayout(group.policy).internalBlockLength(index: index, groupLength: group.length)
                do throws(BlockSealError) {
                    try await volume.sealAfterCrash(block, generationStamp: group.generationStamp, length: length)
                } catch {
                    damage.note(block, "\(error)")
                    log.warning(
                        "a block that was open at a crash is not whole: \(error)", metadata: ["block": "\(block)"])
                }
            }
            let dead = try await transact { [self] transaction throws(FileError) -> [BlockGroup] in
                guard var row = try transaction.groupIfAny(group.id) else { return [BlockGroup]() }
                row.isSealed = true
                return try record([], rows: [row], &transaction)
            }
            deleteBlocks(of: dead)
        }
    }

    private func reconcile(_ volume: Volume, subdirectory: Int) async throws(FileError) {
        let blocks: [StoredBlock]
        do throws(IOError) {
            blocks = try await volume.listBlocks(inSubdirectory: subdirectory)
        } catch {
            // The check of the volume says what is wrong with it.
            log.warning("blocks cannot be listed: \(error)", metadata: ["volume": "\(volume.directory)"])
            return
        }
        for stored in blocks {
            let group = try await look { transaction throws(FileError) in
                try transaction.groupIfAny(stored.block.group)
            }
            // A stale checksum file beside a live block is left alone: its data file is the live one's.
            if let group, group.locations[safely: stored.block.index] == volume.id { continue }
            do throws(IOError) {
                try await volume.delete(stored.block, generationStamp: stored.generationStamp ?? .first)
                log.info("a block that no group names was removed", metadata: ["block": "\(stored.block)"])
            } catch {
                log.warning("a block that no group names was not removed: \(error)")
            }
        }
    }

    private func findMissingBlocks() async throws(FileError) {
        var lengths: [BlockID: UInt64] = [:]
        for volume in volumes.present {
            for number in 0..<Volume.subdirectoryCount {
                guard let blocks = try? await volume.listBlocks(inSubdirectory: number) else { continue }
                for stored in blocks where stored.generationStamp != nil { lengths[stored.block] = stored.length }
            }
        }
        try await forEachGroup { group throws(FileError) in
            for (index, location) in group.locations.enumerated() {
                let expected = StripeLayout(group.policy).internalBlockLength(index: index, groupLength: group.length)
                guard expected > 0 else { continue }
                let block = group.id.internalBlock(index)
                guard location != nil else {
                    damage.note(block, "was not written: a volume was missing")
                    continue
                }
                if let length = lengths[block], length >= expected { continue }
                damage.note(block, lengths[block].map { "only \($0) bytes long" } ?? "missing")
            }
        }
    }

    /// Every group of the namespace, in order, a thousand at a time.
    func forEachGroup(_ body: (BlockGroup) async throws(FileError) -> Void) async throws(FileError) {
        var last: BlockGroupID?
        while true {
            let after = last
            let groups = try await look { transaction throws(FileError) in
                try transaction.groupRows(after: after, limit: 1000)
            }
            guard let end = groups.last else { return }
            for group in groups { try await body(group) }
            last = end.id
        }
    }
}

extension Array where Element == VolumeID? {
    fileprivate subscript(safely index: Int) -> VolumeID? { index < count ? self[index] : nil }
}
