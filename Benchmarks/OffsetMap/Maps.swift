// The two maps behind one shape: the lock-free one of the product, and B-trees under locks.

import Glibc
import LockFree
import Model

protocol BenchedMap: AnyObject, Sendable {
    static var name: String { get }
    init()
    func insert(_ value: MapValue, at offset: UInt64, count: Int, sequence: UInt64)
    /// Entries that share a byte with the range.
    func count(overlapping range: ByteRange) -> Int
    /// All in order; returns how many.
    func walk() -> Int
    /// Takes all out and frees it.
    func removeAll()
}

final class LockFreeMap: BenchedMap {
    static let name = "lock-free"
    private let domain = EpochDomain()
    private let map: OffsetMap

    init() { map = OffsetMap(domain) }

    func insert(_ value: MapValue, at offset: UInt64, count: Int, sequence: UInt64) {
        map.publish(map.insert(value, at: offset, count: count, charge: 1), WriteSequence(rawValue: sequence))
    }

    func count(overlapping range: ByteRange) -> Int { map.overlapping(range).count }

    func walk() -> Int {
        var count = 0
        map.forEach { _ in
            count += 1
            return true
        }
        return count
    }

    func removeAll() {
        _ = map.trim(ByteRange(0, 1 << 63), through: WriteSequence(rawValue: .max))
        map.unlinkDead()
        for _ in 0..<4 { domain.collect() }
    }
}

/// B-trees by the megabyte of the file where an entry begins, each under a lock.
final class ShardedTrees: BenchedMap, @unchecked Sendable {
    static let name = "sharded"
    private static let shardCount = 16
    /// The longest entry.
    private static let reach: UInt64 = 1 << 20
    private let trees = (0..<shardCount).map { _ in BTree() }
    private let locks = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: shardCount)

    init() { for index in 0..<Self.shardCount { pthread_mutex_init(locks + index, nil) } }

    private func withTree<Result>(_ index: Int, _ body: (BTree) -> Result) -> Result {
        pthread_mutex_lock(locks + index)
        defer { pthread_mutex_unlock(locks + index) }
        return body(trees[index])
    }

    private static func shard(_ page: UInt64) -> Int { Int(page % UInt64(shardCount)) }

    func insert(_ value: MapValue, at offset: UInt64, count: Int, sequence: UInt64) {
        let entry = TreeEntry(
            offset: offset, sequence: sequence, count: UInt64(count), value: Unmanaged.passRetained(value))
        withTree(Self.shard(offset >> 20)) { $0.insert(entry) }
    }

    func count(overlapping range: ByteRange) -> Int {
        // In order, with the value retained, as the other map gives it.
        var found: [(UInt64, UInt64, MapValue)] = []
        let start = range.lowerBound < Self.reach ? 0 : range.lowerBound - Self.reach + 1
        for page in start >> 20...(range.upperBound - 1) >> 20 {
            let low = max(start, page << 20)
            let high = min(range.upperBound, (page + 1) << 20)
            withTree(Self.shard(page)) { tree in
                tree.forEach(from: low) { entry in
                    guard entry.offset < high else { return false }
                    if entry.offset + entry.count > range.lowerBound {
                        found.append((entry.offset, entry.sequence, entry.value.takeUnretainedValue()))
                    }
                    return true
                }
            }
        }
        return found.count
    }

    func walk() -> Int {
        // A walk in order must merge the shards; all are held meanwhile, so that it sees one moment.
        for index in 0..<Self.shardCount { pthread_mutex_lock(locks + index) }
        defer { for index in 0..<Self.shardCount { pthread_mutex_unlock(locks + index) } }
        var all: [(UInt64, UInt64, MapValue)] = []
        for tree in trees {
            tree.forEach(from: 0) { entry in
                all.append((entry.offset, entry.sequence, entry.value.takeUnretainedValue()))
                return true
            }
        }
        all.sort { ($0.0, $0.1) < ($1.0, $1.1) }
        return all.count
    }

    func removeAll() { for index in 0..<Self.shardCount { withTree(index) { $0.removeAll() } } }

    deinit {
        for index in 0..<Self.shardCount { pthread_mutex_destroy(locks + index) }
        locks.deallocate()
    }
}

/// A flag between threads.
final class PthreadFlag: @unchecked Sendable {
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var value = false

    init() { pthread_mutex_init(lock, nil) }
    deinit { lock.deallocate() }

    var isRaised: Bool {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return value
    }

    func raise() {
        pthread_mutex_lock(lock)
        value = true
        pthread_mutex_unlock(lock)
    }
}
