// How the memory that Sluice may use is shared out: one number, `memory`, an eighth of the machine's by default.
//
// Not in it: the program and its libraries, metadata in memory (65,536 inodes with their extents and as many block groups, see
// StoreBounds), SQLite's caches, and what the kernel's sockets hold.

import EmbeddedFileService
import Glibc

/// The shares of the memory budget.
struct MemoryPlan: Equatable {
    /// Less than this can't hold a stripe of each policy beside a few requests.
    static let minimumBytes = 128 << 20

    /// Records that are received, and replies on their way.
    let requestBytes: Int
    let store: StoreMemory

    /// - Parameter totalBytes: at least `minimumBytes`.
    init(totalBytes: Int) {
        precondition(totalBytes >= Self.minimumBytes)
        // Half for what clients have written and the disks have not: it is what evens them out. A quarter for requests: 64
        // MiB are 30 READs of the largest size, more than two disks can serve at once. The rest is for work: reads that must
        // decode, and the stripes being written.
        requestBytes = totalBytes / 4
        store = StoreMemory(
            pendingBytes: totalBytes / 2, decodingBytes: totalBytes / 8, cellBytes: totalBytes / 8)
    }

    /// An eighth of the machine's memory, at least the minimum.
    static var defaultBytes: Int {
        let pages = sysconf(Int32(_SC_PHYS_PAGES))
        let pageBytes = sysconf(Int32(_SC_PAGESIZE))
        guard pages > 0, pageBytes > 0 else { return minimumBytes }
        return max(minimumBytes, pages * pageBytes / 8)
    }

    /// The plan for what the configuration says; nil: nothing.
    init(_ text: String?, isFromFlag: Bool) throws(Refusal) {
        guard let text else {
            self.init(totalBytes: Self.defaultBytes)
            return
        }
        let bytes = try DataSize.bytes(text, key: "memory", isFromFlag: isFromFlag)
        guard bytes >= Self.minimumBytes else {
            throw Refusal(isFromFlag ? .usage : .configuration, "memory: \(text) is too little, the least is 128MiB")
        }
        self.init(totalBytes: bytes)
    }
}
