// Takes drained runs into block groups and publishes them.
//
// A file's drains append to one group until it is full, until a drain ends inside a stripe (its padded stripe
// is the group's last; there is no parity to update in place, ever), or until the file rests. What a drain
// appended is first synced on all targets and then published: extents, group rows and the inode in one
// record. Until that is durable the bytes stay in the pending writes, so a drain whose targets failed is simply
// done again on others, and a crash loses nothing that was promised.
//
// Lock order: `outputs` is a leaf.

internal import BlockStore
internal import ErasureCoding
internal import FileService
internal import Model
internal import Namespace
internal import Platform
internal import Striping
internal import Synchronization
internal import WriteBack

/// A group that a file's drains append to. Only the one drain that the file has at a time touches it.
final class GroupOutput: @unchecked Sendable {
    let stream: StripedOutputStream<Volume>
    /// The row as it will be recorded, apart from length, seal and live bytes.
    let row: BlockGroup
    /// Whether the namespace has the row.
    var isRecorded = false

    init(stream: StripedOutputStream<Volume>, row: BlockGroup) {
        self.stream = stream
        self.row = row
    }

    func carryOut(
        _ work: (StripedOutputStream<Volume>) async throws(StripingError) -> Void
    ) async throws(DrainFailure) {
        do throws(StripingError) {
            try await work(stream)
        } catch {
            guard case .targetsFailed(let failures) = error else {
                preconditionFailure("a stream that has begun fails by its targets")
            }
            throw .targets(failures, locations: row.locations)
        }
    }
}

/// Why a round of a drain failed.
enum DrainFailure: Error {
    case targets([TargetFailure], locations: [VolumeID?])
    case tooFewTargets(present: Int, needed: Int)
    case notPublished(WriteBackError)
}

/// The embedded store as the sink of write-back.
struct GroupSink: WriteBackSink {
    private let core: StoreCore
    private let coder: ErasureCoder
    /// Of the stripes that are being written.
    let pool: CellBufferPool
    let outputs = SharedOutputs()
    /// Beyond so many that are open between drains, a drain ends its group. Two files each in as many volumes, and half
    /// of what may be open is for readers.
    private let maxOpenGroups: Int

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

    func drain(_ plan: DrainPlan, of file: OpenFileContext) async throws(WriteBackError) {
        // Each round either succeeds or leaves out at least one more volume.
        var excluded: Set<VolumeID> = []
        while true {
            do throws(DrainFailure) {
                return try await attempt(plan, of: file, excluding: excluded)
            } catch {
                switch error {
                case .targets(let failures, let locations):
                    core.counters.rewrittenGroups.add(1, ordering: .relaxed)
                    core.complaints.warning(
                        .rewrittenGroup, of: .file(file.fileID),
                        failures.map { "\($0.error)" }.joined(separator: "; "))
                    for failure in failures {
                        if let location = locations[failure.index] { excluded.insert(location) }
                    }
                case .tooFewTargets(let present, let needed):
                    core.complaints.error(
                        .tooFewTargets, of: .file(file.fileID),
                        "only \(present) of at least \(needed) volumes can be written to")
                    // Healthy volumes that were left out had no room.
                    let healthy = core.volumes.present.count { $0.isHealthy }
                    throw healthy >= needed ? .noSpace : .inputOutput
                case .notPublished(let error):
                    throw error
                }
            }
        }
    }

    func hasOpenOutput(for file: FileID) -> Bool { outputs[file] != nil }

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

