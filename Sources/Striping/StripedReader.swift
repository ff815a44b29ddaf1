// Reads ranges of block groups: only the cells that it needs, in parallel, and around what is missing.
//
// All pieces of a range that are in one internal block are next to each other there, so each data block is
// read at most once. What can't be read is decoded from k other internal blocks, for just the rows that
// are needed: "rows" are a range of offsets that is the same in all blocks of the group. A block that ends
// before them, as in a partial last stripe, counts as zeros (StripeLayout), whether it can be read or not.
//
// All bytes come from reads that were verified against checksums, or were decoded from such.

public import BlockStore
internal import ErasureCoding
public import Model
internal import NIOCore
public import Platform
internal import Synchronization

/// A block group as a reader needs to know it.
public struct StripedGroup<Source: BlockSource>: Sendable {
    public let id: BlockGroupID
    public let generationStamp: GenerationStamp
    public let policy: ErasureCodingPolicy
    /// Bytes that are published; there may be more.
    public let length: UInt64
    /// Where the internal blocks are, by index; nil for one whose place is missing.
    public let sources: [Source?]

    /// - Precondition: one source or nil for each internal block.
    public init(
        id: BlockGroupID, generationStamp: GenerationStamp, policy: ErasureCodingPolicy, length: UInt64,
        sources: [Source?]
    ) {
        precondition(sources.count == policy.totalUnits)
        self.id = id
        self.generationStamp = generationStamp
        self.policy = policy
        self.length = length
        self.sources = sources
    }
}

/// Reads block groups. May be used by several tasks at once.
public final class StripedReader<Source: BlockSource>: Sendable {
    private let counters: StripingCounters
    private let memory: DecodingMemory
    private let onBadBlock: @Sendable (BadBlock) -> Void

    /// - Parameters:
    ///   - memory: what all readers together may hold to decode.
    ///   - onBadBlock: told of each internal block that could not be read, at each attempt; must not block.
    public init(
        counters: StripingCounters, memory: DecodingMemory, onBadBlock: @escaping @Sendable (BadBlock) -> Void
    ) {
        self.counters = counters
        self.memory = memory
        self.onBadBlock = onBadBlock
    }

    /// The bytes `range` of a group's stream.
    ///
    /// Throws only `tooManyBadBlocks` and `undecodable`.
    /// - Precondition: the range is within the group's length.
    public func read(_ group: StripedGroup<Source>, _ range: ByteRange) async throws(StripingError) -> Payload {
        precondition(range.upperBound <= group.length)
        let pieces = StripeLayout(group.policy).cellPieces(range)
        var rows: [Int: ByteRange] = [:]
        for piece in pieces {
            let low = rows[piece.index]?.lowerBound ?? piece.blockRange.lowerBound
            rows[piece.index] = ByteRange(low, piece.blockRange.upperBound)
        }
        var blocks = await read(group, rows)
        let bad = rows.keys.filter { blocks.good[$0] == nil }.sorted()
        if !bad.isEmpty {
            let wanted = bad.map { (index: $0, rows: rows[$0]!) }
            let known = blocks
            // The rows of all bad blocks, of k others, and what is made of them.
            let rowBytes = Int(wanted.map(\.rows.upperBound).max()! - wanted.map(\.rows.lowerBound).min()!)
            blocks = try await memory.with(rowBytes * (group.policy.dataUnits + bad.count)) {
                () async throws(StripingError) in
                try await decode(group, wanted, known)
            }
            countDecoded(pieces.filter { bad.contains($0.index) })
        }
        var payload = Payload()
        for piece in pieces {
            let block = blocks.good[piece.index]!
            let start = Int(piece.blockRange.lowerBound - block.rows.lowerBound)
            payload.append(
                block.bytes.getSlice(at: block.bytes.readerIndex + start, length: Int(piece.blockRange.count))!)
        }
        return payload
    }

    /// Rows of an internal block.
    private struct Rows: Sendable {
        let rows: ByteRange
        /// `rows.count` bytes.
        let bytes: ByteBuffer

        /// The bytes of `part`, filled up with zeros to those of `all`, which begins where `part` does.
        func bytes(_ part: ByteRange, paddedTo all: ByteRange) -> ByteBuffer {
            let start = bytes.readerIndex + Int(part.lowerBound - rows.lowerBound)
            let slice = bytes.getSlice(at: start, length: Int(part.count))!
            if part == all { return slice }
            var padded = ByteBufferAllocator().buffer(capacity: Int(all.count))
            padded.writeImmutableBuffer(slice)
            padded.writeRepeatingByte(0, count: Int(all.count - part.count))
            return padded
        }
    }

    /// What is known of the internal blocks of a group, by index.
    private struct Blocks {
        var good: [Int: Rows] = [:]
        var bad: [Int: BlockReadError] = [:]

        mutating func add(_ outcome: Outcome) {
            switch outcome.result {
            case .success(let bytes): good[outcome.index] = Rows(rows: outcome.rows, bytes: bytes)
            case .failure(let error): bad[outcome.index] = error
            }
        }
    }

    private struct Outcome: Sendable {
        let index: Int
        let rows: ByteRange
        let result: Result<ByteBuffer, BlockReadError>
    }

    private func read(_ group: StripedGroup<Source>, _ rows: [Int: ByteRange]) async -> Blocks {
        var blocks = Blocks()
        if rows.count == 1, let (index, rows) = rows.first {
            // The usual case; needs no task of its own.
            blocks.add(await readBlock(group, index, rows))
        } else {
            await withTaskGroup(of: Outcome.self) { tasks in
                for (index, rows) in rows {
                    tasks.addTask { await self.readBlock(group, index, rows) }
                }
                for await outcome in tasks { blocks.add(outcome) }
            }
        }
        return blocks
    }

