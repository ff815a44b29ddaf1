// What the map is compared with: a B-tree in raw memory, as good as a person would make it in an afternoon.
//
// Keys are (offset, sequence). Insertion splits full nodes on the way down. All goes at once, which favours the tree.

import LockFree

/// What an entry of the tree is: 32 bytes, without a block of its own.
struct TreeEntry {
    var offset: UInt64
    var sequence: UInt64
    var count: UInt64
    var value: Unmanaged<MapValue>

    func isBefore(_ offset: UInt64, _ sequence: UInt64) -> Bool {
        self.offset != offset ? self.offset < offset : self.sequence < sequence
    }
}

/// Not synchronised.
final class BTree {
    private static let order = 64

    private struct Node {
        var count = 0
        let isLeaf: Bool
        let entries: UnsafeMutablePointer<TreeEntry>
        /// Of a branch: `count` + 1.
        let children: UnsafeMutablePointer<UnsafeMutablePointer<Node>>?

        static func make(isLeaf: Bool) -> UnsafeMutablePointer<Node> {
            let node = UnsafeMutablePointer<Node>.allocate(capacity: 1)
            node.initialize(
                to: Node(
                    isLeaf: isLeaf, entries: .allocate(capacity: order),
                    children: isLeaf ? nil : .allocate(capacity: order + 1)))
            return node
        }

        /// The index of the first entry that is not before this key.
        func index(_ offset: UInt64, _ sequence: UInt64) -> Int {
            var low = 0
            var high = count
            while low < high {
                let middle = (low + high) / 2
                if entries[middle].isBefore(offset, sequence) { low = middle + 1 } else { high = middle }
            }
            return low
        }

        mutating func insert(_ entry: TreeEntry, at index: Int) {
            (entries + index + 1).update(from: entries + index, count: count - index)
            entries[index] = entry
            count += 1
        }
    }

    private var root = Node.make(isLeaf: true)

    deinit { free(root) }

    private func free(_ node: UnsafeMutablePointer<Node>) {
        if let children = node.pointee.children {
            for index in 0...node.pointee.count { free(children[index]) }
            children.deallocate()
        }
        for index in 0..<node.pointee.count { node.pointee.entries[index].value.release() }
        node.pointee.entries.deallocate()
        node.deallocate()
    }

    func insert(_ entry: TreeEntry) {
        if root.pointee.count == Self.order {
            let old = root
            root = Node.make(isLeaf: false)
            root.pointee.children![0] = old
            split(root, 0)
        }
        var node = root
        while true {
            var index = node.pointee.index(entry.offset, entry.sequence)
            guard let children = node.pointee.children else {
                node.pointee.insert(entry, at: index)
                return
            }
            if children[index].pointee.count == Self.order {
                split(node, index)
                if node.pointee.entries[index].isBefore(entry.offset, entry.sequence) { index += 1 }
            }
            node = children[index]
        }
    }

    /// Splits the full child with this index; the parent has room.
    private func split(_ parent: UnsafeMutablePointer<Node>, _ index: Int) {
        let left = parent.pointee.children![index]
        let right = Node.make(isLeaf: left.pointee.isLeaf)
        let middle = Self.order / 2
        let moved = Self.order - middle - 1
        right.pointee.entries.update(from: left.pointee.entries + middle + 1, count: moved)
        right.pointee.count = moved
        if let children = left.pointee.children {
            right.pointee.children!.update(from: children + middle + 1, count: moved + 1)
        }
        let children = parent.pointee.children!
        (children + index + 2).update(from: children + index + 1, count: parent.pointee.count - index)
        children[index + 1] = right
        left.pointee.count = middle
        parent.pointee.insert(left.pointee.entries[middle], at: index)
    }

    /// Calls `body` with the entries at or after `offset` in order, until it returns false.
    func forEach(from offset: UInt64, _ body: (TreeEntry) -> Bool) {
        _ = walk(root, offset, body)
    }

    private func walk(_ node: UnsafeMutablePointer<Node>, _ offset: UInt64, _ body: (TreeEntry) -> Bool) -> Bool {
        var index = node.pointee.index(offset, 0)
        while true {
            if let children = node.pointee.children, !walk(children[index], offset, body) { return false }
            guard index < node.pointee.count else { return true }
            if !body(node.pointee.entries[index]) { return false }
            index += 1
        }
    }

    /// Forgets everything at once; to remove entry by entry would only cost more.
    func removeAll() {
        free(root)
        root = Node.make(isLeaf: true)
    }
}