    private func attempt(
        _ plan: DrainPlan, of file: OpenFileContext, excluding excluded: Set<VolumeID>
    ) async throws(DrainFailure) {
        var extents: [Extent] = []
        var ended: [GroupOutput] = []
        do throws(DrainFailure) {
            for run in plan.runs {
                try await append(run, of: file.fileID, plan.sequence, excluding: excluded, &extents, &ended)
            }
            if let output = outputs[file.fileID] {
                if plan.rests || !output.stream.isAtStripeBoundary || outputs.count > maxOpenGroups {
                    ended.append(try await end(output, of: file.fileID))
                } else {
                    try await output.carryOut { stream throws(StripingError) in try await stream.synchronize() }
                }
            }
        } catch {
            // What this round wrote is not published, and will be written again.
            if let output = outputs.take(file.fileID) { ended.append(output) }
            for output in ended { await giveUp(output) }
            throw error
        }
        do throws(FileError) {
            try await publish(extents, of: file, ended: ended, open: outputs[file.fileID])
        } catch {
            // The record may or may not have become durable: nothing more is appended, nothing is deleted.
            // The next start finds out.
            if let output = outputs.take(file.fileID) { ended.append(output) }
            for output in ended {
                output.stream.abort()
                core.groups.close(output.row.id)
            }
            throw .notPublished(error == .noSpace ? .noSpace : .inputOutput)
        }
    }

    /// Appends a run to the file's group, and to further ones as they get full.
    private func append(
        _ run: DrainRun, of file: FileID, _ sequence: WriteSequence, excluding excluded: Set<VolumeID>,
        _ extents: inout [Extent], _ ended: inout [GroupOutput]
    ) async throws(DrainFailure) {
        var reader = DrainReader(run)
        var extent: Extent?
        var offset = run.range.lowerBound
        while let portion = try await nextPortion(&reader) {
            var position = 0
            while position < portion.count {
                let output = try await output(of: file, excluding: excluded)
                let count = Int(min(remaining(output), UInt64(portion.count - position)))
                let start = output.stream.length
                try await output.carryOut { stream throws(StripingError) in
                    try await stream.append(portion.slice(position..<position + count))
                }
                // What follows in the same group belongs to the same extent.
                let (group, groupOffset, first) =
                    extent.map { ($0.group, $0.groupOffset, $0.range.lowerBound) } ?? (output.row.id, start, offset)
                offset += UInt64(count)
                extent = Extent(
                    range: ByteRange(first, offset), group: group, groupOffset: groupOffset, sequence: sequence)
                position += count
                if remaining(output) == 0 {
                    if let whole = extent { extents.append(whole) }
                    extent = nil
                    ended.append(try await end(output, of: file))
                }
            }
        }
        if let extent { extents.append(extent) }
    }

    private func nextPortion(_ reader: inout DrainReader) async throws(DrainFailure) -> Payload? {
        do throws(WriteBackError) {
            return try await reader.nextPortion()
        } catch {
            throw .notPublished(error)
        }
    }

    // MARK: Outputs

    /// The group that the file's drains append to; begins one when there is none.
    private func output(of file: FileID, excluding excluded: Set<VolumeID>) async throws(DrainFailure) -> GroupOutput {
        if let output = outputs[file] { return output }
        let id: BlockGroupID
        do throws(FileError) {
            id = try await core.newGroupID()
        } catch {
            throw .notPublished(.inputOutput)
        }
        let targets = await core.volumes.targets(for: id, policy: core.policy, excluding: excluded)
        let row = BlockGroup(
            id: id, generationStamp: .first, policy: core.policy, length: 0, isSealed: false,
            locations: targets.map { $0?.id }, liveBytes: 0)
        let stream: StripedOutputStream<Volume>
        do throws(StripingError) {
            stream = try StripedOutputStream(
                group: id, generationStamp: row.generationStamp, coder: coder, targets: targets,
                minimumTargets: core.volumes.neededTargets(core.policy), pool: pool)
        } catch {
            guard case .tooFewTargets(let present, let needed) = error else {
                preconditionFailure("a stream can only begin or lack targets")
            }
            throw .tooFewTargets(present: present, needed: needed)
        }
        let output = GroupOutput(stream: stream, row: row)
        core.groups.open(id)
        outputs[file] = output
        return output
    }

