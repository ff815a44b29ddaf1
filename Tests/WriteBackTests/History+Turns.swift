// The turns of a history's drains and dumps, step by step.

import FaultInjection
import Glibc
import LockFree
import Model
import Platform
import Synchronization

@testable import WriteBack

extension History {
    /// The next step of the turn that is out, or the beginning of one.
    func turn(mayFail: Bool = true) async throws(HistoryFailure) {
        if isDumping {
            try await endDump(mayFail: mayFail)
        } else if isLosing {
            try endFailure(mayFail: mayFail)
        } else if isDraining && isPublished {
            try finishDrain()
        } else if isDraining {
            try await publish(mayFail: mayFail)
        } else if isQueued {
            try begin()
        }
    }

    func begin() throws(HistoryFailure) {
        isQueued = false
        var hadRoom = true
        switch file.takeTurn(
            stripeSizeBytes: stripe, limits: limits,
            journalHasRoom: { count in
                hadRoom = journal.hasRoom(for: count)
                return hadRoom
            }, canDump: { dump?.isReady ?? false })
        {
        case .nothing(let freed, let must):
            tell("nothing to drain")
            charged -= freed
            try schedule(must)
        case .dump(let turn):
            tell("dump \(turn.findings.map { cells($0.range) })")
            try check(!turn.findings.isEmpty, "nothing to dump")
            dumpTurn = consume turn
        case .drain(let turn):
            let plan = turn.plan
            tell("drain \(plan.runs.map { cells($0.range) }) through \(plan.sequence) rests: \(plan.rests)")
            drainTurn = consume turn
            try take(plan)
            try check(plan.mayPad || plan.byteCount % stripe == 0, "no full stripes")
            try check(hadRoom || plan.journaling.isEmpty, "journaled without room")
            try checkJournaling(plan)
        }
    }

    private func take(_ plan: DrainPlan) throws(HistoryFailure) {
        self.plan = plan
        planned = [:]
        isPublished = false
        claims = []
        cut = nil
        var end = 0
        for run in plan.runs {
            let place = cells(run.range)
            try check(place.lowerBound >= end && !place.isEmpty, "runs out of order")
            end = place.upperBound
            for cell in place {
                guard let newest = model.newest(cell, plan.sequence) else {
                    throw HistoryFailure(text: "cell \(cell) is drained, and nothing is pending there")
                }
                planned[cell] = newest
            }
        }
        try check(plan.runs.count <= limits.maxRunsPerTurn, "\(plan.runs.count) runs")
    }

    private func checkJournaling(_ plan: DrainPlan) throws(HistoryFailure) {
        if plan.journaling.isEmpty { return }
        tell("journal \(plan.journaling.map { "\($0.range) of \($0.sequence)" })")
        let count = plan.journaling.reduce(0) { $0 + $1.bytes.count }
        try check(
            count <= limits.maxJournaledBytes && plan.journaling.count <= limits.maxRunsPerTurn, "too much is journaled"
        )
        try check(!plan.mayPad, "journaled and padded")
        for piece in plan.journaling {
            try check(!piece.bytes.isJournaled, "\(piece.range) is journaled twice")
            try check(plan.runs.allSatisfy { !$0.range.overlaps(piece.range) }, "striped and journaled")
        }
    }

    /// A turn in a pack, if the file rests. It may be only the first of its bytes.
    func beginPack() throws(HistoryFailure) {
        guard !hasTurn, !isQueued, let turn = file.beginPack() else { return }
        packTurn = turn
        let maxRuns = min(turn.runCount, limits.maxRunsPerTurn)
        let total = Int(turn.byteCount(maxRuns: maxRuns)) / unit
        try check(total > 0, "nothing to pack")
        let count = Bool.random(using: &random) ? total : Int.random(in: 1...total, using: &random)
        let plan = turn.take(maxRuns: maxRuns, bytes: UInt64(count * unit), mayPad: true).plan
        tell("pack \(plan.runs.map { cells($0.range) })")
        try take(plan)
        try check(plan.losesNothing && plan.rests && planned.count == count, "a pack of other bytes")
    }

