// NFS and MOUNT in this machine's rpcbind (RFC 1833), so that clients find the port by themselves.
//
// libtirpc's calls block, up to minutes when rpcbind hangs. They run on a thread of their own and are given up after
// `patience`; a thread that hangs is left behind.

import CTirpc
import EmbeddedFileService
import Foundation
import Logging
import NFS3
import NIOCore
import Synchronization

/// What was registered.
struct RpcbindRegistration: Sendable {
    private static let programs = [
        NFSPrograms<EmbeddedFileService>.nfsProgram, NFSPrograms<EmbeddedFileService>.mountProgram,
    ]
    private static let version: UInt32 = 3
    private static let patience = Duration.seconds(10)

    private let address: SocketAddress

    /// Registers both programs at the address where they are served. A registration that another server has is left
    /// alone and refused; one of this very address is of a process that is gone, since its port is ours, and replaced.
    static func register(_ address: SocketAddress) async throws(Refusal) -> RpcbindRegistration {
        let outcome = await onThread { () -> Result<RpcbindRegistration, Refusal> in
            Result { () throws(Refusal) in try registerBlocking(address) }
        }
        guard let outcome else {
            throw Refusal(.unavailable, "rpcbind has not answered for \(patience.components.seconds) s")
        }
        return try outcome.get()
    }

    /// Takes the registration back; a failure is logged, since nothing else can be done about it.
    func unregister(log: Logger) async {
        let isDone = await Self.onThread { unregisterBlocking() }
        if isDone != true { log.warning("rpcbind did not take the registration of NFS and MOUNT back") }
    }

    private static func registerBlocking(_ address: SocketAddress) throws(Refusal) -> RpcbindRegistration {
        let registration = RpcbindRegistration(address: address)
        for program in programs {
            if registration.set(program) { continue }
            do throws(Refusal) {
                try registration.takeOver(program)
            } catch {
                registration.unregisterBlocking(before: program)
                throw error
            }
        }
        return registration
    }

    private func takeOver(_ program: UInt32) throws(Refusal) {
        guard let other = registered(program) else {
            throw Refusal(
                .unavailable,
                "this machine's rpcbind doesn't answer or takes no registrations; start it (as root, or with -i for "
                    + "other users), or leave --rpcbind out")
        }
        if other == universalAddress, unset(program), set(program) { return }
        throw Refusal(
            .unavailable,
            "program \(program) version \(Self.version) is registered with rpcbind by another server, at \(other); "
                + "stop that first, or if it is gone: rpcinfo -d \(program) \(Self.version)")
    }

    @discardableResult
    private func unregisterBlocking(before last: UInt32? = nil) -> Bool {
        // One after the other, even if one fails.
        Self.programs.prefix { $0 != last }.map(unset).allSatisfy { $0 }
    }

    /// The netid of RFC 5665.
    private var netid: String { address.protocol == .inet6 ? "tcp6" : "tcp" }

    /// RFC 5665 §5.2.3: the host, then the two bytes of the port.
    private var universalAddress: String {
        let port = address.port ?? 0
        return "\(address.ipAddress ?? "").\(port >> 8).\(port & 0xff)"
    }

    private func withNetwork<Value>(
        _ body: (UnsafeMutablePointer<netconfig>) -> Value
    ) -> Value? {
        guard let network = getnetconfigent(netid) else { return nil }
        defer { freenetconfigent(network) }
        return body(network)
    }

    private func set(_ program: UInt32) -> Bool {
        withNetwork { network in
            address.withSockAddr { pointer, count in
                var buffer = netbuf(
                    maxlen: UInt32(count), len: UInt32(count), buf: UnsafeMutableRawPointer(mutating: pointer))
                return rpcb_set(rpcprog_t(program), rpcvers_t(Self.version), network, &buffer) != 0
            }
        } ?? false
    }

    private func unset(_ program: UInt32) -> Bool {
        withNetwork { rpcb_unset(rpcprog_t(program), rpcvers_t(Self.version), $0) != 0 } ?? false
    }

    /// The universal address under which a program is registered; nil when it isn't or rpcbind doesn't answer.
    private func registered(_ program: UInt32) -> String? {
        withNetwork { network -> String? in
            var next = rpcb_getmaps(network, address.protocol == .inet6 ? "::1" : "127.0.0.1")
            while let entry = next {
                let map = entry.pointee.rpcb_map
                if UInt32(truncatingIfNeeded: map.r_prog) == program,
                    UInt32(truncatingIfNeeded: map.r_vers) == Self.version, String(cString: map.r_netid) == netid
                {
                    return String(cString: map.r_addr)
                }
                next = entry.pointee.rpcb_next
            }
            return nil
        } ?? nil
    }

    /// The result of `work`, or nil after `patience`.
    private static func onThread<Value: Sendable>(_ work: @escaping @Sendable () -> Value) async -> Value? {
        await withCheckedContinuation { continuation in
            let waiting = Waiting(continuation)
            Thread.detachNewThread { waiting.end(work()) }
            Task {
                try? await Task.sleep(for: patience)
                waiting.end(nil)
            }
        }
    }

    /// Resumes once.
    private final class Waiting<Value: Sendable>: Sendable {
        private let continuation: Mutex<CheckedContinuation<Value?, Never>?>

        init(_ continuation: CheckedContinuation<Value?, Never>) { self.continuation = Mutex(continuation) }

        func end(_ value: Value?) {
            let continuation = self.continuation.withLock { waiting in
                defer { waiting = nil }
                return waiting
            }
            continuation?.resume(returning: value)
        }
    }
}
