// Whether /proc is that of our own PID namespace. The Swift runtime's thread pool (libdispatch) looks once a second at
// /proc/TID/stat of its threads while it has work waiting, and ends the process with an illegal instruction when it
// can't open one. So a gateway that is started in a new PID namespace with the /proc of the old one would die at some
// moment under load. The same happens when the process, or the machine, has no descriptor left: OpenFileLimit keeps some
// aside, and nothing else does.

import Glibc

enum ProcMount {
    static func check() throws(Refusal) {
        var name = [CChar](repeating: 0, count: 32)
        let count = readlink("/proc/self", &name, name.count)
        let target = String(decoding: name.prefix(max(0, count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
        if target == "\(getpid())" { return }
        throw Refusal(
            .configuration, "/proc is not that of this PID namespace; mount it (unshare --mount-proc does)")
    }
}