    /// Brings the bytes to the sink, which makes them durable or fails.
    func publish(mayFail: Bool) async throws(HistoryFailure) {
        let plan = plan!
        if mayFail && fails && unit > 1 && Int.random(in: 0..<8, using: &random) == 0 {
            fileSystem.inject(Fault("/dump/", .read, code: EIO, count: 1))
        }
        if mayFail && fails && Int.random(in: 0..<20, using: &random) == 0 {
            journal.state.withLock { $0.nextLoadsFail = 1 }
        }
        defer { journal.state.withLock { $0.nextLoadsFail = 0 } }
        var error: WriteBackError?
        var bad: String?
        for run in plan.runs where error == nil {
            var reader = DrainReader(run)
            var end = run.range.lowerBound
            do throws(WriteBackError) {
                while let portion = try await reader.nextPortion() {
                    for (cell, value) in values(portion, at: end) where planned[cell]?.value != value {
                        bad = "drained is \(value) in \(cell), not \(planned[cell] as Any)"
                    }
                    end += UInt64(portion.count)
                }
                if end != run.range.upperBound { bad = "too few bytes" }
            } catch let failure {
                try check(fileSystem.hasFaults || failure == .inputOutput && mayFail, "can't be read: \(failure)")
                error = failure
            }
        }
        var journaled: [[UInt8]] = []
        var loaded = DumpedBytes()
        for piece in plan.journaling where error == nil {
            do throws(WriteBackError) {
                journaled.append(try await piece.bytes.load(&loaded).bytes)
            } catch let failure {
                try check(fileSystem.hasFaults, "can't be read: \(failure)")
                error = failure
            }
        }
        if let bad { throw HistoryFailure(text: bad) }
        if error == nil && mayFail && fails && Int.random(in: 0..<5, using: &random) == 0 {
            error = [.inputOutput, .noSpace].randomElement(using: &random)!
        }
        if let error {
            tell("the drain fails: \(error)")
            if plan.losesNothing { return try endInVain() }
            let (must, may) = model.lose(error)
            isLosing = true
            let isLoss = file.beginFailure(error)
            return try check(isLoss ? may : !must, "the verifier changes: \(isLoss)")
        }
        // As a store does: in order with truncates, it asks what was truncated away meanwhile.
        let end = cut ?? model.cells.count
        tell("published below \(end)")
        for cell in planned.keys {
            try check((cell < end) == (offset(cell) < file.drainClip ?? .max), "clipped at \(file.drainClip as Any)")
        }
        for (cell, pending) in planned where cell < end { model.publish(cell, pending, order: plan.sequence) }
        for (piece, bytes) in zip(plan.journaling, journaled) {
            let kept = min(piece.range.upperBound, offset(end))
            guard piece.range.lowerBound < kept else {
                claims.append(nil)
                continue
            }
            let count = Int(kept - piece.range.lowerBound)
            claims.append(
                journal.append(file.fileID, piece.range.lowerBound, piece.sequence, Array(bytes.prefix(count))))
            let start = Int(piece.range.lowerBound - base)
            for cell in start / unit...(start + count - 1) / unit {
                let low = max(cell * unit, start)
                model.journal(cell, piece.sequence, bytes: min((cell + 1) * unit, start + count) - low)
            }
        }
        isPublished = true
    }

    private func endInVain() throws(HistoryFailure) {
        let (freed, must): (Int, Bool)
        if let turn = packTurn.take() {
            (freed, must) = turn.end(isPacked: false)
        } else {
            (freed, must) = file.endInVain(drainTurn.take()!, hasOpenOutput: Bool.random(using: &random))
        }
        charged -= freed
        try schedule(must)
    }

    func finishDrain() throws(HistoryFailure) {
        tell("the drain ends")
        model.finish(planned, through: plan!.sequence)
        let (freed, must): (Int, Bool)
        if let turn = packTurn.take() {
            (freed, must) = turn.end(isPacked: true)
        } else {
            let turn = drainTurn.take()!
            let rests = turn.plan.rests || Bool.random(using: &random)
            (freed, must) = file.finishDrain(turn, claims: claims, hasOpenOutput: !rests)
        }
        claims = []
        plan = nil
        charged -= freed
        try schedule(must)
    }

    func endFailure(mayFail: Bool) throws(HistoryFailure) {
        let turn = drainTurn.take()!
        let isReverted = !mayFail || model.isRemoved || Int.random(in: 0..<20, using: &random) > 0
        tell("the failure ends, reverted: \(isReverted)")
        isLosing = false
        if isReverted {
            file.revert(size: offset(model.publishedSize), usedBytes: 0)
            model.size = max(model.publishedSize, model.journaledSize)
        } else {
            model.isLasting = true
        }
        let cause = model.failing
        model.failing = nil
        let (freed, must) = file.endFailure(cause ?? .inputOutput, isReverted: isReverted, turn: turn)
        charged -= freed
        try schedule(must)
        // Who waited is told; else it stays until somebody is. What the dump has lost is told by the verifier.
        let isToldByVerifier = cause == .dumpLost && isReverted
        let error = cause == .dumpLost && !isReverted ? .inputOutput : cause
        if let error, waiting.isEmpty || !isReverted, !isToldByVerifier { model.untold = error }
        for waiter in waiting {
            if isToldByVerifier && waiter.isCommit {
                guard case .success? = waiter.result else {
                    throw HistoryFailure(text: "a COMMIT was told \(waiter.result as Any) of what the verifier says")
                }
                continue
            }
            guard case .failure(let told)? = waiter.result, told == error ?? told else {
                throw HistoryFailure(text: "who waited was told \(waiter.result as Any), not \(error as Any)")
            }
        }
        waiting = []
    }

    func endDump(mayFail: Bool) async throws(HistoryFailure) {
        let turn = dumpTurn.take()!
        if mayFail && fails && Int.random(in: 0..<4, using: &random) == 0 {
            fileSystem.inject(Fault("/dump/", .write, code: ENOSPC, count: 1, writtenBytes: 3))
        }
        let places = await dump!.append(turn.payloads)
        tell(places == nil ? "could not dump" : "dumped")
        let (freed, must) = file.finishDump(turn, places)
        charged -= freed
        try schedule(must)
        let hasNew = model.cells.contains { $0.pending.contains { !model.isJournaled($0) } }
        try check(places != nil || !hasNew || isQueued, "what can't be dumped isn't drained")
    }
}
