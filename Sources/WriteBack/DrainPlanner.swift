// Chooses what a turn of a file's write-back task does with what is pending: which runs are striped, what is journaled, and
// what is left.

internal import LockFree
internal import Model

/// How much of the pending writes is wanted out.
enum DrainDemand: Int, Comparable {
    case none, fullStripes
    /// Memory: full stripes, or letting go of what is journaled, or dumping if there is neither.
    case relief
    /// Durable: striped, or in the journal.
    case everything
    /// The same, and nothing stays open.
    case rest
    /// Out of the journal: striped, whether that makes full stripes or not.
    case unjournal
    static func < (left: DrainDemand, right: DrainDemand) -> Bool { left.rawValue < right.rawValue }
}

/// A look at all that was pending at one moment.
struct DrainPlanner {
    /// A stretch of the file without a gap, as long as can be, and where its writes are among `findings`.
    struct Run {
        let range: ByteRange
        let findings: Range<Int>
        /// How many of these are not in the journal.
        let newCount: Int
    }

    /// Ordered by where they begin.
    private let findings: [OffsetMap.Finding]
    /// In order; between any two is a gap.
    let runs: [Run]
    /// Those of runs that are passed over, too.
    let allRanges: [ByteRange]

    /// - Parameter onlyNew: runs of which all is in the journal are passed over.
    init(_ map: OffsetMap, through: WriteSequence, onlyNew: Bool = false) {
        var findings: [OffsetMap.Finding] = []
        map.forEach(through: through) {
            findings.append($0)
            return true
        }
        self.init(findings, onlyNew: onlyNew)
    }

    /// A look at what overlaps the ranges, whole. What else is pending may lie on top of it outside of the ranges, or make its
    /// runs longer: good for journaling what begins and ends inside of them, not for striping.
    /// - Precondition: the ranges are in order, and between any two is a gap.
    init(_ map: OffsetMap, through: WriteSequence, in ranges: [ByteRange]) {
        var findings: [OffsetMap.Finding] = []
        var end: UInt64 = 0
        for range in ranges {
            // What begins before the end of an earlier range, and reaches here, was found there.
            findings += map.overlapping(range, through: through).drop { $0.range.lowerBound < end }
            end = range.upperBound
        }
        self.init(findings, onlyNew: true)
    }

    private init(_ findings: [OffsetMap.Finding], onlyNew: Bool) {
        var runs: [Run] = []
        for (index, finding) in findings.enumerated() {
            let new = finding.pending.isJournaled ? 0 : 1
            if let last = runs.last, last.range.upperBound >= finding.range.lowerBound {
                let end = max(last.range.upperBound, finding.range.upperBound)
                runs[runs.count - 1] = Run(
                    range: ByteRange(last.range.lowerBound, end), findings: last.findings.lowerBound..<index + 1,
                    newCount: last.newCount + new)
            } else {
                runs.append(Run(range: finding.range, findings: index..<index + 1, newCount: new))
            }
        }
        self.findings = findings
        allRanges = runs.map(\.range)
        self.runs = onlyNew ? runs.filter { $0.newCount > 0 } : runs
    }

    /// Bytes that lie in full stripes of runs.
    func fullStripeBytes(_ stripeSizeBytes: Int) -> Int {
        runs.reduce(0) { $0 + Int($1.range.count) / stripeSizeBytes * stripeSizeBytes }
    }

    /// Whether more than half of what is pending in the runs lies below newer bytes.
    var isMostlyCovered: Bool {
        let written = runs.reduce(0) { $0 + findings[$1.findings].reduce(0) { $0 + $1.range.count } }
        return written > 2 * runs.reduce(0) { $0 + $1.range.count }
    }

    /// Whether something is not in the journal.
    var hasNew: Bool { runs.contains { $0.newCount > 0 } }

    /// How many pieces are in the journal.
    var journaledCount: Int { findings.count { $0.pending.isJournaled } }

    /// What a turn takes.
    struct Choice {
        struct Part {
            let run: Run
            /// What is striped of the run: its beginning, or all, or nothing.
            var end: UInt64
            /// Whether the rest of it is journaled.
            var journalsRest = false

            var stripedBytes: UInt64 { end - run.range.lowerBound }
        }
        var parts: [Part] = []
        /// Where the next turn begins, if there were more runs than one takes.
        var nextRunOffset: UInt64?
        var mayPad = false

        var stripedBytes: UInt64 { parts.reduce(0) { $0 + $1.stripedBytes } }

