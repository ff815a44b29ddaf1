// One round of a drain: appending to groups, syncing them, publishing.
//
// Invariant: between rounds an open group ends at a stripe boundary. Whoever puts an end to a stripe before it is full
// (`mayPad`) seals the group.

internal import BlockStore
internal import FileService
internal import Journal
internal import Model
internal import Namespace
internal import Platform
internal import Striping
internal import WriteBack

/// The groups that a round writes to.
private struct RoundOutputs {
    /// That it appends to now.
    var current: GroupOutput?
    /// That it has sealed.
    var ended: [GroupOutput] = []
}

extension GroupSink {
    /// Files that are drained a group of their own, when so many stripes of them are in groups or come now: less would
    /// leave k + m small files for each. 24 MiB with RS-3-2.
    private static let stripesForOwnGroup = 8
    /// Of a group that files share: so small that it is gone, or compacted, before long, when files in it are removed.
    private static let stripesOfSharedGroup = 32

    /// Carries the plans out, and returns the claims on what went to the journal, in the order of the plans.
    /// - Parameter own: a file that may have a group of its own; then it is the only one.
    func attempt(
        _ parts: [PackedPart], mayPad: Bool, own: OpenFileContext?, excluding excluded: Set<VolumeID>
    ) async throws(DrainFailure) -> [JournaledBytes?] {
        let hasRuns = parts.contains { !$0.plan.runs.isEmpty }
        let ownFile = own.flatMap { isWorthOwnGroup($0, parts[0].plan) ? $0.fileID : nil }
        let rests = own != nil && parts[0].plan.rests
        var round = RoundOutputs()
        var drained: [DrainedFile] = []
        do throws(DrainFailure) {
            // What is only moved from the journal to where it belongs may take the last room there is. Nothing that is new
            // may, padded or not: else there would be none for what was promised.
            let isSettling = parts.allSatisfy(\.plan.losesNothing)
            if hasRuns {
                guard isSettling || core.volumes.hasRoomForData else { throw DrainFailure.notPublished(.noSpace) }
                round.current = ownFile.map { outputs.take($0) } ?? outputs.takeShared()
            } else if rests {
                round.current = ownFile.flatMap { outputs.take($0) }
            }
            for part in parts {
                var file = DrainedFile(context: part.file)
                file.extents = try await append(
                    part, &round, isOwn: ownFile != nil, isSettling: isSettling, excluding: excluded)
                file.payloads = try await payloads(of: part)
                drained.append(file)
            }
            if let output = round.current {
                let isWhole = output.stream.isAtStripeBoundary
                precondition(isWhole || mayPad, "a plan that may not pad is full stripes")
                if !isWhole || ownFile != nil && rests || outputs.count >= maxOpenGroups {
                    try await seal(&round)
                } else {
                    try await output.carryOut { stream throws(StripingError) in try await stream.synchronize() }
                }
            }
        } catch {
            // What this round wrote is not published, and will be written again.
            for output in round.ended + (round.current.map { [$0] } ?? []) { await giveUp(output) }
            throw error
        }
        let claims: [JournaledBytes?]
        do throws(FileError) {
            claims = try await publish(drained, round)
        } catch {
            // The record may or may not have become durable: nothing more is appended, nothing is deleted.
            // The next start finds out.
            for output in round.ended + (round.current.map { [$0] } ?? []) {
                output.stream.abort()
                core.groups.close(output.row.id)
            }
            throw .notPublished(error == .noSpace ? .noSpace : .inputOutput)
        }
        if let output = round.current {
            if let ownFile { outputs[ownFile] = output } else { outputs.giveBack(output) }
        }
        return claims
    }

    /// Whether the file has, or should have, a group of its own.
    private func isWorthOwnGroup(_ file: OpenFileContext, _ plan: DrainPlan) -> Bool {
        if outputs[file.fileID] != nil { return true }
        let stored = file.attributes.usedBytes
        return max(stored, UInt64(plan.byteCount)) >= UInt64(Self.stripesForOwnGroup * stripeSizeBytes)
    }

    /// Appends the runs of a plan to the current group, and to further ones as they get full.
    private func append(
        _ part: PackedPart, _ round: inout RoundOutputs, isOwn: Bool, isSettling: Bool,
        excluding excluded: Set<VolumeID>
    ) async throws(DrainFailure) -> [Extent] {
        var extents: [Extent] = []
        for run in part.plan.runs {
            var reader = DrainReader(run)
            var extent: Extent?
            var offset = run.range.lowerBound
            while let portion = try await nextPortion(&reader, of: part.file.fileID) {
                var position = 0
                while position < portion.count {
                    let output: GroupOutput
                    if let current = round.current {
                        output = current
                    } else {
                        output = try await begin(isOwn: isOwn, isSettling: isSettling, excluding: excluded)
                        round.current = output
                    }
                    let count = Int(min(output.remaining, UInt64(portion.count - position)))
                    let start = output.stream.length
                    try await output.carryOut { stream throws(StripingError) in
                        try await stream.append(portion.slice(position..<position + count))
                    }
                    // What follows in the same group belongs to the same extent.
                    let (group, groupOffset, first) =
                        extent.map { ($0.group, $0.groupOffset, $0.range.lowerBound) } ?? (output.row.id, start, offset)
                    offset += UInt64(count)
                    extent = Extent(
                        range: ByteRange(first, offset), group: group, groupOffset: groupOffset,
                        sequence: part.plan.sequence)
                    position += count
                    if output.remaining == 0 {
                        if let whole = extent { extents.append(whole) }
                        extent = nil
                        try await seal(&round)
                    }
                }
            }
            if let extent { extents.append(extent) }
        }
        return extents
    }

