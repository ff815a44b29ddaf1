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

    /// The most pending pieces, and the most extents, that one READ looks at: a file may be in pieces of a byte.
    private static let maxPieces = 4096
    /// The most reads of block groups that one READ makes; what is beyond them is left to the next.
    private static let maxGroupReads = 256
    /// Pieces that are shorter than this on average are copied together. A piece of its own takes some 200 bytes on
    /// its way to the socket.
    private static let shortPieceBytes = 4096

    /// Reads up to `count` bytes: fewer at the end of the file, and, but at least one, where the file is in very many
    /// pieces.
    func read(offset: UInt64, count: Int) async throws(FileError) -> ReadResult {
        let wanted = ByteRange(offset: min(offset, Limits.maxFileBytes), count: UInt64(count))
        let seen: Result<View, FileError> = node.extents.withLock { map in
            let pending: [PendingWrite]
            let attributes: FileAttributes
            do throws(WriteBackError) {
                (pending, attributes) = try context.snapshot(wanted, limit: Self.maxPieces)
            } catch {
                return .failure(FileError(error))
            }
            guard var range = wanted.intersection(ByteRange(0, attributes.size)), !context.isRemoved else {
                return .success(View(pending: pending, attributes: attributes))
            }
            let extents = map.overlapping(range, limit: Self.maxPieces)
            // There may be more pieces from there on.
            for (count, end) in [
                (pending.count, pending.last?.range.upperBound), (extents.count, extents.last?.range.upperBound),
            ] {
                if count == Self.maxPieces, let end { range = ByteRange(range.lowerBound, min(range.upperBound, end)) }
            }
            core.references.retain(extents.lazy.map(\.group))
            return .success(View(range: range, pending: pending, extents: extents, attributes: attributes))
        }
        let view = try seen.get()
        // Of a file that is gone the pending bytes are gone first, so what was just seen may be torn.
        if context.isRemoved {
            core.references.release(view.extents.lazy.map(\.group))
            throw .stale
        }
        guard let range = view.range else {
            return ReadResult(payload: Payload(), isAtEnd: offset >= view.attributes.size, attributes: view.attributes)
        }
        let result = await assemble(range, view)
        core.references.release(view.extents.lazy.map(\.group))
        let payload = try result.get()
        return ReadResult(
            payload: payload, isAtEnd: range.lowerBound + UInt64(payload.count) == view.attributes.size,
            attributes: view.attributes)
    }

    /// The file at one moment, as far as this READ goes.
    private struct View {
        /// nil: nothing can be read.
        var range: ByteRange?
        let pending: [PendingWrite]
        var extents: [Extent] = []
        let attributes: FileAttributes
    }

    /// Where the bytes of a part of the range are.
    struct Piece {
        enum Source {
            case pending(PendingBytes)
            case stored(Extent)
        }
        let range: ByteRange
        let source: Source
    }

    /// A range of a block group that is read at once for all pieces that are in it.
    private struct GroupRead {
        let group: BlockGroupID
        var range: ByteRange
    }

    private func assemble(_ wanted: ByteRange, _ view: View) async -> Result<Payload, FileError> {
        var range = wanted
        var pieces = Self.pieces(of: range, view.pending, view.extents)
        let (reads, readOfPiece) = groupReads(pieces)
        // Where there are too many, as many as come first in the file.
        if reads.count > Self.maxGroupReads {
            var used: Set<Int> = []
            for (index, piece) in pieces.enumerated() {
                guard let read = readOfPiece[index], used.insert(read).inserted else { continue }
                if used.count > Self.maxGroupReads {
                    range = ByteRange(range.lowerBound, piece.range.lowerBound)
                    pieces.removeLast(pieces.count - index)
                    break
                }
            }
        }
        do throws(FileError) {
            var contents: [Int: Payload] = [:]
            for index in pieces.indices {
                guard let read = readOfPiece[index], contents[read] == nil else { continue }
                contents[read] = try await self.read(reads[read])
            }
            // What is read back from the dump is memory that nobody else has charged: the parts, and a write at a time.
            let dumped = pieces.reduce((parts: 0, largest: 0)) { sum, piece in
                guard case .pending(let bytes) = piece.source, bytes.loadBytes > 0 else { return sum }
                return (sum.parts + bytes.count, max(sum.largest, bytes.loadBytes))
            }
            if dumped.largest == 0 { return .success(try await assembled(pieces, range, contents, readOfPiece, reads)) }
            return .success(
                try await core.decodingMemory.with(dumped.parts + dumped.largest) { () async throws(FileError) in
                    try await assembled(pieces, range, contents, readOfPiece, reads)
                })
        } catch {
            return .failure(error)
        }
    }

    private func assembled(
        _ pieces: [Piece], _ range: ByteRange, _ contents: [Int: Payload], _ readOfPiece: [Int: Int],
        _ reads: [GroupRead]
    ) async throws(FileError) -> Payload {
        var assembly = Assembly(
            range, isFlat: pieces.count > 64 && Int(range.count) / pieces.count < Self.shortPieceBytes)
        var dumped = DumpedBytes()
        for (index, piece) in pieces.enumerated() {
            switch piece.source {
            case .pending(let bytes):
                do throws(WriteBackError) {
                    assembly.append(try await bytes.load(&dumped), at: piece.range)
                } catch {
                    core.complaints.error(.failedRead, of: .file(node.id), "what was dumped cannot be read back")
                    throw FileError(error)
                }
            case .stored(let extent):
                let read = readOfPiece[index]!
                let start = Int(extent.groupOffset - reads[read].range.lowerBound)
                assembly.append(contents[read]!.slice(start..<start + Int(extent.range.count)), at: piece.range)
            }
        }
        return assembly.finish()
    }

    /// What is in the range, in order: of pending writes and extents the later one, byte by byte. The rest are holes.
    ///
    /// A pending write is later than what is stored under it, but while a drain takes its writes out of memory one after
    /// the other: an old one may still be there when what covered it has gone, and both are in the extent.
    static func pieces(of range: ByteRange, _ pending: [PendingWrite], _ extents: [Extent]) -> [Piece] {
        var pieces: [Piece] = []
        var extents = extents[...]
        /// What is stored of `gap` by extents from `sequence` on; calls `between` with what is not, in order.
        func appendStored(_ gap: ByteRange, from sequence: WriteSequence, between: (ByteRange) -> Void) {
            var position = gap.lowerBound
            while let extent = extents.first, extent.range.lowerBound < gap.upperBound {
                if extent.sequence >= sequence, let part = extent.range.intersection(gap) {
                    if position < part.lowerBound { between(ByteRange(position, part.lowerBound)) }
                    pieces.append(Piece(range: part, source: .stored(extent.part(part))))
                    position = part.upperBound
                }
                // One that goes on behind the gap may have a part in the next one.
                if extent.range.upperBound > gap.upperBound { break }
                extents.removeFirst()
            }
            if position < gap.upperBound { between(ByteRange(position, gap.upperBound)) }
        }
        var position = range.lowerBound
        for pending in pending {
            guard let part = pending.range.intersection(range) else { continue }
            appendStored(ByteRange(position, part.lowerBound), from: .zero) { _ in }
            appendStored(part, from: pending.sequence) { part in
                let start = Int(part.lowerBound - pending.range.lowerBound)
                let bytes = pending.bytes.slice(start..<start + Int(part.count))
                pieces.append(Piece(range: part, source: .pending(bytes)))
            }
            position = part.upperBound
        }
        appendStored(ByteRange(position, range.upperBound), from: .zero) { _ in }
        return pieces
    }

    /// The reads that the stored pieces need, and for each of these the read that has it. Pieces that are near each
    /// other in their group, as those of one drain are, come with one read; chunks are read as wholes anyway.
    private func groupReads(_ pieces: [Piece]) -> (reads: [GroupRead], ofPiece: [Int: Int]) {
        var stored: [(index: Int, extent: Extent)] = []
        for (index, piece) in pieces.enumerated() {
            if case .stored(let extent) = piece.source { stored.append((index, extent)) }
        }
        stored.sort {
            ($0.extent.group.rawValue, $0.extent.groupOffset) < ($1.extent.group.rawValue, $1.extent.groupOffset)
        }
        var reads: [GroupRead] = []
        var ofPiece: [Int: Int] = [:]
        for (index, extent) in stored {
            let range = ByteRange(offset: extent.groupOffset, count: extent.range.count)
            if let last = reads.last, last.group == extent.group,
                range.lowerBound <= last.range.upperBound + UInt64(Limits.bytesPerChecksum),
                range.upperBound - last.range.lowerBound <= UInt64(Limits.maxTransferBytes)
            {
                reads[reads.count - 1].range = ByteRange(
                    last.range.lowerBound, max(last.range.upperBound, range.upperBound))
            } else {
                reads.append(GroupRead(group: extent.group, range: range))
            }
            ofPiece[index] = reads.count - 1
        }
        return (reads, ofPiece)
    }

    private func read(_ wanted: GroupRead) async throws(FileError) -> Payload {
        let group = try await core.group(wanted.group, holding: wanted.range.upperBound)
        let reader = StripedReader<Volume>(counters: core.striping, memory: core.decodingMemory) { [core] bad in
            core.note(bad)
        }
        do throws(StripingError) {
            return try await reader.read(
                StripedGroup(
                    id: group.id, generationStamp: group.generationStamp, policy: group.policy, length: group.length,
                    sources: group.locations.map { $0.flatMap { core.volumes[$0] } }),
                wanted.range)
        } catch {
            if !error.isShortage { core.damage.noteUnreadable(group.id) }
            core.complaints.error(.failedRead, of: .file(node.id), "\(error)")
            throw .inputOutput
        }
    }
}

/// Puts the pieces of a range together, with zeros between them: as slices of what they came in, or, if they are many
/// and short, copied into one buffer.
private struct Assembly {
    private let range: ByteRange
    private var position: UInt64
    private var payload = Payload()
    private var flat: ByteBuffer?

    init(_ range: ByteRange, isFlat: Bool) {
        self.range = range
        position = range.lowerBound
        if isFlat { flat = ByteBuffer(repeating: 0, count: Int(range.count)) }
    }

    /// - Precondition: the place is behind those before.
    mutating func append(_ bytes: Payload, at place: ByteRange) {
        if flat != nil {
            var offset = Int(place.lowerBound - range.lowerBound)
            for segment in bytes.segments { offset += flat!.setBuffer(segment, at: offset) }
        } else {
            payload.append(Zeros.payload(count: Int(place.lowerBound - position)))
            payload.append(bytes)
        }
        position = place.upperBound
    }

    mutating func finish() -> Payload {
        if let flat { return Payload(flat) }
        payload.append(Zeros.payload(count: Int(range.upperBound - position)))
        return payload
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
