// Chooses what a turn of a file's write-back task drains: which runs, and what is left.

internal import LockFree
internal import Model
internal import Platform

/// How much of the pending writes is wanted out.
enum DrainDemand: Int, Comparable {
    case none, fullStripes, everything, rest
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

    /// What a turn takes: of each chosen run its beginning, or all.
    struct Choice {
        var runs: [(run: Run, range: ByteRange)] = []
        /// Where the next turn begins, if there were more runs than one takes.
        var nextRunOffset: UInt64?
    }

    /// Full stripes of runs, of at most `maxDrainBytes` together.
    func chooseFullStripes(_ stripeSizeBytes: Int, _ limits: WriteBackLimits) -> Choice {
        var choice = Choice()
        var room = UInt64(limits.maxDrainBytes)
        let stripe = UInt64(stripeSizeBytes)
        for run in runs where choice.runs.count < limits.maxRunsPerTurn {
            let count = min(run.range.count, max(room, stripe)) / stripe * stripe
            guard count > 0 else { continue }
            choice.runs.append((run, ByteRange(offset: run.range.lowerBound, count: count)))
            room = room > count ? room - count : 0
            if room == 0 { break }
        }
        return choice
    }

    /// All runs, or as many as a turn takes: round and round by offset, so that none waits for ever while others arrive.
    func chooseAll(from offset: UInt64, _ limits: WriteBackLimits) -> Choice {
        guard runs.count > limits.maxRunsPerTurn else { return Choice(runs: runs.map { ($0, $0.range) }) }
        let first = runs.firstIndex { $0.range.lowerBound >= offset } ?? 0
        let chosen = runs[first...].prefix(limits.maxRunsPerTurn)
        return Choice(runs: chosen.map { ($0, $0.range) }, nextRunOffset: chosen.last?.range.upperBound ?? 0)
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
            var payload = Payload()
            var overlay = PendingOverlay(findings[run.findings], in: range)
            while let piece = overlay.nextPiece() { payload.append(piece.payload) }
            drainRuns.append(DrainRun(range: range, payload: payload))
        }
        leave(position..<findings.count)
        return DrainPlan(
            runs: drainRuns, sequence: through, oldestLeft: oldestLeft, rests: rests,
            nextRunOffset: choice.nextRunOffset)
    }
}
