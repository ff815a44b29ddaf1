// NFS, MOUNT and the lock manager that refuses in this machine's rpcbind (RFC 1833), so that clients find the port by
// themselves.
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
    /// A program at an address.
    struct Mapping: Equatable, Sendable {
        let program: UInt32
        let version: UInt32
        let address: SocketAddress
    }

    /// NFS and MOUNT.
    static func served(at address: SocketAddress) -> [Mapping] {
        addresses(of: address).flatMap { address in
            [NFSPrograms<EmbeddedFileService>.nfsProgram, NFSPrograms<EmbeddedFileService>.mountProgram].map {
                Mapping(program: $0, version: 3, address: address)
            }
        }
    }

    /// NLM, in the versions that are in use. Registered so that a client that looks for it is refused: without a
    /// registration Linux asks rpcbind again and again, and who waits for the lock hangs.
    static func lockManager(at address: SocketAddress) -> [Mapping] {
        addresses(of: address).flatMap { address in
            [1, 3, 4].map {
                Mapping(program: NFSPrograms<EmbeddedFileService>.lockProgram, version: $0, address: address)
            }
        }
    }

    /// Where a socket that listens at this address is reached. At "::" also by IPv4, since SwiftNIO clears
    /// IPV6_V6ONLY; rpcbind tells an IPv4 client of nothing but "tcp".
    private static func addresses(of address: SocketAddress) -> [SocketAddress] {
        guard address.protocol == .inet6, address.ipAddress == "::", let port = address.port,
            let both = try? SocketAddress(ipAddress: "0.0.0.0", port: port)
        else { return [address] }
        return [address, both]
    }

    private static let patience = Duration.seconds(10)

    private var mappings: [Mapping] = []

    /// Registers the programs at the address where they are served, at "::" for both families. A registration of NFS or MOUNT that another server
    /// has is left alone and refused; one of this very address is of a process that is gone, since its port is ours, and
    /// replaced. A lock manager that another has, the kernel's for what this machine mounts, is left to it.
    static func register(_ address: SocketAddress, log: Logger) async throws(Refusal) -> RpcbindRegistration {
        let outcome = await onThread { () -> Result<RpcbindRegistration, Refusal> in
            Result { () throws(Refusal) in try registerBlocking(address, log: log) }
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

    private static func registerBlocking(_ address: SocketAddress, log: Logger) throws(Refusal) -> RpcbindRegistration {
        var registration = RpcbindRegistration()
        do throws(Refusal) {
            for mapping in served(at: address) {
                guard let other = try registration.add(mapping) else { continue }
                throw Refusal(
                    .unavailable,
                    "program \(mapping.program) version \(mapping.version) is registered with rpcbind by another server, "
                        + "at \(other); stop that first, or if it is gone: "
                        + "rpcinfo -d \(mapping.program) \(mapping.version)")
            }
            for mapping in lockManager(at: address) {
                guard let other = try registration.add(mapping) else { continue }
                log.warning(
                    """
                    the lock manager (program \(mapping.program) version \(mapping.version)) registered with rpcbind is \
                    another server's, at \(other): it can't lock files of this gateway
                    """)
            }
        } catch {
            registration.unregisterBlocking()
            throw error
        }
        return registration
    }

    /// Returns the universal address of another server that has it.
    private mutating func add(_ mapping: Mapping) throws(Refusal) -> String? {
        if !mapping.set() {
            guard let other = mapping.registered() else {
                throw Refusal(
                    .unavailable,
                    "this machine's rpcbind doesn't answer or takes no registrations; start it (as root, or with -i for "
                        + "other users), or leave --rpcbind out")
            }
            guard other == mapping.universalAddress, mapping.unset(), mapping.set() else { return other }
        }
        mappings.append(mapping)
        return nil
    }

    /// Leaves alone what another server has registered over ours, as the kernel's lock manager does.
    @discardableResult
    private func unregisterBlocking() -> Bool {
        // One after the other, even if one fails.
        mappings.filter { $0.registered() == $0.universalAddress }.map { $0.unset() }.allSatisfy { $0 }
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

/// libtirpc's calls; they block.
extension RpcbindRegistration.Mapping {
    /// The netid of RFC 5665.
    var netid: String { address.protocol == .inet6 ? "tcp6" : "tcp" }

    /// RFC 5665 §5.2.3: the host, then the two bytes of the port.
    var universalAddress: String {
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

    fileprivate func set() -> Bool {
        withNetwork { network in
            address.withSockAddr { pointer, count in
                var buffer = netbuf(
                    maxlen: UInt32(count), len: UInt32(count), buf: UnsafeMutableRawPointer(mutating: pointer))
                return rpcb_set(rpcprog_t(program), rpcvers_t(version), network, &buffer) != 0
            }
        } ?? false
    }

    fileprivate func unset() -> Bool {
        withNetwork { rpcb_unset(rpcprog_t(program), rpcvers_t(version), $0) != 0 } ?? false
    }

    /// The universal address under which the program is registered; nil when it isn't or rpcbind doesn't answer.
    fileprivate func registered() -> String? {
        withNetwork { network -> String? in
            var next = rpcb_getmaps(network, address.protocol == .inet6 ? "::1" : "127.0.0.1")
            while let entry = next {
                let map = entry.pointee.rpcb_map
                if map.r_prog == program, map.r_vers == version, String(cString: map.r_netid) == netid {
                    return String(cString: map.r_addr)
                }
                next = entry.pointee.rpcb_next
            }
            return nil
        } ?? nil
    }
}
