// How many files the process may have open. Shells start programs with 1,024, which is few for a gateway: each
// connection takes one, each block that is written two on each of k + m volumes.

import Glibc

enum OpenFileLimit {
    /// Kept for connections, metadata and what the libraries open.
    private static let reserve = 256

    /// More would only cost memory.
    private static let useful: UInt = 65_536

    /// Raises the soft limit to the hard one, as far as it is of use. Returns what the volumes may open.
    static func raise() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 - reserve }
        var raised = limit
        raised.rlim_cur = max(limit.rlim_cur, min(limit.rlim_max, useful))
        if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) == 0 { limit = raised }
        return max(64, Int(min(limit.rlim_cur, useful)) - reserve)
    }
}
