// Crashes of a history: what a start finds in the store and the journal, and that it is what was promised.

import Glibc
import Journal
import LockFree
import Model

@testable import WriteBack

extension History {
    /// What a start finds of each cell: the newest write of it that is in the store or the journal.
    private func found(includesDead: Bool) throws(HistoryFailure) -> [(origin: WriteSequence, value: UInt8)] {
        var found = model.cells.map { (origin: $0.published.origin, value: $0.published.value) }
        var orders = model.cells.map(\.published.order)
        for record in journal.recovered(file.fileID, includesDead: includesDead) {
            let start = Int(record.offset - base)
            for cell in start / unit...(start + record.bytes.count - 1) / unit {
                let value = record.bytes[max(cell * unit, start) - start]
                guard record.sequence > orders[cell] else { continue }
                try check(
                    model.cells[cell].values[record.sequence] == value,
                    "the journal has \(value) in \(cell) as of \(record.sequence)")
                found[cell] = (record.sequence, value)
                orders[cell] = record.sequence
            }
        }
        return found
    }

    /// What was promised is in the store or in the journal, and what nobody claims there is not needed.
    func checkJournal() throws(HistoryFailure) {
        let live = try found(includesDead: false)
        let all = try found(includesDead: true)
        for cell in model.cells.indices {
            try check(
                live[cell] == all[cell], "cell \(cell) would be \(live[cell]), with what nobody claims \(all[cell])")
            let promised = model.cells[cell].written.last { $0 <= model.promised } ?? .zero
            try check(
                live[cell].origin >= promised, "cell \(cell) would be \(live[cell]); \(promised) was promised")
        }
    }

    /// All that is only in memory is lost, and the file is made anew of what is left.
    func crash() throws(HistoryFailure) {
        if model.isRemoved { return }
        tell("crash")
        try checkJournal()
        let old = file
        let includesDead = Bool.random(using: &random)
        let records = journal.recovered(old.fileID, includesDead: includesDead)
        journal = MemoryJournal(capacity: [.max, 6 * unit, 0].randomElement(using: &random)!)
        var parts: [JournaledPart] = []
        for index in model.cells.indices { model.cells[index].pending = [] }
        for record in records.sorted(by: { $0.sequence < $1.sequence }) {
            let claim = journal.append(old.fileID, record.offset, record.sequence, record.bytes)
            let start = Int(record.offset - base) / unit
            for cell in start..<start + record.bytes.count / unit
            where record.sequence > model.cells[cell].published.order {
                parts.append(JournaledPart(claim, ByteRange(offset: offset(cell), count: UInt64(unit))))
                let value = record.bytes[(cell - start) * unit]
                if model.cells[cell].pending.last?.sequence == record.sequence { continue }
                model.cells[cell].pending.append(
                    HistoryModel.Pending(
                        sequence: record.sequence, value: value, isStable: true, journaledBytes: unit))
            }
        }
        for index in model.cells.indices {
            let origin = model.durableOrigin(index)
            model.cells[index].written = origin > .zero ? [origin] : []
        }
        model.size = max(model.publishedSize, model.journaledSize)
        (model.untold, model.failing, model.isLasting, model.hasUnstable) = (nil, nil, false, false)
        var attributes = testAttributes(old.fileID, size: offset(model.publishedSize))
        attributes.changeTime = changeTime
        // Whoever waits is told something, so that nobody keeps the old file.
        waiting = []
        _ = old.remove()
        drainTurn = nil
        dumpTurn = nil
        (packTurn, plan, claims) = (nil, nil, [])
        (isQueued, isPublished, isLosing, cut, lastArrival) = (false, false, false, nil, .zero)
        file = OpenFileContext(
            attributes: attributes, sequence: model.sequence, epochs: epochs, journaled: parts.shuffled(using: &random))
        charged = file.takeCharge()
        try check(pendingCells == 0 || file.restingBytes != nil, "a file that was recovered does not rest")
    }
}
