// A sorted map of writes by their offset in a file, for many inserters at once, readers, and one maintainer.
//
// Entries overlap as they like; each has a sequence, and who reads them lets the highest win. An insertion pushes the
// entry on the list of the 64 KiB of the file where it begins, so writers meet at most at the head of one list; the
// lists are the leaves of a radix tree that is as high as the file needs (see `RadixNode`).
//
//   root ─▶ branch of 64 ─▶ … ─▶ page of 1 MiB ─▶ 16 lists of entries that begin in its 64 KiB + 1 of long ones
//
// Insertion has two steps. The entry is linked first, invisible, which needs no lock; then the caller gives it its
// sequence, under the lock that orders everything else of the file (sizes, times, truncates), and with that it is seen.
// So the order of sequences is that of visibility, and whoever holds that lock finds all entries up to the last sequence.
//
// Taking out has two steps as well. Anybody may **trim** what he knows to be durable or void: that shrinks the live part
// of entries with one compare-and-exchange each. Only the **maintainer** unlinks what is dead and replaces values; there
// is one at a time, which the caller sees to (a file's write-back task). So a list changes at its head only, but for
// the maintainer, and an inserter never finds its neighbour gone.
//
// Ordering of the lists: a head is released by the inserter and acquired by whoever walks; `next` of a linked entry is
// released by the maintainer and acquired likewise.

public import Model
internal import Synchronization

/// See the top of this file. Thread-safe, but for the calls of `OffsetMap+Maintenance.swift`.
public final class OffsetMap: @unchecked Sendable {
    /// The longest entry. Longer writes are inserted in parts and published under one sequence.
    public static let maxEntryBytes = Int(RadixNode.pageBytes)

    let domain: EpochDomain
    /// The highest node, 0 while the map is empty. It covers from page 0 on.
    let root = Atomic<UInt>(0)
    private let bytesOfNodes = Atomic<Int>(0)

    public init(_ domain: EpochDomain) {
        self.domain = domain
    }

    deinit {
        // Nobody has a reference any more: what is linked can be freed at once. What was retired is the domain's.
        if let node = RadixNode.Pointer(bitPattern: root.load(ordering: .acquiring)) { freeAll(node) }
    }

    private func freeAll(_ node: RadixNode.Pointer) {
        for index in 0..<RadixNode.wordCount(node.pointee.level) {
            var word = RadixNode.words(node)[index].load(ordering: .acquiring)
            if node.pointee.level > 0 {
                if let child = RadixNode.Pointer(bitPattern: word) { freeAll(child) }
            } else {
                while let entry = UnsafeMutablePointer<MapEntry>(bitPattern: word) {
                    word = entry.pointee.next.load(ordering: .relaxed)
                    MapEntry.dispose(UnsafeMutableRawPointer(entry))
                    domain.countFreed(1)
                }
            }
        }
        RadixNode.free(node)
        domain.countFreed(1)
    }

    /// Memory of the pages and branches, which is beside that of the entries: some 200 bytes for each megabyte of the file
    /// where something is, and up to 600 for each branch above.
    public var nodeBytes: Int { bytesOfNodes.load(ordering: .relaxed) }

    // MARK: Insertion

    /// An entry that is linked and not visible yet. To be published or abandoned, once; it stays where it is until then.
    public struct Insertion: @unchecked Sendable {
        fileprivate let entry: UnsafeMutablePointer<MapEntry>
    }

    /// Links an entry. Lock-free.
    /// - Parameter charge: what the caller's budget is charged for it once it is published; `unlinkDead` gives it back.
    /// - Precondition: 0 < `count` ≤ `maxEntryBytes`; it ends below 2⁶³.
    public func insert(_ value: MapValue, at offset: UInt64, count: Int, charge: Int) -> Insertion {
        precondition(count > 0 && count <= Self.maxEntryBytes && offset < 1 << 63 - UInt64(count))
        let entry = MapEntry.make(value, base: offset, count: count, charge: charge)
        domain.pinned { pin in
            domain.countMade(1, pin)
            // The hold on the page is the entry's from now on.
            let page = holdPage(offset / RadixNode.pageBytes, pin)
            let head = RadixNode.list(page, base: offset, count: UInt64(count))
            var first = head.pointee.load(ordering: .relaxed)
            while true {
                entry.pointee.next.store(first, ordering: .relaxed)
                let result = head.pointee.weakCompareExchange(
                    expected: first, desired: UInt(bitPattern: entry), successOrdering: .releasing,
                    failureOrdering: .relaxed)
                if result.exchanged { return }
                first = result.original
            }
        }
        return Insertion(entry: entry)
    }

    /// Makes the entry visible. To be called under the lock that orders the sequences.
    /// - Precondition: `sequence` is above zero.
    public func publish(_ insertion: Insertion, _ sequence: WriteSequence) {
        precondition(sequence > .zero)
        insertion.entry.pointee.sequence.store(sequence.rawValue, ordering: .releasing)
    }

    /// Drops an entry that was not published; the maintainer unlinks it.
    public func abandon(_ insertion: Insertion) {
        domain.pinned { pin in _ = insertion.entry.pointee.trim(0, .max, pin) }
    }

