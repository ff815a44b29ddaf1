// How many files the process may have open. Shells start programs with 1,024, which is few for a gateway: each
// connection takes one, each block that is written two on each of k + m volumes.

import Glibc
import ONCRPC

enum OpenFileLimit {
    /// Kept for metadata, listening sockets, event loops (three each) and what the libraries open.
    private static let others = 128

    /// More would only cost memory.
    private static let useful: UInt = 65_536

    /// Open files beside connections, if the configuration doesn't say: with 4,096 a group of RS-10-4, which takes 28, is
    /// open for each of seventy files that are written, and 1,792 are for readers.
    private static let defaultFiles = 4096

    /// How many descriptors volumes and connections may have.
    struct Shares: Equatable {
        let volumes: Int
        let connections: Int

        /// A quarter is for connections and others, the rest for the volumes: of 1,024 descriptors 128 and 768. But not
        /// more connections than those for which the server's memory is planned, 4,096, which 16,896 descriptors
        /// allow: each may hold some that no other bound counts. Of 20,000 it is these, and 15,000 for the volumes, were
        /// it not that all files but connections are at most `files`.
        init(of limit: Int, files: Int? = nil) {
            connections = min(RPCBounds().maxConnections, max(16, limit / 4 - others))
            let left = limit - max(limit / 4, connections + others)
            volumes = max(64, min(left, (files ?? defaultFiles) - others))
        }
    }

    /// Raises the soft limit to the hard one, as far as it is of use.
    static func raise(forFiles files: Int?) -> Shares {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            return Shares(of: 1024, files: files)
        }
        var raised = limit
        raised.rlim_cur = max(limit.rlim_cur, min(limit.rlim_max, useful))
        if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) == 0 { limit = raised }
        return Shares(of: Int(min(limit.rlim_cur, useful)), files: files)
    }
}