    /// Bytes that may still be appended.
    private func remaining(_ output: GroupOutput) -> UInt64 {
        let length = output.stream.length
        return min(output.stream.remaining, core.bounds.maxGroupBytes - min(core.bounds.maxGroupBytes, length))
    }

    /// Seals the file's group; it stays open in the group table until it is published.
    private func end(_ output: GroupOutput, of file: FileID) async throws(DrainFailure) -> GroupOutput {
        try await output.carryOut { stream throws(StripingError) in try await stream.seal() }
        outputs[file] = nil
        return output
    }

    /// Ends a group some of whose bytes are not published and never will be.
    private func giveUp(_ output: GroupOutput) async {
        output.stream.abort()
        let id = output.row.id
        if output.isRecorded {
            // What was published of it stays. The row says how long that is, and the next start cuts the
            // blocks to it.
            let dead = try? await core.transact { [core] transaction throws(FileError) in
                core.groups.close(id)
                guard let row = try transaction.groupIfAny(id) else { return [BlockGroup]() }
                return try core.record(ExtentMap.Edit(), of: .root, rows: [row], &transaction)
            }
            core.deleteBlocks(of: dead ?? [])
        } else {
            core.groups.close(id)
            core.deleteBlocks(of: [output.row])
        }
    }

    // MARK: Publishing

    /// Makes the extents of a drain part of the file: one record with extents, groups and the inode.
    private func publish(
        _ extents: [Extent], of file: OpenFileContext, ended: [GroupOutput], open: GroupOutput?
    ) async throws(FileError) {
        let outputs = ended + (open.map { [$0] } ?? [])
        // The streams belong to this drain, so what they say now is what was synced.
        let lengths = outputs.map(\.stream.durableLength)
        let dead = try await core.transact { [core] transaction throws(FileError) -> [BlockGroup] in
            var rows: [BlockGroup] = []
            for (output, length) in zip(outputs, lengths) {
                var row = output.row
                if output.isRecorded { row = try transaction.published(row.id) }
                row.length = length
                row.isSealed = output !== open
                rows.append(row)
            }
            for output in ended { core.groups.close(output.row.id) }
            guard var inode = try transaction.inodeIfAny(file.fileID) else {
                // Removed meanwhile: nobody will ask for these bytes.
                return try core.record(ExtentMap.Edit(), of: file.fileID, rows: rows, &transaction)
            }
            guard let node = core.nodes[file.fileID], node.context === file else {
                preconditionFailure("the node of \(file.fileID) was forgotten while its bytes were drained")
            }
            // A truncate that took its place while the drain was out wins: it has the higher sequence.
            let clip = file.drainClip ?? .max
            var map = node.extents.withLock { $0 }
            let valid = extents.compactMap { $0.range.intersection(ByteRange(0, clip)).map($0.part) }
            let edit = map.insert(valid)
            for extent in valid {
                inode.size = max(inode.size, extent.range.upperBound)
                inode.writeSequence = max(inode.writeSequence, extent.sequence)
            }
            let dead = try core.record(edit, of: file.fileID, rows: rows, &transaction)
            let used = try inode.usedBytes.changed(by: edit.byteChange)
            inode.usedBytes = used
            node.extents.withLock { $0 = map }
            file.updateAttributes { $0.usedBytes = used }
            inode.adopt(file.attributes)
            try transaction.put(.putInode(inode))
            return dead
        }
        for output in outputs { output.isRecorded = true }
        core.deleteBlocks(of: dead)
    }
}

/// The groups that files' drains append to, by file.
final class SharedOutputs: Sendable {
    private let state = Mutex<[FileID: GroupOutput]>([:])

    subscript(file: FileID) -> GroupOutput? {
        get { state.withLock { $0[file] } }
        set { state.withLock { $0[file] = newValue } }
    }

    var count: Int { state.withLock { $0.count } }

    func take(_ file: FileID) -> GroupOutput? { state.withLock { $0.removeValue(forKey: file) } }
}