    private func readBlock(_ group: StripedGroup<Source>, _ index: Int, _ rows: ByteRange) async -> Outcome {
        let block = group.id.internalBlock(index)
        let error: BlockReadError
        if let source = group.sources[index] {
            do throws(BlockReadError) {
                let bytes = try await source.read(
                    block, generationStamp: group.generationStamp, range: rows,
                    expectedLength: StripeLayout(group.policy)
                        .internalBlockLength(index: index, groupLength: group.length))
                precondition(bytes.readableBytes == Int(rows.count))
                return Outcome(index: index, rows: rows, result: .success(bytes))
            } catch let caught {
                error = caught
            }
        } else {
            error = .missing
        }
        switch error {
        case .missing: counters.missingBlocks.add(1, ordering: .relaxed)
        case .tooShort: counters.shortBlocks.add(1, ordering: .relaxed)
        case .corrupt, .damagedChecksums: counters.corruptChunks.add(1, ordering: .relaxed)
        case .inputOutput: counters.readErrors.add(1, ordering: .relaxed)
        }
        onBadBlock(BadBlock(block: block, generationStamp: group.generationStamp, reason: error))
        return Outcome(index: index, rows: rows, result: .failure(error))
    }

    /// The blocks with the wanted rows of bad data blocks added to the good ones.
    private func decode(
        _ group: StripedGroup<Source>, _ wanted: [(index: Int, rows: ByteRange)], _ known: Blocks
    ) async throws(StripingError) -> Blocks {
        var blocks = known
        let layout = StripeLayout(group.policy)
        let rows = ByteRange(
            wanted.map(\.rows.lowerBound).min()!, wanted.map(\.rows.upperBound).max()!)
        // Of each internal block that can be had all rows, filled up with zeros.
        var available: [Int: ByteBuffer] = [:]
        var candidates: [(index: Int, rows: ByteRange)] = []
        for index in 0..<group.policy.totalUnits {
            let length = layout.internalBlockLength(index: index, groupLength: group.length)
            guard let present = rows.intersection(ByteRange(0, length)) else {
                available[index] = ByteBuffer(repeating: 0, count: Int(rows.count))
                continue
            }
            if blocks.bad[index] != nil { continue }
            if let read = blocks.good[index], read.rows.contains(present) {
                available[index] = read.bytes(present, paddedTo: rows)
            } else {
                candidates.append((index, present))
            }
        }
        // As many as are missing, at once; then others for those that turned out bad.
        while available.count < group.policy.dataUnits {
            let missing = group.policy.dataUnits - available.count
            guard candidates.count >= missing else {
                counters.failedReads.add(1, ordering: .relaxed)
                throw .tooManyBadBlocks(
                    blocks.bad.sorted { $0.key < $1.key }.map { index, reason in
                        BadBlock(
                            block: group.id.internalBlock(index), generationStamp: group.generationStamp,
                            reason: reason)
                    })
            }
            let next = candidates.prefix(missing)
            candidates.removeFirst(missing)
            let more = await read(group, Dictionary(uniqueKeysWithValues: next.map { ($0.index, $0.rows) }))
            for (index, read) in more.good { available[index] = read.bytes(read.rows, paddedTo: rows) }
            blocks.bad.merge(more.bad) { $1 }
        }
        do throws(ErasureCodingError) {
            let sources = available.sorted { $0.key < $1.key }
            for (index, _) in wanted {
                blocks.good[index] = Rows(
                    rows: rows, bytes: try decode(group.policy, index, from: sources, count: Int(rows.count)))
            }
        } catch {
            counters.failedReads.add(1, ordering: .relaxed)
            throw .undecodable(error)
        }
        return blocks
    }

    /// Makes `count` bytes of one internal block from those of k others.
    private func decode(
        _ policy: ErasureCodingPolicy, _ wanted: Int, from sources: [(key: Int, value: ByteBuffer)], count: Int
    ) throws(ErasureCodingError) -> ByteBuffer {
        var output = ByteBufferAllocator().buffer(capacity: count)
        try output.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { memory throws(ErasureCodingError) in
            try withBytes(of: sources.map(\.value)[...]) { pointers throws(ErasureCodingError) in
                try ErasureCoder.shared(for: policy).reconstruct(
                    available: zip(sources, pointers).map { (index: $0.key, bytes: $1) },
                    wanted: [(index: wanted, bytes: memory.baseAddress!)], count: count)
            }
            return count
        }
        return output
    }

    private func countDecoded(_ pieces: [StripeLayout.CellPiece]) {
        counters.decodedCells.add(UInt64(pieces.count), ordering: .relaxed)
        counters.decodedStripes.add(UInt64(Set(pieces.map(\.stripe)).count), ordering: .relaxed)
    }
}

/// Calls `body` with pointers to the readable bytes of all buffers.
private func withBytes<Failure: Error>(
    of buffers: ArraySlice<ByteBuffer>, _ pointers: [UnsafeRawPointer] = [],
    _ body: ([UnsafeRawPointer]) throws(Failure) -> Void
) throws(Failure) {
    guard let first = buffers.first else { return try body(pointers) }
    try first.withUnsafeReadableBytes { bytes throws(Failure) in
        try withBytes(of: buffers.dropFirst(), pointers + [bytes.baseAddress!], body)
    }
}