        /// Takes from the end of what is striped what is more than a turn takes, or no full stripe.
        mutating func cutToFullStripes(_ stripeSizeBytes: Int, maxBytes: Int = .max) {
            let stripe = UInt64(stripeSizeBytes)
            let count = stripedBytes
            cut(to: min(count, max(UInt64(maxBytes), stripe)) / stripe * stripe)
        }

        /// Takes from the end of what is striped what is more than so many bytes.
        mutating func cut(to count: UInt64) {
            var excess = stripedBytes - min(count, stripedBytes)
            for index in parts.indices.reversed() where excess > 0 {
                let taken = min(excess, parts[index].stripedBytes)
                parts[index].end -= taken
                excess -= taken
            }
        }
    }

    /// The run that goes on where the file has been drained up to, if it is long enough for a turn of its own: order is worth
    /// waiting for, as ordered extents are few and read fast.
    func chooseInOrder(from nextOffset: UInt64, _ stripeSizeBytes: Int, _ limits: WriteBackLimits) -> Choice {
        var choice = Choice()
        guard let run = runs.first(where: { $0.range.upperBound > nextOffset }), run.range.lowerBound <= nextOffset,
            run.range.upperBound - nextOffset >= max(limits.drainChunkBytes, stripeSizeBytes)
        else { return choice }
        choice.parts = [Choice.Part(run: run, end: run.range.upperBound)]
        choice.cutToFullStripes(stripeSizeBytes, maxBytes: limits.maxDrainBytes)
        return choice
    }

