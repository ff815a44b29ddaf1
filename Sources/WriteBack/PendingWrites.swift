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
}

/// The pending writes of one file: pieces that don't overlap, ordered by offset.
public struct PendingWrites: Sendable {
    /// Ordered by offset; no two overlap; none is empty.
    public private(set) var pieces: [PendingWrite] = []
    /// The sum of the pieces' lengths.
    public private(set) var byteCount = 0

    public init() {}

    public var isEmpty: Bool { pieces.isEmpty }

    /// Puts a write on top of what is there.
    /// - Precondition: `sequence` is higher than that of every piece, `payload` is not empty.
    public mutating func insert(_ payload: Payload, at offset: UInt64, sequence: WriteSequence) {
        precondition(!payload.isEmpty)
        let range = ByteRange(offset: offset, count: UInt64(payload.count))
        let write = PendingWrite(range: range, sequence: sequence, payload: payload)
        // The usual case: at the end, or between two pieces.
        let first = indexOfFirst(endingAfter: range.lowerBound)
        if first == pieces.count || pieces[first].range.lowerBound >= range.upperBound {
            pieces.insert(write, at: first)
        } else {
            replace(from: first, within: range, by: write)
        }
        byteCount += payload.count
    }

    /// Forgets what was published: the parts of pieces inside `range` whose sequence is at most `sequence`.
    public mutating func remove(_ range: ByteRange, through sequence: WriteSequence) {
        var index = indexOfFirst(endingAfter: range.lowerBound)
        var kept: [PendingWrite] = []
        let start = index
        while index < pieces.count, pieces[index].range.lowerBound < range.upperBound {
            let piece = pieces[index]
            if piece.sequence > sequence {
                kept.append(piece)
            } else {
                byteCount -= piece.payload.count
                for part in piece.range.subtracting(range) {
                    let rest = piece.clipped(to: part)
                    byteCount += rest.payload.count
                    kept.append(rest)
                }
            }
            index += 1
        }
        pieces.replaceSubrange(start..<index, with: kept)
    }

    /// Forgets everything from `size` on.
    public mutating func truncate(to size: UInt64) {
        guard let last = pieces.last, last.range.upperBound > size else { return }
        remove(ByteRange(size, last.range.upperBound), through: WriteSequence(rawValue: .max))
    }

    public mutating func removeAll() {
        pieces = []
        byteCount = 0
    }

    /// The pieces that overlap `range`, cut to it, in order.
    public func overlapping(_ range: ByteRange) -> [PendingWrite] {
        var result: [PendingWrite] = []
        var index = indexOfFirst(endingAfter: range.lowerBound)
        while index < pieces.count, let part = pieces[index].range.intersection(range) {
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

    /// Cuts what lies under `range` out of the pieces from `first` on and puts `write` there.
    private mutating func replace(from first: Int, within range: ByteRange, by write: PendingWrite) {
        var index = first
        var replacement: [PendingWrite] = []
        var isPlaced = false
        while index < pieces.count, pieces[index].range.lowerBound < range.upperBound {
            let piece = pieces[index]
            byteCount -= piece.payload.count
            for part in piece.range.subtracting(range) {
                if part.lowerBound >= range.upperBound, !isPlaced {
                    replacement.append(write)
                    isPlaced = true
                }
                let rest = piece.clipped(to: part)
                byteCount += rest.payload.count
                replacement.append(rest)
            }
            index += 1
        }
        if !isPlaced { replacement.append(write) }
        pieces.replaceSubrange(first..<index, with: replacement)
    }
}
