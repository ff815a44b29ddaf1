// Drains: from pending writes to block groups and to the journal, and their publication.
//
// Runs of full stripes go to block groups, what is smaller goes to the journal; one record says both. The record is made
// after the block groups were synced, on the namespace thread, where it has its place among truncates: what was truncated
// away meanwhile is clipped there, of extents and of the journal's payload alike. When it is durable, so is everything.
//
// A round whose targets fail is done again on other volumes: all bytes are still pending. Groups that it leaves behind
// are cut to what was published of them, or deleted.

internal import BlockStore
internal import ErasureCoding
internal import FileService
internal import Journal
internal import Model
internal import Namespace
internal import Platform
internal import Striping
internal import Synchronization
internal import WriteBack

/// Why a round of a drain failed.
enum DrainFailure: Error {
    case targets([TargetFailure], locations: [VolumeID?])
    case tooFewTargets(present: Int, needed: Int)
    case notPublished(WriteBackError)
    /// What is to be written of the file can't be read.
    case unreadable(FileID, WriteBackError)
}

/// The embedded store as the sink of write-back.
struct GroupSink: WriteBackSink {
    let core: StoreCore
    let coder: ErasureCoder
    /// Of the stripes that are being written.
    let pool: CellBufferPool
    let outputs = GroupOutputs()
    /// Beyond so many that are open between drains, a drain ends its group. Two files each in as many volumes, and half
    /// of what may be open is for readers.
    let maxOpenGroups: Int

    var stripeSizeBytes: Int { core.policy.stripeSizeBytes }
    var order: DrainOrder { .any }

    /// Cells for at most this many stripes at once: one that fills and one that is written for each of the eight drains
    /// that run at a time.
    private static let maxStripesInPool = 16

    init(core: StoreCore) {
        self.core = core
        coder = ErasureCoder.shared(for: core.policy)
        maxOpenGroups = core.bounds.maxOpenFiles / 2 / (2 * core.policy.totalUnits)
        // With the parity.
        let stripeBytes = core.policy.totalUnits * core.policy.cellSizeBytes
        pool = CellBufferPool(
            cellSizeBytes: core.policy.cellSizeBytes,
            capacity: core.policy.totalUnits * min(Self.maxStripesInPool, max(2, core.bounds.cellBytes / stripeBytes)))
    }

    func drain(_ plan: DrainPlan, of file: OpenFileContext) async throws(WriteBackError) -> [JournaledBytes?] {
        let part = PackedPart(file: file, plan: plan)
        return try await carryOut(of: .file(file.fileID)) { excluded throws(DrainFailure) in
            try await attempt([part], mayPad: plan.mayPad, own: file, excluding: excluded)
        }
    }

    func pack(_ parts: [PackedPart], mayPad: Bool) async throws(PackFailure) {
        var unreadable: FileID?
        do throws(WriteBackError) {
            _ = try await carryOut(of: .store) { excluded throws(DrainFailure) in
                do throws(DrainFailure) {
                    return try await attempt(parts, mayPad: mayPad, own: nil, excluding: excluded)
                } catch {
                    if case .unreadable(let file, _) = error { unreadable = file }
                    throw error
                }
            }
        } catch {
            if let unreadable {
                core.complaints.error(
                    .failedRead, of: .file(unreadable),
                    "its last bytes, which were promised, cannot be read back from the journal; "
                        + "the file is left out when others leave it")
            }
            throw PackFailure(error, unreadable: unreadable)
        }
    }

    func journalHasRoom(forBytes count: Int) -> Bool {
        core.journal?.hasRoom(forPayloadBytes: count) == true && core.hasRoomToSettle(count)
    }

    func hasOpenOutput(for file: FileID) -> Bool { outputs[file] != nil }

    /// Each round either succeeds or leaves out at least one more volume.
    private func carryOut<Value>(
        of subject: StoreLog.Subject, _ round: (Set<VolumeID>) async throws(DrainFailure) -> Value
    ) async throws(WriteBackError) -> Value {
        var excluded: Set<VolumeID> = []
        while true {
            do throws(DrainFailure) {
                return try await round(excluded)
            } catch {
                switch error {
                case .targets(let failures, let locations):
                    core.counters.rewrittenGroups.add(1, ordering: .relaxed)
                    core.complaints.warning(
                        .rewrittenGroup, of: subject, failures.map { "\($0.error)" }.joined(separator: "; "))
                    for failure in failures {
                        if let location = locations[failure.index] { excluded.insert(location) }
                    }
                case .tooFewTargets(let present, let needed):
                    core.complaints.error(
                        .tooFewTargets, of: subject,
                        "only \(present) of at least \(needed) volumes can be written to")
                    // Healthy volumes that were left out had no room.
                    let healthy = core.volumes.present.count { $0.isHealthy }
                    throw healthy >= needed ? .noSpace : .inputOutput
                case .notPublished(let error), .unreadable(_, let error):
                    throw error
                }
            }
        }
    }

    // MARK: Failures

    func revert(_ file: OpenFileContext) async -> Bool {
        do throws(FileError) {
            // On the namespace thread, so that a truncate comes before or after this, not in between.
            try await core.transact { transaction throws(FileError) in
                guard var inode = try transaction.inodeIfAny(file.fileID) else { return }
                file.revert(size: inode.size, usedBytes: inode.usedBytes)
                // Clients have seen the lost bytes at the present times; they are to look again. The times are recorded,
                // since they must not go back when the file is read anew.
                let now = core.clock.now()
                file.updateAttributes { $0.touch(now) }
                inode.adopt(file.attributes)
                try transaction.put(.putInode(inode))
            }
            return true
        } catch {
            core.complaints.error(.unknownAttributes, of: .file(file.fileID), "\(error)")
            return false
        }
    }

    func acknowledgedBytesWereLost(in file: FileID, arrivedUntil: Duration, because error: WriteBackError) {
        core.verifier.change(forBytesUntil: arrivedUntil, core.clock)
        core.counters.writeBackErrors.add(1, ordering: .relaxed)
        core.complaints.error(.lostBytes, of: .file(file), "\(error)")
    }
}