    private func nextPortion(
        _ reader: inout DrainReader, of file: FileID
    ) async throws(DrainFailure) -> Payload? {
        do throws(WriteBackError) {
            return try await reader.nextPortion()
        } catch {
            throw .unreadable(file, error)
        }
    }

    /// What of a plan goes to the journal, in memory.
    private func payloads(of part: PackedPart) async throws(DrainFailure) -> [JournalPayload] {
        var payloads: [JournalPayload] = []
        var dumped = DumpedBytes()
        for piece in part.plan.journaling {
            do throws(WriteBackError) {
                payloads.append(
                    JournalPayload(
                        file: part.file.fileID, offset: piece.range.lowerBound, sequence: piece.sequence,
                        bytes: try await piece.bytes.load(&dumped)))
            } catch {
                throw .notPublished(error)
            }
        }
        return payloads
    }

    // MARK: Outputs

    private func begin(
        isOwn: Bool, isSettling: Bool, excluding excluded: Set<VolumeID>
    ) async throws(DrainFailure) -> GroupOutput {
        let id: BlockGroupID
        do throws(FileError) {
            id = try await core.newGroupID()
        } catch {
            throw .notPublished(.inputOutput)
        }
        let targets = await core.volumes.targets(
            for: id, policy: core.policy, excluding: excluded, isSettling: isSettling)
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
        core.groups.open(id)
        // Full stripes, so that a plan of full stripes leaves none half full.
        let stripe = UInt64(stripeSizeBytes)
        let capacity = max(stripe, core.bounds.maxGroupBytes / stripe * stripe)
        return GroupOutput(
            stream: stream, row: row,
            capacity: isOwn ? capacity : min(capacity, UInt64(Self.stripesOfSharedGroup) * stripe))
    }

    /// Seals the current group; it stays open in the group table until it is published.
    private func seal(_ round: inout RoundOutputs) async throws(DrainFailure) {
        guard let output = round.current else { return }
        try await output.carryOut { stream throws(StripingError) in try await stream.seal() }
        round.current = nil
        round.ended.append(output)
    }

    /// Ends a group some of whose bytes are not published and never will be.
    private func giveUp(_ output: GroupOutput) async {
        output.stream.abort()
        let id = output.row.id
        if output.isRecorded {
            // What was published of it stays. The row says how long that is, and the next start cuts the
            // blocks to it.
            let dead = try? await core.transact { [core] transaction throws(FileError) -> [BlockGroup] in
                core.groups.close(id)
                guard let row = try transaction.groupIfAny(id) else { return [BlockGroup]() }
                return try core.record([], rows: [row], &transaction)
            }
            core.deleteBlocks(of: dead ?? [])
        } else {
            core.groups.close(id)
            core.deleteBlocks(of: [output.row])
        }
    }

    /// Seals the groups that files share, at the end.
    func sealShared() async { await sealShared { _ in true } }

    /// Seals those that hold no live byte any more, which are then deleted: their files were removed, and perhaps nobody
    /// writes another one.
    func sealDeadShared() async { await sealShared { core.groups[$0.row.id]?.liveBytes == 0 } }

    private func sealShared(where isTaken: (GroupOutput) -> Bool) async {
        for output in outputs.takeShared(where: isTaken) {
            var round = RoundOutputs(current: output)
            do {
                try await seal(&round)
                _ = try await publish([], round)
            } catch {
                // What was published of it is durable; the next start seals it.
                output.stream.abort()
                core.complaints.warning(.unsealedGroup, of: .blockGroup(output.row.id), "\(error)")
            }
        }
    }

    // MARK: Publishing

    /// Makes what was drained part of the files: one record with extents, groups and inodes, and with the payload that goes
    /// to the journal. Returns the claims on that; nil for what was truncated away meanwhile.
    private func publish(
        _ drained: [DrainedFile], _ round: RoundOutputs
    ) async throws(FileError) -> [JournaledBytes?] {
        let outputs = round.ended + (round.current.map { [$0] } ?? [])
        let open = round.current?.row.id
        // The streams belong to this drain, so what they say now is what was synced.
        let groups = outputs.map { output in
            var row = output.row
            row.length = output.stream.durableLength
            row.isSealed = row.id != open
            return (row, output.isRecorded)
        }
        // Where nothing was striped the file's inode is all that the record says.
        let footprint = drained.count == 1 && groups.isEmpty ? Footprint.inode(drained[0].context.fileID) : nil
        let (published, claims) = try await core.transactJournaling(footprint) {
            [core] transaction throws(FileError) in
            var rows: [BlockGroup] = []
            for (var row, isRecorded) in groups {
                if isRecorded { row.liveBytes = try transaction.published(row.id).liveBytes }
                rows.append(row)
            }
            for row in rows where row.isSealed { core.groups.close(row.id) }
            return try core.publish(drained, rows: rows, &transaction)
        }
        for output in outputs { output.isRecorded = true }
        core.deleteBlocks(of: published.deadGroups)
        var rest = claims[...]
        return published.isJournaled.map { $0 ? rest.removeFirst() : nil }
    }
}
