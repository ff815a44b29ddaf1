// Who has mounted what, for DUMP. RFC 1813 §5 has it as a hint: clients that crash never unmount, and nothing here
// depends on it. So it is kept in memory only, and the oldest are dropped when there are too many.
//
// Invariant: DUMP's list of what is here takes `bytes` ≤ `maxBytes`, which is what its reply is charged for.

internal import Synchronization

/// The list of mounts. Thread-safe.
final class MountList: Sendable {
    struct Entry: Hashable, Sendable {
        let host: String
        /// From the root of the store, so that each directory is here once however clients spell its path.
        let directory: ExportPath

        /// In DUMP's list (RFC 1813 §5.2.2): one follows, host and path, each with its length and padding.
        var encodedBytes: Int {
            func padded(_ count: Int) -> Int { 4 + (count + 3) / 4 * 4 }
            return 4 + padded(host.utf8.count) + padded(directory.bytes.count)
        }
    }

    /// Some 60 of the longest paths, thousands of usual ones.
    static let maxBytes = 64 << 10

    fileprivate struct State {
        var entries: [Entry] = []
        var bytes = 0
    }
    private let state = Mutex(State())

    /// Oldest first.
    var all: [Entry] { state.withLock { $0.entries } }

    func add(_ entry: Entry) {
        state.withLock { state in
            state.remove { $0 == entry }
            state.entries.append(entry)
            state.bytes += entry.encodedBytes
            var count = 0
            while state.bytes > Self.maxBytes {
                state.bytes -= state.entries[count].encodedBytes
                count += 1
            }
            state.entries.removeFirst(count)
        }
    }

    func remove(_ entry: Entry) { state.withLock { $0.remove { $0 == entry } } }
    func removeAll(of host: String) { state.withLock { $0.remove { $0.host == host } } }
}

extension MountList.State {
    fileprivate mutating func remove(where isGone: (MountList.Entry) -> Bool) {
        bytes -= entries.lazy.filter(isGone).reduce(0) { $0 + $1.encodedBytes }
        entries.removeAll(where: isGone)
    }
}
