// What a file must be, told with the simplest means: of each cell a list of what was written there and is pending, and what
// was published of it. No map, no overlay, no plan.

import Model

@testable import WriteBack

/// The file as a list of cells, each of some bytes that are written together.
struct HistoryModel {
    struct Pending {
        let sequence: WriteSequence
        let value: UInt8
        let isStable: Bool
        /// How many of the cell's bytes are in the journal.
        var journaledBytes = 0
    }
    struct Published {
        /// Of the write that it came with; zero: a hole.
        var origin = WriteSequence.zero
        /// What the plan said.
        var order = WriteSequence.zero
        var value: UInt8 = 0
    }
    struct Cell {
        /// Oldest first.
        var pending: [Pending] = []
        var published = Published()
        /// The writes that were not truncated away or lost, oldest first.
        var written: [WriteSequence] = []
        /// All values that it ever had.
        var values: [WriteSequence: UInt8] = [:]
    }
    /// Bytes of a cell.
    let unit: Int
    var cells: [Cell]
    /// As clients see it.
    var size = 0
    var publishedSize = 0
    var sequence = WriteSequence.zero
    var isRemoved = false
    /// An error that nobody was told.
    var untold: WriteBackError?
    /// The error of a drain that is being wound up.
    var failing: WriteBackError?
    /// The store didn't know what it had: the file fails for ever.
    var isLasting = false
    /// A write was accepted that is answered before it is durable.
    var hasUnstable = false

    /// Up to this everything was promised to be durable.
    var promised = WriteSequence.zero

    init(cellCount: Int, unit: Int) {
        cells = Array(repeating: Cell(), count: cellCount)
        self.unit = unit
    }

    func isJournaled(_ pending: Pending) -> Bool { pending.journaledBytes >= unit }

    mutating func write(_ values: [UInt8], at low: Int, isStable: Bool) {
        sequence = sequence.next
        for (index, value) in values.enumerated() {
            cells[low + index].pending.append(Pending(sequence: sequence, value: value, isStable: isStable))
            cells[low + index].written.append(sequence)
            cells[low + index].values[sequence] = value
        }
        size = max(size, low + values.count)
        if !isStable { hasUnstable = true }
    }

    mutating func truncate(to size: Int) {
        sequence = sequence.next
        for index in size..<cells.count { cells[index] = Cell() }
        self.size = size
        publishedSize = size
    }

    mutating func remove() {
        isRemoved = true
        untold = nil
        failing = nil
        isLasting = false
        for index in cells.indices {
            cells[index].pending = []
            cells[index].written = []
        }
    }

    /// What a plan up to a sequence must have of a cell.
    func newest(_ cell: Int, _ through: WriteSequence) -> Pending? {
        cells[cell].pending.last { $0.sequence <= through }
    }

    mutating func publish(_ cell: Int, _ pending: Pending, order: WriteSequence) {
        cells[cell].published = Published(origin: pending.sequence, order: order, value: pending.value)
        publishedSize = max(publishedSize, cell + 1)
    }

    /// What was published leaves the pending writes.
    mutating func finish(_ planned: [Int: Pending], through: WriteSequence) {
        for cell in planned.keys { cells[cell].pending.removeAll { $0.sequence <= through } }
    }

    /// So many bytes of a write in a cell are in the journal now.
    mutating func journal(_ cell: Int, _ sequence: WriteSequence, bytes: Int) {
        guard let index = cells[cell].pending.firstIndex(where: { $0.sequence == sequence }) else { return }
        cells[cell].pending[index].journaledBytes += bytes
    }

    /// Behind the last cell of which the journal has something.
    var journaledSize: Int { (cells.lastIndex { $0.pending.contains(where: isJournaled) } ?? -1) + 1 }

    /// A drain has failed: all that is pending and not in the journal is gone. Whether the write verifier must change, and whether it may.
    mutating func lose(_ error: WriteBackError) -> (must: Bool, may: Bool) {
        let hasPending = cells.contains { $0.pending.contains { !isJournaled($0) } }
        let must = cells.contains { $0.pending.last.map { !$0.isStable && !isJournaled($0) } ?? false }
        for index in cells.indices {
            cells[index].pending = cells[index].pending.filter(isJournaled)
            let origin = durableOrigin(index)
            cells[index].written = origin > .zero ? [origin] : []
        }
        if !isRemoved { failing = error }
        return (must && !isRemoved, hasPending && hasUnstable && !isRemoved)
    }

    /// What a reader finds in each cell.
    var visible: [UInt8] { cells[..<size].map { $0.pending.last?.value ?? $0.published.value } }

    /// The newest write of the cell that is durable.
    func durableOrigin(_ cell: Int) -> WriteSequence {
        let journaled = cells[cell].pending.last(where: isJournaled)?.sequence ?? .zero
        return max(journaled, cells[cell].published.origin)
    }

    /// The first cell of which something is owed to a COMMIT that came at that sequence.
    func owed(_ through: WriteSequence) -> Int? {
        cells.indices.first { cell in
            guard let newest = cells[cell].written.last(where: { $0 <= through }) else { return false }
            return durableOrigin(cell) < newest
        }
    }

    /// Why a WRITE or a COMMIT is refused; telling it takes it away.
    mutating func refusal() -> WriteBackError? {
        if isRemoved { return .removed }
        if let failing { return failing }
        defer { if !isLasting { untold = nil } }
        return untold
    }
}
