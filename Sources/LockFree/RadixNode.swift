// The nodes of an `OffsetMap`'s radix tree: pages, which hold entries, and branches, which hold 64 nodes each.
//
// A node is kept by its **holds**: one for each thing that hangs in it (entries in a page, nodes in a branch), and one
// for each inserter that is about to hang something in it. When the last hold goes, the node is **sealed**: it takes
// none any more, so nothing can be hung in it, and whoever comes upon it, the one who sealed it or an inserter, takes it
// out of the tree. Nobody waits for anybody.
//
// Invariant: a node that is not sealed is in the tree, or was never shown to anybody.

internal import Synchronization

/// A node, followed by its words: heads of entry lists in a page, nodes in a branch. 0 is none.
struct RadixNode: ~Copyable {
    /// A page is a megabyte of the file: entries are as long at most, so those that reach into a page begin in it or in
    /// the one before it.
    static let pageBytes: UInt64 = 1 << 20
    /// Entries of at most so many bytes are found by where in the page they begin.
    static let shortBytes: UInt64 = 1 << 16
    /// Lists of a page by where short entries begin, and one more for the long ones, of which few fit in a page.
    static let shortLists = Int(pageBytes / shortBytes)
    static let longList = shortLists
    static let pageWords = shortLists + 1
    static let branchBits = 6
    static let branchWords = 1 << branchBits

    private static let sealed = UInt.max

    var retired: Retired
    private let holds = Atomic<UInt>(1)
    /// 0 for a page; a branch of level n covers 64ⁿ pages.
    let level: Int
    /// The first page that it covers, counted in pages.
    private(set) var firstPage: UInt64

    private init(level: Int, firstPage: UInt64) {
        retired = Retired(next: nil, dispose: RadixNode.dispose)
        self.level = level
        self.firstPage = firstPage
    }

    typealias Pointer = UnsafeMutablePointer<RadixNode>

    /// Makes a node with one hold, the caller's.
    /// - Parameter page: one that it covers.
    static func make(level: Int, covering page: UInt64) -> Pointer {
        let words = wordCount(level)
        let block = UnsafeMutableRawPointer.allocate(
            byteCount: byteCount(level), alignment: MemoryLayout<RadixNode>.alignment)
        let node = block.bindMemory(to: RadixNode.self, capacity: 1)
        let mask = level == 0 ? 0 : covered(level) - 1
        node.initialize(to: RadixNode(level: level, firstPage: page & ~mask))
        let first = (block + MemoryLayout<RadixNode>.stride).bindMemory(to: Atomic<UInt>.self, capacity: words)
        for index in 0..<words { (first + index).initialize(to: Atomic(0)) }
        return node
    }

    private static let dispose: @convention(c) (UnsafeMutableRawPointer) -> Void = { block in
        let node = block.assumingMemoryBound(to: RadixNode.self)
        words(node).deinitialize(count: wordCount(node.pointee.level))
        // For who looks too late, as in `MapEntry`.
        node.pointee.firstPage = .max
        node.deinitialize(count: 1)
        block.deallocate()
    }

    /// Frees a node that nobody else can reach.
    static func free(_ node: Pointer) { dispose(UnsafeMutableRawPointer(node)) }

    /// Pages below a node of this level. Levels go up to 8, which covers more than any file.
    static func covered(_ level: Int) -> UInt64 { 1 << UInt64(level * branchBits) }

    static func words(_ node: Pointer) -> UnsafeMutablePointer<Atomic<UInt>> {
        (UnsafeMutableRawPointer(node) + MemoryLayout<RadixNode>.stride).assumingMemoryBound(to: Atomic<UInt>.self)
    }

    static func wordCount(_ level: Int) -> Int { level == 0 ? pageWords : branchWords }

    /// Memory of a node.
    static func byteCount(_ level: Int) -> Int {
        MemoryLayout<RadixNode>.stride + wordCount(level) * MemoryLayout<Atomic<UInt>>.stride
    }

    /// The word of a branch that leads to a page.
    static func word(_ branch: Pointer, to page: UInt64) -> UnsafeMutablePointer<Atomic<UInt>> {
        let below = (branch.pointee.level - 1) * branchBits
        return words(branch) + Int((page >> UInt64(below)) % UInt64(branchWords))
    }

    /// The list of a page where an entry belongs.
    static func list(_ page: Pointer, base: UInt64, count: UInt64) -> UnsafeMutablePointer<Atomic<UInt>> {
        words(page) + (count > shortBytes ? longList : Int(base % pageBytes / shortBytes))
    }

    // MARK: Holds

    /// Whether the hold was taken: not if the node is sealed.
    borrowing func hold() -> Bool {
        var count = holds.load(ordering: .relaxed)
        while count != RadixNode.sealed {
            // Acquiring, and releasing in `release`: whoever seals sees the node as all others left it.
            let result = holds.weakCompareExchange(
                expected: count, desired: count + 1, successOrdering: .acquiring, failureOrdering: .relaxed)
            if result.exchanged { return true }
            count = result.original
        }
        return false
    }

    /// Gives holds back. Returns whether the node is sealed by this: the caller then takes it out.
    borrowing func release(_ count: UInt = 1) -> Bool {
        let left = holds.subtract(count, ordering: .acquiringAndReleasing).newValue
        guard left == 0 else { return false }
        return holds.compareExchange(expected: 0, desired: RadixNode.sealed, ordering: .acquiringAndReleasing).exchanged
    }
}
