// The turns of a history's drains and dumps, step by step.

import FaultInjection
import Glibc
import LockFree
import Model
import Platform

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
        switch file.takeTurn(stripeSizeBytes: stripe, limits: limits, canDump: { dump?.isReady ?? false }) {
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
            self.plan = plan
            planned = [:]
            isPublished = false
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
    }

    /// Brings the bytes to the sink, which makes them durable or fails.
    func publish(mayFail: Bool) async throws(HistoryFailure) {
        let plan = plan!
        if mayFail && fails && unit > 1 && Int.random(in: 0..<8, using: &random) == 0 {
            fileSystem.inject(Fault("/dump/", .read, code: EIO, count: 1))
        }
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
                try check(fileSystem.hasFaults, "the dump can't be read: \(failure)")
                error = failure
            }
        }
        if let bad { throw HistoryFailure(text: bad) }
        if error == nil && mayFail && fails && Int.random(in: 0..<5, using: &random) == 0 {
            error = [.inputOutput, .noSpace].randomElement(using: &random)!
        }
        if let error {
            tell("the drain fails: \(error)")
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
        isPublished = true
    }

    func finishDrain() throws(HistoryFailure) {
        tell("the drain ends")
        let turn = drainTurn.take()!
        model.finish(planned, through: turn.plan.sequence)
        let rests = turn.plan.rests || Bool.random(using: &random)
        let (freed, must) = file.finishDrain(turn, hasOpenOutput: !rests)
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
            model.size = model.publishedSize
        } else {
            model.isLasting = true
        }
        let cause = model.failing
        model.failing = nil
        charged -= file.endFailure(cause ?? .inputOutput, isReverted: isReverted, turn: turn)
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
        try check(places != nil || pendingCells == 0 || isQueued, "what can't be dumped isn't drained")
    }
}
