// Reading the map: what overlaps a range, what comes first, all in order.

public import Model
internal import Synchronization

extension OffsetMap {
    /// A visible entry as it was found.
    public struct Finding: @unchecked Sendable {
        /// The live part.
        public let range: ByteRange
        /// Where the value begins: the bytes of `range` are those of the value from `range.lowerBound - base` on.
        public let base: UInt64
        public let sequence: WriteSequence
        public let value: MapValue
        /// For the maintainer; nobody else may look at it.
        let entry: UnsafeMutablePointer<MapEntry>
    }

    /// The visible entries that share a byte with `range`, whole, ordered by where they begin, then by sequence.
    /// - Parameter through: later sequences are left out.
    public func overlapping(_ range: ByteRange, through: WriteSequence = WriteSequence(rawValue: .max)) -> [Finding] {
        var result: [Finding] = []
        guard !range.isEmpty else { return result }
        domain.pinned { pin in
            visitEntries(range, pin) { entry in
                if let finding = Self.finding(entry, through, in: range, pin) { result.append(finding) }
            }
        }
        result.sort(by: Self.isBefore)
        return result
    }

    /// The visible entry that begins first among those that end after `offset`.
    public func first(
        endingAfter offset: UInt64, through: WriteSequence = WriteSequence(rawValue: .max)
    ) -> Finding? {
        var result: Finding?
        forEach(endingAfter: offset, through: through) { finding in
            result = finding
            return false
        }
        return result
    }

    /// Calls `body` with the visible entries that end after `offset`, ordered by where they begin, then by sequence, until it
    /// returns false. It must not wait for anything.
    public func forEach(
        endingAfter offset: UInt64 = 0, through: WriteSequence = WriteSequence(rawValue: .max),
        _ body: (Finding) -> Bool
    ) {
        domain.pinned { pin in
            // What begins behind the pages seen so far: an entry whose front was taken away.
            var found: [Finding] = []
            var goesOn = true
            func passOn(below end: UInt64) {
                found.sort(by: Self.isBefore)
                let count = found.firstIndex { $0.range.lowerBound >= end } ?? found.count
                for finding in found[..<count] where goesOn { goesOn = body(finding) }
                found.removeFirst(count)
            }
            let firstPage = offset / RadixNode.pageBytes
            visitPages(firstPage == 0 ? 0 : firstPage - 1, .max, pin) { page in
                passOn(below: page.pointee.firstPage * RadixNode.pageBytes)
                guard goesOn else { return false }
                visitLists(page, 0..<RadixNode.pageWords) { entry in
                    if let finding = Self.finding(entry, through, in: ByteRange(offset, .max), pin) {
                        found.append(finding)
                    }
                }
                return true
            }
            if goesOn { passOn(below: .max) }
        }
    }

    private static func isBefore(_ left: Finding, _ right: Finding) -> Bool {
        (left.range.lowerBound, left.sequence) < (right.range.lowerBound, right.sequence)
    }

    /// The entry as it is, if it is visible and shares a byte with the range. Only then the value is retained: an entry may
    /// be looked at by many readers for nothing.
    private static func finding(
        _ entry: UnsafeMutablePointer<MapEntry>, _ through: WriteSequence, in range: ByteRange,
        _ pin: borrowing EpochDomain.Pin
    ) -> Finding? {
        // Pairs with `publish`.
        let sequence = WriteSequence(rawValue: entry.pointee.sequence.load(ordering: .acquiring))
        guard sequence > .zero, sequence <= through else { return nil }
        let live = LivePart(rawValue: entry.pointee.live.load(ordering: .acquiring))
        guard !live.isEmpty else { return nil }
        let base = entry.pointee.base
        let found = ByteRange(base + live.front, base + live.end)
        guard found.overlaps(range) else { return nil }
        return Finding(
            range: found, base: base, sequence: sequence, value: entry.pointee.loadValue(pin), entry: entry)
    }

    // MARK: Walking

    /// Calls `body` with all linked entries that may overlap the range, in no order.
    func visitEntries(
        _ range: ByteRange, _ pin: borrowing EpochDomain.Pin, _ body: (UnsafeMutablePointer<MapEntry>) -> Void
    ) {
        let pageBytes = RadixNode.pageBytes
        let firstPage = range.lowerBound / pageBytes
        let lastPage = (range.upperBound - 1) / pageBytes
        visitPages(firstPage == 0 ? 0 : firstPage - 1, lastPage, pin) { page in
            visitLists(page, Self.lists(page, range), body)
            visitLists(page, RadixNode.longList..<RadixNode.pageWords, body)
            return true
        }
    }

    /// The lists of a page in which short entries may overlap the range.
    static func lists(_ page: RadixNode.Pointer, _ range: ByteRange) -> Range<Int> {
        let start = page.pointee.firstPage * RadixNode.pageBytes
        let end = start + RadixNode.pageBytes
        // An entry that reaches to `lowerBound` begins less than its greatest length before.
        let low = range.lowerBound < RadixNode.shortBytes ? 0 : range.lowerBound - RadixNode.shortBytes + 1
        guard low < end, range.upperBound > start else { return 0..<0 }
        let first = max(low, start) - start
        let last = min(range.upperBound, end) - start - 1
        return Int(first / RadixNode.shortBytes)..<Int(last / RadixNode.shortBytes) + 1
    }

    func visitLists(
        _ page: RadixNode.Pointer, _ lists: Range<Int>, _ body: (UnsafeMutablePointer<MapEntry>) -> Void
    ) {
        for list in lists {
            // Pairs with the push of `insert`; `next` with the unlinking of the maintainer.
            var next = RadixNode.words(page)[list].load(ordering: .acquiring)
            while let entry = UnsafeMutablePointer<MapEntry>(bitPattern: next) {
                body(entry)
                next = entry.pointee.next.load(ordering: .acquiring)
            }
        }
    }

    /// Calls `body` with the pages from `first` to `last` that are there, in order, until it returns false.
    func visitPages(
        _ first: UInt64, _ last: UInt64, _ pin: borrowing EpochDomain.Pin, _ body: (RadixNode.Pointer) -> Bool
    ) {
        guard first <= last, let top = RadixNode.Pointer(bitPattern: root.load(ordering: .acquiring)) else { return }
        _ = visitPages(of: top, first, last, body)
    }

    /// Returns whether to go on.
    private func visitPages(
        of node: RadixNode.Pointer, _ first: UInt64, _ last: UInt64, _ body: (RadixNode.Pointer) -> Bool
    ) -> Bool {
        let low = node.pointee.firstPage
        let level = node.pointee.level
        guard first < low + RadixNode.covered(level), last >= low else { return true }
        if level == 0 { return body(node) }
        let each = RadixNode.covered(level - 1)
        let start = first <= low ? 0 : Int((first - low) / each)
        let end = min(last - low, RadixNode.covered(level) - 1) / each
        for index in start...Int(end) {
            let word = RadixNode.words(node)[index].load(ordering: .acquiring)
            if let child = RadixNode.Pointer(bitPattern: word), !visitPages(of: child, first, last, body) {
                return false
            }
        }
        return true
    }
}
