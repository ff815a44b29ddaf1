// Who has mounted what, for DUMP. RFC 1813 §5 has it as a hint: clients that crash never unmount, and nothing here
// depends on it. So it is kept in memory only, and the oldest are dropped when there are too many.

internal import Synchronization

/// The list of mounts. Thread-safe.
final class MountList: Sendable {
    struct Entry: Hashable, Sendable {
        let host: String
        /// The path as the client gave it.
        let directory: [UInt8]
    }

    /// At most 1 KiB of path each, so 1 MiB.
    static let maxEntries = 1024

    private let entries = Mutex<[Entry]>([])

    /// Oldest first.
    var all: [Entry] { entries.withLock { $0 } }

    func add(_ entry: Entry) {
        entries.withLock { entries in
            entries.removeAll { $0 == entry }
            if entries.count == Self.maxEntries { entries.removeFirst() }
            entries.append(entry)
        }
    }

    func remove(_ entry: Entry) { entries.withLock { $0.removeAll { $0 == entry } } }
    func removeAll(of host: String) { entries.withLock { $0.removeAll { $0.host == host } } }
}
