// Measures the map of pending writes beside B-trees under locks: `tools/bench-map`.
//
//     mapbench [ENTRIES [PAIRS]]      10⁶ entries, five pairs
//
// For each order of writes and number of threads, in turns of one map and the other: what an insertion takes by the clock
// of the wall, the longest 0.1 % of insertions while another thread walks the map again and again (a drain that plans),
// a look-up of 64 KiB, a walk in order and taking out, for each entry. Prints medians and the ratio of each pair.

import CLinux
import Glibc
import LockFree
import Model

struct Figures {
    var insert = 0.0
    var find = 0.0
    var walk = 0.0
    var remove = 0.0
    var bytes = 0.0
}

func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Runs the work on so many threads at once; nanoseconds from the start to the end of the last.
func onThreads(_ count: Int, _ work: @escaping @Sendable (Int) -> Void) -> UInt64 {
    final class Job: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
    let start = now()
    var threads: [pthread_t] = []
    for index in 0..<count {
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            {
                Unmanaged<Job>.fromOpaque($0!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(Job { work(index) }).toOpaque())
        threads.append(thread)
    }
    for thread in threads { pthread_join(thread, nil) }
    return now() - start
}

/// Orders in which writers come.
enum Workload: String, CaseIterable {
    /// 4 KiB each, in a random order inside windows of 16 MiB.
    case window
    /// 4 KiB each, anywhere in a terabyte.
    case scattered
    /// 64 KiB each, one after the other.
    case sequential

    func offset(_ index: Int) -> UInt64 {
        func mixed(_ value: UInt64) -> UInt64 {
            var value = value &+ 0x9e37_79b9_7f4a_7c15
            value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
            value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
            return value ^ (value >> 31)
        }
        switch self {
        case .window:
            // An odd multiplier permutes the 4,096 places of a window.
            let window = UInt64(index) >> 12
            let place = (UInt64(index) &* (mixed(window) | 1)) & 4095
            return window << 24 | place << 12
        case .scattered: return mixed(UInt64(index)) >> 24 & ~4095
        case .sequential: return UInt64(index) << 16
        }
    }

    var count: Int { self == .sequential ? 1 << 16 : 4096 }
}

func measure<Map: BenchedMap>(_: Map.Type, _ workload: Workload, _ threads: Int, _ entries: Int) -> Figures {
    let map = Map()
    let value = MapValue()
    var figures = Figures()
    let before = mallinfo2().uordblks
    // Thread t has the entries t, t + threads, …: they write beside each other, as event loops that share a file.
    let inserting = onThreads(threads) { thread in
        var index = thread
        while index < entries {
            map.insert(value, at: workload.offset(index), count: workload.count, sequence: UInt64(index) + 1)
            index += threads
        }
    }
    figures.insert = Double(inserting) / Double(entries)
    figures.bytes = Double(mallinfo2().uordblks - before) / Double(entries)
    let looks = min(entries, 20_000)
    var start = now()
    var found = 0
    for index in 0..<looks {
        let offset = workload.offset(index * (entries / looks)) & ~0xFFFF
        found += map.count(overlapping: ByteRange(offset, offset + 1 << 16))
    }
    precondition(found >= looks)
    figures.find = Double(now() - start) / Double(looks)
    start = now()
    precondition(map.walk() == entries)
    figures.walk = Double(now() - start) / Double(entries)
    start = now()
    map.removeAll()
    figures.remove = Double(now() - start) / Double(entries)
    precondition(map.walk() == 0)
    return figures
}

/// The longest 0.1 % of insertions begins here, in nanoseconds, while another thread walks.
func tail<Map: BenchedMap>(_: Map.Type, _ entries: Int) -> Double {
    let map = Map()
    let value = MapValue()
    for index in 0..<entries {
        map.insert(value, at: Workload.window.offset(index), count: 4096, sequence: UInt64(index) + 1)
    }
    let times = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: 10_000)
    defer { times.deallocate() }
    let flag = PthreadFlag()
    nonisolated(unsafe) let slots = times
    _ = onThreads(2) { thread in
        if thread == 0 {
            while !flag.isRaised { _ = map.walk() }
        } else {
            for index in 0..<slots.count {
                let start = now()
                map.insert(
                    value, at: Workload.window.offset(entries + index), count: 4096,
                    sequence: UInt64(entries + index) + 1)
                slots[index] = now() - start
            }
            flag.raise()
        }
    }
    return Double(times.sorted()[times.count * 999 / 1000])
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
}

func rounded(_ value: Double, _ digits: Int = 0) -> String {
    let scale = pow(10.0, Double(digits))
    let number = (value * scale).rounded() / scale
    return digits == 0 ? String(Int(number)) : String(number)
}

/// One line of the table.
func printLine(_ what: String, _ ours: [Double], _ theirs: [Double]) {
    let ratios = zip(ours, theirs).map { $0 / $1 }
    print(
        padded(what, 38) + padded(rounded(median(ours)), 11) + padded(rounded(median(theirs)), 11)
            + rounded(median(ratios), 2) + "  (\(rounded(ratios.min()!, 2)) … \(rounded(ratios.max()!, 2)))")
    // Also into a pipe line by line: all of it takes minutes.
    fflush(nil)
}

let arguments = CommandLine.arguments.dropFirst().compactMap { Int($0) }
let entries = arguments.first ?? 1_000_000
let pairs = arguments.dropFirst().first ?? 5
print("\(entries) entries, \(pairs) pairs; nanoseconds for each entry, ratio below 1: the lock-free map takes less\n")
print(padded("", 38) + padded("lock-free", 11) + padded("sharded", 11) + "ratio (spread)")
for workload in Workload.allCases {
    for threads in [1, 2, 4, 8] {
        var ours: [Figures] = []
        var theirs: [Figures] = []
        for _ in 0..<pairs {
            ours.append(measure(LockFreeMap.self, workload, threads, entries))
            theirs.append(measure(ShardedTrees.self, workload, threads, entries))
        }
        printLine("\(workload.rawValue), \(threads) threads: insert", ours.map(\.insert), theirs.map(\.insert))
        guard threads == 1 else { continue }
        printLine("\(workload.rawValue): look up 64 KiB", ours.map(\.find), theirs.map(\.find))
        printLine("\(workload.rawValue): walk in order", ours.map(\.walk), theirs.map(\.walk))
        printLine("\(workload.rawValue): take out and free", ours.map(\.remove), theirs.map(\.remove))
        printLine("\(workload.rawValue): bytes of memory", ours.map(\.bytes), theirs.map(\.bytes))
    }
}
var ourTail: [Double] = []
var theirTail: [Double] = []
for _ in 0..<pairs {
    ourTail.append(tail(LockFreeMap.self, entries / 10))
    theirTail.append(tail(ShardedTrees.self, entries / 10))
}
printLine("slowest 0.1 % of inserts under a walk", ourTail, theirTail)