    /// Runs of at least a stripe, of at most `maxDrainBytes` together. They are full stripes when put one behind the other,
    /// so only the last is cut: what is written backwards, or in many places at once, leaves no remainders behind.
    func chooseFullStripes(_ stripeSizeBytes: Int, _ limits: WriteBackLimits) -> Choice {
        let stripe = UInt64(stripeSizeBytes)
        var choice = Choice()
        var count: UInt64 = 0
        for run in runs
        where run.range.count >= stripe && choice.parts.count < limits.maxRunsPerTurn && count < limits.maxDrainBytes {
            choice.parts.append(Choice.Part(run: run, end: run.range.upperBound))
            count += run.range.count
        }
        choice.cutToFullStripes(stripeSizeBytes, maxBytes: limits.maxDrainBytes)
        return choice
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

    /// What is journaled and in memory as well.
    func chooseToRelease() -> [OffsetMap.Finding] {
        findings.filter { if case .journaled(_, _?) = $0.pending.content { true } else { false } }
    }

    /// All runs, or as many as a turn takes: round and round by offset, so that none waits for ever while others arrive. If it
    /// isn't the last turn it takes full stripes.
    func chooseAll(
        from offset: UInt64, _ stripeSizeBytes: Int, _ limits: WriteBackLimits, maxBytes: Int = .max
    ) -> Choice {
        var choice = chooseNext(
            from: offset, limits, isAll: runs.count <= limits.maxRunsPerTurn && maxBytes == .max, maxBytes: maxBytes)
        choice.mayPad = true
        if choice.nextRunOffset != nil, choice.stripedBytes >= stripeSizeBytes {
            choice.cutToFullStripes(stripeSizeBytes)
            choice.nextRunOffset = choice.parts.last { $0.stripedBytes > 0 }?.end
        }
        return choice
    }

    private func chooseNext(
        from offset: UInt64, _ limits: WriteBackLimits, isAll: Bool, maxBytes: Int = .max, maxNew: Int = .max
    ) -> Choice {
        let first = isAll ? 0 : runs.firstIndex { $0.range.lowerBound >= offset } ?? 0
        var choice = Choice()
        var count: UInt64 = 0
        var newCount = 0
        for run in runs[first...].prefix(limits.maxRunsPerTurn) {
            if newCount > 0, newCount + run.newCount > maxNew { break }
            choice.parts.append(Choice.Part(run: run, end: run.range.upperBound))
            count += run.range.count
            newCount += run.newCount
            if count >= maxBytes { break }
        }
        if choice.parts.count < runs.count { choice.nextRunOffset = choice.parts.last?.run.range.upperBound ?? 0 }
        return choice
    }

    /// Everything, or as much as a turn takes, made durable: runs of at least a stripe are striped where they stand, the rest
    /// is journaled. If that is too much, all full stripes are striped that small pieces make, one behind the other. If
    /// the journal has no room, all is striped.
    func planDurable(
        _ place: Place, from offset: UInt64, _ stripeSizeBytes: Int, _ limits: WriteBackLimits,
        journalHasRoom: (Int) -> Bool
    ) -> Planned {
        let isAll =
            runs.count <= limits.maxRunsPerTurn && runs.reduce(0) { $0 + $1.newCount } <= limits.maxRunsPerTurn
        var all = chooseNext(from: offset, limits, isAll: isAll, maxNew: limits.maxRunsPerTurn)
        for index in all.parts.indices { all.parts[index].journalsRest = true }
        var long = all
        for index in long.parts.indices where long.parts[index].run.range.count < stripeSizeBytes {
            long.parts[index].end = long.parts[index].run.range.lowerBound
        }
        for var choice in [long, all] {
            choice.cutToFullStripes(stripeSizeBytes)
            let planned = plan(choice, place)
            let count = planned.plan.journalingByteCount
            if count <= limits.maxJournaledBytes, planned.journaling.count <= limits.maxRunsPerTurn,
                count == 0 || journalHasRoom(count)
            {
                return planned
            }
        }
        all.mayPad = true
        return plan(all, place)
    }

    /// All that is new is journaled.
    func planJournal(_ through: WriteSequence) -> Planned {
        var choice = Choice()
        choice.parts = runs.map { Choice.Part(run: $0, end: $0.range.lowerBound, journalsRest: true) }
        return plan(choice, Place(through: through, rests: false))
    }

    /// Where in the file's life a plan is made.
    struct Place {
        let through: WriteSequence
        let rests: Bool
    }

    /// A plan, and what it needs of the map.
    struct Planned {
        let plan: DrainPlan
        let journaling: [OffsetMap.Finding]
        let covered: [OffsetMap.Finding]
        /// How many pieces were in the journal, of what is striped or covered.
        let formerlyJournaled: Int
    }

    /// The bytes of a choice, newest on top.
    func plan(_ choice: Choice, _ place: Place) -> Planned {
        var drainRuns: [DrainRun] = []
        var journaling: (pieces: [PendingWrite], findings: [OffsetMap.Finding]) = ([], [])
        var covered: [OffsetMap.Finding] = []
        var formerlyJournaled = 0
        var oldestLeft: WriteSequence?
        func leave(_ range: Range<Int>, beyond end: UInt64 = 0) {
            for finding in findings[range] where finding.range.upperBound > end && !finding.pending.isJournaled {
                oldestLeft = min(oldestLeft ?? finding.sequence, finding.sequence)
            }
        }
        var position = 0
        for part in choice.parts {
            let run = part.run
            leave(position..<run.findings.lowerBound)
            position = run.findings.upperBound
            if part.stripedBytes > 0 {
                let range = ByteRange(run.range.lowerBound, part.end)
                var pieces: [PendingWrite] = []
                var overlay = PendingOverlay(findings[run.findings], in: range)
                while let piece = overlay.nextPiece() { pieces.append(piece) }
                drainRuns.append(DrainRun(range: range, pieces: pieces))
                formerlyJournaled += findings[run.findings].count {
                    $0.pending.isJournaled && $0.range.upperBound <= part.end
                }
            }
            if !part.journalsRest {
                leave(run.findings, beyond: part.end)
                continue
            }
            let isOnTop = isOnTop(run, from: part.end)
            for index in run.findings where findings[index].range.upperBound > part.end {
                let finding = findings[index]
                if !isOnTop[index - run.findings.lowerBound] {
                    covered.append(finding)
                    if finding.pending.isJournaled { formerlyJournaled += 1 }
                } else if !finding.pending.isJournaled {
                    let low = max(finding.range.lowerBound, part.end)
                    journaling.pieces.append(finding.piece(ByteRange(low, finding.range.upperBound)))
                    journaling.findings.append(finding)
                }
            }
        }
        leave(position..<findings.count)
        let plan = DrainPlan(
            runs: drainRuns, journaling: journaling.pieces, mayPad: choice.mayPad, sequence: place.through,
            oldestLeft: oldestLeft, rests: place.rests, nextRunOffset: choice.nextRunOffset)
        return Planned(
            plan: plan, journaling: journaling.findings, covered: covered, formerlyJournaled: formerlyJournaled)
    }

    /// Of each of the run's findings: whether a byte of it is on top, at or behind an offset.
    private func isOnTop(_ run: Run, from offset: UInt64) -> [Bool] {
        var result = [Bool](repeating: false, count: run.findings.count)
        guard offset < run.range.upperBound else { return result }
        var overlay = PendingOverlay(findings[run.findings], in: ByteRange(offset, run.range.upperBound))
        while let place = overlay.nextPlace() { result[place.index - run.findings.lowerBound] = true }
        return result
    }
}