    /// The page with this number, with a hold on it.
    private func holdPage(_ index: UInt64, _ pin: borrowing EpochDomain.Pin) -> RadixNode.Pointer {
        while true {
            if let page = tryToHoldPage(index, pin) { return page }
        }
    }

    /// nil when the tree must be looked at again: somebody has changed it, or it has grown.
    private func tryToHoldPage(_ index: UInt64, _ pin: borrowing EpochDomain.Pin) -> RadixNode.Pointer? {
        guard var (node, isHeld) = rootCovering(index, pin) else { return nil }
        while node.pointee.level > 0 {
            let word = RadixNode.word(node, to: index)
            if let child = RadixNode.Pointer(bitPattern: word.pointee.load(ordering: .acquiring)) {
                if isHeld { release(node, pin) }
                (node, isHeld) = (child, false)
                continue
            }
            guard isHeld || node.pointee.hold() else {
                takeOut(node, pin)
                return nil
            }
            let child = RadixNode.make(level: node.pointee.level - 1, covering: index)
            domain.countMade(1, pin)
            // Releasing pairs with the acquiring of the words above. Our hold on the branch becomes the child's.
            let isPlaced = word.pointee.compareExchange(
                expected: 0, desired: UInt(bitPattern: child), successOrdering: .releasing, failureOrdering: .relaxed
            ).exchanged
            if isPlaced {
                bytesOfNodes.add(RadixNode.byteCount(child.pointee.level), ordering: .relaxed)
                node = child
            } else {
                RadixNode.free(child)
                domain.countMade(-1, pin)
            }
            isHeld = true
        }
        guard isHeld || node.pointee.hold() else {
            takeOut(node, pin)
            return nil
        }
        return node
    }

    /// The root if it covers the page, and whether the caller has a hold on it; nil when it has grown or somebody else
    /// has changed it.
    private func rootCovering(
        _ page: UInt64, _ pin: borrowing EpochDomain.Pin
    ) -> (node: RadixNode.Pointer, isHeld: Bool)? {
        let old = root.load(ordering: .acquiring)
        let oldRoot = RadixNode.Pointer(bitPattern: old)
        var level = 0
        if let oldRoot {
            if page < RadixNode.covered(oldRoot.pointee.level) { return (oldRoot, false) }
            level = oldRoot.pointee.level + 1
        } else {
            while page >= RadixNode.covered(level) { level += 1 }
        }
        let new = RadixNode.make(level: level, covering: 0)
        domain.countMade(1, pin)
        // The hold that it is made with becomes the old root's; of a first root it is the caller's.
        if oldRoot != nil { RadixNode.words(new)[0].store(old, ordering: .relaxed) }
        let isPlaced = root.compareExchange(
            expected: old, desired: UInt(bitPattern: new), successOrdering: .releasing, failureOrdering: .relaxed
        ).exchanged
        if isPlaced {
            bytesOfNodes.add(RadixNode.byteCount(level), ordering: .relaxed)
            return oldRoot == nil ? (new, true) : nil
        }
        RadixNode.free(new)
        domain.countMade(-1, pin)
        return nil
    }

    /// Gives holds on a node back, and takes out what nothing keeps any more.
    func release(_ node: RadixNode.Pointer, _ pin: borrowing EpochDomain.Pin, _ count: UInt = 1) {
        if node.pointee.release(count) { takeOut(node, pin) }
    }

    /// Takes a sealed node out of the tree, unless somebody else has.
    private func takeOut(_ node: RadixNode.Pointer, _ pin: borrowing EpochDomain.Pin) {
        let pattern = UInt(bitPattern: node)
        while true {
            let top = root.load(ordering: .acquiring)
            if top == pattern {
                // Fails when the root has grown meanwhile; then the node is below it.
                guard
                    root.compareExchange(
                        expected: pattern, desired: 0, successOrdering: .acquiringAndReleasing,
                        failureOrdering: .relaxed
                    ).exchanged
                else { continue }
                retire(node, pin)
                return
            }
            guard var parent = RadixNode.Pointer(bitPattern: top), parent.pointee.level > node.pointee.level,
                node.pointee.firstPage < RadixNode.covered(parent.pointee.level)
            else { return }
            // A node that is in the tree keeps the branches above it, so if it still is, it is found.
            while parent.pointee.level > node.pointee.level + 1 {
                let word = RadixNode.word(parent, to: node.pointee.firstPage).pointee.load(ordering: .acquiring)
                guard let child = RadixNode.Pointer(bitPattern: word) else { return }
                parent = child
            }
            guard
                RadixNode.word(parent, to: node.pointee.firstPage).pointee.compareExchange(
                    expected: pattern, desired: 0, successOrdering: .acquiringAndReleasing, failureOrdering: .relaxed
                ).exchanged
            else { return }
            retire(node, pin)
            release(parent, pin)
            return
        }
    }

    private func retire(_ node: RadixNode.Pointer, _ pin: borrowing EpochDomain.Pin) {
        bytesOfNodes.subtract(RadixNode.byteCount(node.pointee.level), ordering: .relaxed)
        domain.retire(node, pin)
    }
}
