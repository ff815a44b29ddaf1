// READ: pending bytes on top of extents on top of zeros.
//
// Pending writes and extents are looked at as one, under the extents' lock, which a truncate takes too: so a read
// sees all of a truncate or nothing. The groups that the extents name are retained before that lock is let go, so
// their blocks stay until the read is done.

internal import BlockStore
internal import FileService
internal import Model
internal import NIOCore
internal import Namespace
internal import Platform
internal import Striping
internal import Synchronization
internal import WriteBack

/// One READ of one file.
struct FileReader {
    let core: StoreCore
    let node: FileNode
    let context: OpenFileContext

    /// Reads up to `count` bytes; fewer only at the end of the file.
    func read(offset: UInt64, count: Int) async throws(FileError) -> ReadResult {
        let wanted = ByteRange(offset: min(offset, Limits.maxFileBytes), count: UInt64(count))
        let (pending, attributes, extents) = node.extents.withLock { map in
            let (pending, attributes) = context.snapshot(wanted)
            guard let range = wanted.intersection(ByteRange(0, attributes.size)), !context.isRemoved else {
                return (pending, attributes, [Extent]())
            }
            let extents = map.overlapping(range)
            core.references.retain(extents.lazy.map(\.group))
            return (pending, attributes, extents)
        }
        guard let range = wanted.intersection(ByteRange(0, attributes.size)) else {
            return ReadResult(payload: Payload(), isAtEnd: offset >= attributes.size, attributes: attributes)
        }
        // Of a file that is gone the pending bytes are gone first, so what was just seen may be torn.
        if context.isRemoved {
            core.references.release(extents.lazy.map(\.group))
            throw .stale
        }
        let result = await assemble(range, pending, extents)
        core.references.release(extents.lazy.map(\.group))
        return ReadResult(
            payload: try result.get(), isAtEnd: range.upperBound == attributes.size, attributes: attributes)
    }

    private func assemble(
        _ range: ByteRange, _ pending: [PendingWrite], _ extents: [Extent]
    ) async -> Result<Payload, FileError> {
        var payload = Payload()
        var position = range.lowerBound
        do throws(FileError) {
            for piece in pending {
                guard let part = piece.range.intersection(range) else { continue }
                try await appendStored(ByteRange(position, part.lowerBound), extents, to: &payload)
                let start = Int(part.lowerBound - piece.range.lowerBound)
                payload.append(piece.payload.slice(start..<start + Int(part.count)))
                position = part.upperBound
            }
            try await appendStored(ByteRange(position, range.upperBound), extents, to: &payload)
            return .success(payload)
        } catch {
            return .failure(error)
        }
    }

    /// Appends what the store has of a range: extents, and zeros between them.
    private func appendStored(
        _ range: ByteRange, _ extents: [Extent], to payload: inout Payload
    ) async throws(FileError) {
        guard !range.isEmpty else { return }
        var position = range.lowerBound
        for extent in extents {
            guard let part = extent.range.intersection(range) else { continue }
            payload.append(Zeros.payload(count: Int(part.lowerBound - position)))
            payload.append(try await read(extent.part(part)))
            position = part.upperBound
        }
        payload.append(Zeros.payload(count: Int(range.upperBound - position)))
    }

    private func read(_ extent: Extent) async throws(FileError) -> Payload {
        let group = try await core.group(extent.group)
        let reader = StripedReader<Volume>(counters: core.striping) { [core] bad in core.note(bad) }
        do throws(StripingError) {
            return try await reader.read(
                StripedGroup(
                    id: group.id, generationStamp: group.generationStamp, policy: group.policy, length: group.length,
                    sources: group.locations.map { $0.flatMap { core.volumes[$0] } }),
                ByteRange(offset: extent.groupOffset, count: extent.range.count))
        } catch {
            if !error.isShortage { core.damage.noteUnreadable(group.id) }
            core.complaints.error(.failedRead, of: .file(node.id), "\(error)")
            throw .inputOutput
        }
    }
}

extension StripingError {
    /// Some of the blocks might be readable, were there descriptors or memory.
    fileprivate var isShortage: Bool {
        guard case .tooManyBadBlocks(let blocks) = self else { return false }
        return blocks.contains { if case .inputOutput(let error) = $0.reason { error.isShortage } else { false } }
    }
}

/// The content of holes.
enum Zeros {
    private static let bytes = ByteBuffer(repeating: 0, count: 256 << 10)

    static func payload(count: Int) -> Payload {
        var payload = Payload()
        var rest = count
        while rest > 0 {
            let part = min(rest, bytes.readableBytes)
            if let slice = bytes.getSlice(at: 0, length: part) { payload.append(slice) }
            rest -= part
        }
        return payload
    }
}
