// What a drain has made durable becomes part of its files: on the namespace thread, in order with truncates and removals.

internal import FileService
internal import Journal
internal import Model
internal import Namespace
internal import Platform
internal import Synchronization
internal import WriteBack

/// What a drain has of one file.
struct DrainedFile: Sendable {
    let context: OpenFileContext
    /// In order, in synced groups.
    var extents: [Extent] = []
    /// To be made durable by the journal, with the record.
    var payloads: [JournalPayload] = []
}

extension StoreCore {
    struct Published: Sendable {
        var deadGroups: [BlockGroup] = []
        /// For each payload of each file whether it went into the journal, in part at least: what was truncated away
        /// meanwhile didn't.
        var isJournaled: [Bool] = []
    }

    /// A file that is about to change.
    private struct Change {
        let node: FileNode
        let context: OpenFileContext
        var inode: Inode
        let map: ExtentMap
        let edit: ExtentMap.Edit
        let payloads: [JournalPayload]
    }

    /// One record for all of it. What was truncated away while the drain was out is left out: the truncate has the higher
    /// sequence.
    /// - Parameter rows: of the groups that were written, with the live bytes before.
    func publish(
        _ drained: [DrainedFile], rows: [BlockGroup], _ transaction: inout Transaction
    ) throws(FileError) -> Published {
        var published = Published()
        var changes: [Change] = []
        for file in drained {
            guard var inode = try transaction.inodeIfAny(file.context.fileID) else {
                // Removed meanwhile: nobody will ask for these bytes.
                published.isJournaled += file.payloads.map { _ in false }
                continue
            }
            guard let node = nodes[inode.id], node.context === file.context else {
                preconditionFailure("the node of \(inode.id) was forgotten while its bytes were drained")
            }
            let kept = ByteRange(0, file.context.drainClip ?? .max)
            var map = node.extents.withLock { $0 }
            let valid = file.extents.compactMap { $0.range.intersection(kept).map($0.part) }
            let edit = map.insert(valid)
            let payloads = file.payloads.map { $0.clipped(to: kept) }
            published.isJournaled += payloads.map { $0 != nil }
            // From here on a start must find the bytes within the size, and give out higher sequences.
            for extent in valid {
                inode.size = max(inode.size, extent.range.upperBound)
                inode.writeSequence = max(inode.writeSequence, extent.sequence)
            }
            for case let payload? in payloads {
                inode.size = max(inode.size, payload.offset + UInt64(payload.bytes.count))
                inode.writeSequence = max(inode.writeSequence, payload.sequence)
            }
            inode.usedBytes = try inode.usedBytes.changed(by: edit.byteChange)
            changes.append(
                Change(
                    node: node, context: file.context, inode: inode, map: map, edit: edit,
                    payloads: payloads.compactMap { $0 }))
        }
        published.deadGroups = try record(changes.map { ($0.inode.id, $0.edit) }, rows: rows, &transaction)
        for var change in changes {
            let used = change.inode.usedBytes
            change.node.extents.withLock { $0 = change.map }
            change.context.updateAttributes { $0.usedBytes = used }
            change.inode.adopt(change.context.attributes)
            try transaction.put(.putInode(change.inode))
            transaction.journal(change.payloads)
        }
        return published
    }
}

extension JournalPayload {
    /// The part within the range; nil if there is none.
    fileprivate func clipped(to range: ByteRange) -> JournalPayload? {
        let whole = ByteRange(offset: offset, count: UInt64(bytes.count))
        guard let part = whole.intersection(range) else { return nil }
        if part == whole { return self }
        let start = Int(part.lowerBound - offset)
        return JournalPayload(
            file: file, offset: part.lowerBound, sequence: sequence,
            bytes: bytes.slice(start..<start + Int(part.count)))
    }
}
