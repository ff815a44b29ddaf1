// Chooses what a turn of a file's write-back task drains: which runs, and what is left.

internal import LockFree
internal import Model

/// How much of the pending writes is wanted out.
enum DrainDemand: Int, Comparable {
    case none, fullStripes
    /// Memory: full stripes, or dumping if there are none.
    case relief
    case everything, rest
    static func < (left: DrainDemand, right: DrainDemand) -> Bool { left.rawValue < right.rawValue }
}

/// A look at all that was pending at one moment.
struct DrainPlanner {
    /// A stretch of the file without a gap, as long as can be, and where its writes are among `findings`.
    struct Run {
        let range: ByteRange
        let findings: Range<Int>
    }

    /// Ordered by where they begin.
    private let findings: [OffsetMap.Finding]
    /// In order; between any two is a gap.
    let runs: [Run]

    init(_ map: OffsetMap, through: WriteSequence) {
        var findings: [OffsetMap.Finding] = []
        map.forEach(through: through) {
            findings.append($0)
            return true
        }
        var runs: [Run] = []
        for (index, finding) in findings.enumerated() {
            if let last = runs.last, last.range.upperBound >= finding.range.lowerBound {
                let end = max(last.range.upperBound, finding.range.upperBound)
                runs[runs.count - 1] = Run(
                    range: ByteRange(last.range.lowerBound, end), findings: last.findings.lowerBound..<index + 1)
            } else {
                runs.append(Run(range: finding.range, findings: index..<index + 1))
            }
        }
        self.findings = findings
        self.runs = runs
    }

    /// Bytes that lie in full stripes of runs.
    func fullStripeBytes(_ stripeSizeBytes: Int) -> Int {
        runs.reduce(0) { $0 + Int($1.range.count) / stripeSizeBytes * stripeSizeBytes }
    }

    /// Whether more than half of what is pending lies below newer bytes.
    var isMostlyCovered: Bool {
        findings.reduce(0) { $0 + $1.range.count } > 2 * runs.reduce(0) { $0 + $1.range.count }
    }

    /// What a turn takes: of each chosen run its beginning, or all.
    struct Choice {
        var runs: [(run: Run, range: ByteRange)] = []
        /// Where the next turn begins, if there were more runs than one takes.
        var nextRunOffset: UInt64?
    }

    /// The run that goes on where the file has been drained up to, if it is long enough for a turn of its own: order is worth
    /// waiting for, as ordered extents are few and read fast.
    func chooseInOrder(from nextOffset: UInt64, _ stripeSizeBytes: Int, _ limits: WriteBackLimits) -> Choice {
        var choice = Choice()
        guard let run = runs.first(where: { $0.range.upperBound > nextOffset }), run.range.lowerBound <= nextOffset,
            run.range.upperBound - nextOffset >= max(limits.drainChunkBytes, stripeSizeBytes)
        else { return choice }
        choice.runs = [(run, run.range)]
        cutToFullStripes(&choice, stripeSizeBytes, limits)
        return choice
    }

    /// Runs of at least a stripe, of at most `maxDrainBytes` together. They are full stripes when put one behind the other,
    /// so only the last is cut: what is written backwards, or in many places at once, leaves no remainders behind.
    func chooseFullStripes(_ stripeSizeBytes: Int, _ limits: WriteBackLimits) -> Choice {
        let stripe = UInt64(stripeSizeBytes)
        var choice = Choice()
        var count: UInt64 = 0
        for run in runs
        where run.range.count >= stripe && choice.runs.count < limits.maxRunsPerTurn && count < limits.maxDrainBytes {
            choice.runs.append((run, run.range))
            count += run.range.count
        }
        cutToFullStripes(&choice, stripeSizeBytes, limits)
        return choice
    }

    /// Takes from the end of the choice what is more than a turn takes, or no full stripe.
    private func cutToFullStripes(_ choice: inout Choice, _ stripeSizeBytes: Int, _ limits: WriteBackLimits) {
        let stripe = UInt64(stripeSizeBytes)
        let room = max(UInt64(limits.maxDrainBytes), stripe)
        let count = choice.runs.reduce(0) { $0 + $1.range.count }
        var excess = count - min(count, room) / stripe * stripe
        while excess > 0, let last = choice.runs.last {
            let kept = last.range.count - min(excess, last.range.count)
            excess -= last.range.count - kept
            choice.runs.removeLast()
            if kept > 0 { choice.runs.append((last.run, ByteRange(offset: last.range.lowerBound, count: kept))) }
        }
    }

    /// What is to be dumped: payload in memory, what lies highest in the file first, as it will be drained last. Not what is
    /// so small that most of its memory would stay.
    func chooseToDump(_ limits: WriteBackLimits) -> [OffsetMap.Finding] {
        var chosen: [OffsetMap.Finding] = []
        var count = 0
        for finding in findings.reversed() {
            let bytes = finding.pending.dumpableBytes
            guard bytes >= 2 * PendingPayload.overheadBytes else { continue }
            chosen.append(finding)
            count += bytes
            if count >= limits.maxDumpBytes { break }
        }
        return chosen
    }

    /// All runs, or as many as a turn takes: round and round by offset, so that none waits for ever while others arrive.
    func chooseAll(from offset: UInt64, _ limits: WriteBackLimits, maxBytes: Int = .max) -> Choice {
        var first = 0
        if runs.count > limits.maxRunsPerTurn || maxBytes < .max {
            first = runs.firstIndex { $0.range.lowerBound >= offset } ?? 0
        }
        var choice = Choice()
        var count: UInt64 = 0
        for run in runs[first...].prefix(limits.maxRunsPerTurn) {
            choice.runs.append((run, run.range))
            count += run.range.count
            if count >= maxBytes { break }
        }
        if choice.runs.count < runs.count { choice.nextRunOffset = choice.runs.last?.range.upperBound ?? 0 }
        return choice
    }

    /// The bytes of a choice, newest on top.
    func plan(_ choice: Choice, through: WriteSequence, rests: Bool) -> DrainPlan {
        var drainRuns: [DrainRun] = []
        var oldestLeft: WriteSequence?
        func leave(_ range: Range<Int>, beyond end: UInt64 = 0) {
            for finding in findings[range] where finding.range.upperBound > end {
                oldestLeft = min(oldestLeft ?? finding.sequence, finding.sequence)
            }
        }
        var position = 0
        for (run, range) in choice.runs {
            leave(position..<run.findings.lowerBound)
            position = run.findings.upperBound
            leave(run.findings, beyond: range.upperBound)
            var pieces: [PendingWrite] = []
            var overlay = PendingOverlay(findings[run.findings], in: range)
            while let piece = overlay.nextPiece() { pieces.append(piece) }
            drainRuns.append(DrainRun(range: range, pieces: pieces))
        }
        leave(position..<findings.count)
        return DrainPlan(
            runs: drainRuns, sequence: through, oldestLeft: oldestLeft, rests: rests,
            nextRunOffset: choice.nextRunOffset)
    }
}
