// What was written to a file and is not published yet, newest byte on top.
//
// Writes arrive here one at a time, each with a higher sequence than all before it, so an arriving write
// simply covers what lies under it: the pieces never overlap, and the highest sequence has won for each
// byte. Nothing is ever dropped because an equal range was seen before (HDFS's OpenFileCtx does that).
//
// Not synchronised: the open file context holds it under its lock.

public import Model
public import Platform

/// A piece of an accepted WRITE that is not published yet (HDFS: WriteCtx).
public struct PendingWrite: Sendable {
    public internal(set) var range: ByteRange
    public let sequence: WriteSequence
    /// The lowest sequence of what is not durable at these places: that of this write, or of an older one under it. Who
    /// was promised the older one must find it or what has covered it.
    fileprivate(set) var oldest: WriteSequence
    /// As long as `range`.
    public internal(set) var payload: Payload

    func clipped(to part: ByteRange) -> PendingWrite {
        var piece = self
        let start = Int(part.lowerBound - range.lowerBound)
        // What is covered bit by bit must not keep the whole buffers that it was received in.
        piece.payload = payload.slice(start..<start + Int(part.count)).compacted()
        piece.range = part
        return piece
    }

    /// Memory that goes with the piece: its buffers, and about 250 bytes that the piece itself, the payload's array and
    /// the allocator's own take.
    fileprivate var heldBytes: Int { payload.bufferBytes + 256 }
}

/// The pending writes of one file: pieces that don't overlap, ordered by offset.
public struct PendingWrites: Sendable {
    /// Ordered by offset; no two overlap; none is empty.
    public private(set) var pieces: [PendingWrite] = []
    /// The sum of the pieces' lengths.
    public private(set) var byteCount = 0
    /// Memory that the pieces keep, which is more than their lengths: one byte may take 300.
    private var heldByPieces = 0
    /// Of a file with something pending: its context, node and places in tables.
    private static let heldByFile = 2048
    /// Memory that all of this keeps.
    public var heldBytes: Int { pieces.isEmpty ? 0 : heldByPieces + Self.heldByFile }

    public init() {}

    public var isEmpty: Bool { pieces.isEmpty }

    /// Puts a write on top of what is there.
    /// - Precondition: `sequence` is higher than that of every piece, `payload` is not empty.
    public mutating func insert(_ payload: Payload, at offset: UInt64, sequence: WriteSequence) {
        precondition(!payload.isEmpty)
        let range = ByteRange(offset: offset, count: UInt64(payload.count))
        // A small write must not keep the large buffer that it came in with others.
        var write = PendingWrite(range: range, sequence: sequence, oldest: sequence, payload: payload.compacted())
        // The usual case: at the end, or between two pieces.
        let first = indexOfFirst(endingAfter: range.lowerBound)
        if first == pieces.count || pieces[first].range.lowerBound >= range.upperBound {
            pieces.insert(write, at: first)
        } else {
            replace(from: first, by: &write)
        }
        count(write, 1)
    }

    private mutating func count(_ piece: PendingWrite, _ sign: Int) {
        byteCount += sign * piece.payload.count
        heldByPieces += sign * piece.heldBytes
    }

    /// Forgets what was published: the parts of pieces inside `ranges` whose sequence is at most `sequence`. One pass over
    /// what lies between the first and the last of the ranges.
    /// - Precondition: the ranges are in order and don't overlap.
    public mutating func remove(_ ranges: [ByteRange], through sequence: WriteSequence) {
        guard let first = ranges.first, let last = ranges.last else { return }
        let start = indexOfFirst(endingAfter: first.lowerBound)
        var index = start
        var kept: [PendingWrite] = []
        var rest = ranges[...]
        while index < pieces.count, pieces[index].range.lowerBound < last.upperBound {
            var piece = pieces[index]
            index += 1
            while let range = rest.first, range.upperBound <= piece.range.lowerBound { rest.removeFirst() }
            guard piece.sequence <= sequence, let range = rest.first, range.overlaps(piece.range) else {
                // What is under the whole of it has become durable.
                if rest.first?.contains(piece.range) == true { piece.oldest = max(piece.oldest, sequence.next) }
                kept.append(piece)
                continue
            }
            count(piece, -1)
            var left = [piece.range]
            // The last of these may reach into the next piece, so it stays in `rest`.
            for range in rest {
                guard range.lowerBound < piece.range.upperBound else { break }
                left = left.flatMap { $0.subtracting(range) }
            }
            for part in left {
                let remaining = piece.clipped(to: part)
                count(remaining, 1)
                kept.append(remaining)
            }
        }
        pieces.replaceSubrange(start..<index, with: kept)
    }

    /// Forgets everything from `size` on.
    public mutating func truncate(to size: UInt64) {
        guard let last = pieces.last, last.range.upperBound > size else { return }
        remove([ByteRange(size, last.range.upperBound)], through: WriteSequence(rawValue: .max))
    }

    public mutating func removeAll() {
        self = PendingWrites()
    }

    /// The lowest sequence of what is not durable; nil without any pieces.
    public var oldest: WriteSequence? { pieces.lazy.map(\.oldest).min() }

    /// The pieces that overlap `range`, cut to it, in order; the first `limit` of them.
    public func overlapping(_ range: ByteRange, limit: Int = .max) -> [PendingWrite] {
        var result: [PendingWrite] = []
        var index = indexOfFirst(endingAfter: range.lowerBound)
        while result.count < limit, index < pieces.count, let part = pieces[index].range.intersection(range) {
            result.append(part == pieces[index].range ? pieces[index] : pieces[index].clipped(to: part))
            index += 1
        }
        return result
    }

    /// The longest ranges without a gap, in order.
    public func runs() -> [ByteRange] {
        var runs: [ByteRange] = []
        for piece in pieces {
            if let last = runs.last, last.upperBound == piece.range.lowerBound {
                runs[runs.count - 1] = ByteRange(last.lowerBound, piece.range.upperBound)
            } else {
                runs.append(piece.range)
            }
        }
        return runs
    }

    /// Index of the first piece that ends after `offset`; `pieces.count` when there is none.
    private func indexOfFirst(endingAfter offset: UInt64) -> Int {
        // Writers append most of the time.
        guard let last = pieces.last, last.range.upperBound > offset else { return pieces.count }
        var low = 0
        var high = pieces.count - 1
        while low < high {
            let middle = (low + high) / 2
            if pieces[middle].range.upperBound > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Cuts what lies under `write` out of the pieces from `first` on and puts `write` there.
    private mutating func replace(from first: Int, by write: inout PendingWrite) {
        let range = write.range
        for piece in pieces[first...].prefix(while: { $0.range.lowerBound < range.upperBound }) {
            write.oldest = min(write.oldest, piece.oldest)
        }
        var index = first
        var replacement: [PendingWrite] = []
        var isPlaced = false
        while index < pieces.count, pieces[index].range.lowerBound < range.upperBound {
            let piece = pieces[index]
            count(piece, -1)
            for part in piece.range.subtracting(range) {
                if part.lowerBound >= range.upperBound, !isPlaced {
                    replacement.append(write)
                    isPlaced = true
                }
                let rest = piece.clipped(to: part)
                count(rest, 1)
                replacement.append(rest)
            }
            index += 1
        }
        if !isPlaced { replacement.append(write) }
        pieces.replaceSubrange(first..<index, with: replacement)
    }
}
