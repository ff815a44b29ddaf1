// The exports of the procedures fuzzer, who calls, and what each caller may do: read off the list of exports by hand,
// so that it shares nothing with how ExportTable decides.

import FileService
import Model
import NIOCore
import ONCRPC

@testable import NFS3

/// Who the file service may be asked by, for one call.
struct Permit {
    let caller: Credentials
    let mayChange: Bool
}

/// The caller of a call, from one byte of the input: bits 0 to 2 the address, bit 3 a privileged port, bits 4 and 5
/// the ids.
struct FuzzedCaller {
    /// nil: without a credential.
    let credentials: Credentials?
    let client: Int
    let isPrivileged: Bool

    init(_ byte: UInt8, hasCredential: Bool) {
        client = Int(byte & 7)
        isPrivileged = byte & 8 != 0
        let ids: [(uid: UInt32, gid: UInt32, groups: [UInt32])] = [
            (1000, 100, [4]), (0, 0, [0, 4]), (1000, 0, [0]), (0, 100, []),
        ]
        let chosen = ids[Int(byte >> 4 & 3)]
        credentials = hasCredential ? Credentials(uid: chosen.uid, gid: chosen.gid, groups: chosen.groups) : nil
    }

    var credential: RPCCredential { credentials.map { .system($0, machineName: []) } ?? .none }

    var address: SocketAddress? {
        let hosts = [nil, "127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3", "fe80::1", "::1", "192.0.2.1"]
        guard client < hosts.count else { return try? SocketAddress(unixDomainSocketPath: "/s") }
        return hosts[client].flatMap { try? SocketAddress(ipAddress: $0, port: isPrivileged ? 700 : 5000) }
    }
}

enum FuzzedExports {
    /// The last one's directory is not there at first.
    static let all: [Export] = {
        func export(_ path: String, _ clients: (network: String, Export.Client)...) -> Export {
            do {
                return Export(
                    path: try ExportPath(path),
                    clients: try clients.map {
                        var client = $0.1
                        client.network = try ClientNetwork($0.network)
                        return client
                    })
            } catch {
                fatalError("\(path): \(error)")
            }
        }
        typealias Client = Export.Client
        let anyone = ClientNetwork.everyone
        return [
            export(
                "/", ("127.0.0.0/8", Client(network: anyone, squash: .none, needsPrivilegedPort: false)),
                (
                    "10.0.0.0/8",
                    Client(
                        network: anyone, access: .readOnly, squash: .root, anonymousUID: 7, anonymousGID: 8,
                        needsPrivilegedPort: false)
                ), ("fe80::/10", Client(network: anyone, squash: .all))),
            export("/d", ("*", Client(network: anyone))),
            export(
                "/d/e", ("10.1.2.3", Client(network: anyone, squash: .none, needsPrivilegedPort: false)),
                (
                    "::1",
                    Client(
                        network: anyone, access: .readOnly, squash: .all, anonymousUID: 9, anonymousGID: 9,
                        needsPrivilegedPort: false)
                )),
        ]
    }()

    private struct Rule {
        let mayChange: Bool
        /// nil: nobody's ids change.
        var anonymous: (uid: UInt32, gid: UInt32)?
        var isForAll = false
    }

    private static func rule(_ export: Int, _ who: FuzzedCaller) -> Rule? {
        switch (export, who.client) {
        case (0, 1): Rule(mayChange: true)
        case (0, 2), (0, 3): Rule(mayChange: false, anonymous: (7, 8))
        case (0, 4): who.isPrivileged ? Rule(mayChange: true, anonymous: (65534, 65534), isForAll: true) : nil
        case (1, 1...6): who.isPrivileged ? Rule(mayChange: true, anonymous: (65534, 65534)) : nil
        case (2, 2), (2, 3): Rule(mayChange: true)
        case (2, 5): Rule(mayChange: false, anonymous: (9, 9), isForAll: true)
        default: nil
        }
    }

    /// What a caller may do in the export at this place of `all`; nil: nothing.
    static func permit(_ export: Int, _ who: FuzzedCaller) -> Permit? {
        rule(export, who).map { rule in
            let (uid, gid) = rule.anonymous ?? (65534, 65534)
            guard let given = who.credentials, !rule.isForAll else {
                return Permit(caller: Credentials(uid: uid, gid: gid, groups: []), mayChange: rule.mayChange)
            }
            guard rule.anonymous != nil else { return Permit(caller: given, mayChange: rule.mayChange) }
            return Permit(
                caller: Credentials(
                    uid: given.uid == 0 ? uid : given.uid, gid: given.gid == 0 ? gid : given.gid,
                    groups: given.groups.map { $0 == 0 ? gid : $0 }),
                mayChange: rule.mayChange)
        }
    }
}
