// What is on top where pending writes overlap: the one with the highest sequence, byte by byte.

internal import Journal
internal import LockFree
public import Model

/// A piece of an accepted WRITE that is not published yet (HDFS: WriteCtx).
public struct PendingWrite: Sendable {
    public let range: ByteRange
    public let sequence: WriteSequence
    /// As long as `range`.
    public let bytes: PendingBytes

    public init(range: ByteRange, sequence: WriteSequence, bytes: PendingBytes) {
        precondition(range.count == UInt64(bytes.count))
        self.range = range
        self.sequence = sequence
        self.bytes = bytes
    }
}

/// Goes through findings of the map, and gives the pieces that are on top.
struct PendingOverlay {
    /// Ordered by where they begin.
    private let findings: ArraySlice<OffsetMap.Finding>
    private let range: ByteRange
    private var position: UInt64
    /// The first that begins behind `position`.
    private var next: Int
    /// Those that have begun, by index, as a heap: the highest sequence first. Some may have ended.
    private var begun: [Int] = []

    /// - Parameters:
    ///   - findings: ordered by where they begin; all that share a byte with `range` are among them.
    ///   - range: what is given out.
    init(_ findings: ArraySlice<OffsetMap.Finding>, in range: ByteRange) {
        self.findings = findings
        self.range = range
        position = range.lowerBound
        next = findings.startIndex
    }

    /// The next piece, in order; they don't overlap. nil at the end.
    mutating func nextPiece() -> PendingWrite? { nextPlace().map { findings[$0.index].piece($0.range) } }

    /// Where the next piece is, and of which finding.
    mutating func nextPlace() -> (index: Int, range: ByteRange)? {
        while position < range.upperBound {
            while next < findings.endIndex, findings[next].range.lowerBound <= position { beginNext() }
            while let top = begun.first, findings[top].range.upperBound <= position { removeTop() }
            guard let top = begun.first else {
                guard next < findings.endIndex else { return nil }
                position = findings[next].range.lowerBound
                continue
            }
            let finding = findings[top]
            var end = min(finding.range.upperBound, range.upperBound)
            while next < findings.endIndex, findings[next].range.lowerBound < end {
                if findings[next].sequence > finding.sequence {
                    end = findings[next].range.lowerBound
                } else {
                    beginNext()
                }
            }
            defer { position = end }
            return (top, ByteRange(position, end))
        }
        return nil
    }

    // MARK: The heap

    private func isAbove(_ left: Int, _ right: Int) -> Bool {
        findings[begun[left]].sequence > findings[begun[right]].sequence
    }

    private mutating func beginNext() {
        begun.append(next)
        next += 1
        var child = begun.count - 1
        while child > 0, isAbove(child, (child - 1) / 2) {
            begun.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func removeTop() {
        begun.swapAt(0, begun.count - 1)
        begun.removeLast()
        var parent = 0
        while true {
            var highest = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < begun.count && isAbove(child, highest) {
                highest = child
            }
            if highest == parent { return }
            begun.swapAt(parent, highest)
            parent = highest
        }
    }
}

extension OffsetMap.Finding {
    /// - Precondition: of a map of pending writes.
    var pending: PendingPayload { unsafeDowncast(value, to: PendingPayload.self) }

    /// These bytes of it.
    func piece(_ range: ByteRange) -> PendingWrite {
        let content = pending.content
        let start: Int
        if case .journaled(let claim, _) = content {
            start = Int(range.lowerBound - claim.offset)
        } else {
            start = Int(range.lowerBound - base)
        }
        return PendingWrite(
            range: range, sequence: sequence, bytes: PendingBytes(content, start..<start + Int(range.count)))
    }
}
