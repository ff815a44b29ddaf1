// An export as its administrator wrote it: a directory, and who may do what there, in the words of exports(5).
//
// As with exports(5)'s no_subtree_check, a handle is good for as long as its file and its export are there: a file
// that is moved out of the exported directory keeps working by handle. ".." of such a directory leads nowhere.

public import Model
internal import NIOCore
internal import ONCRPC

/// A directory of the store and the clients that it is for.
public struct Export: Hashable, Sendable {
    public enum Access: String, Hashable, Sendable, CaseIterable {
        case readWrite = "rw"
        case readOnly = "ro"
    }

    /// Whose ids become the anonymous ones.
    public enum Squash: String, Hashable, Sendable, CaseIterable {
        case none
        case root
        case all
    }

    /// What some clients may do. AUTH_NONE callers are the anonymous user, whatever `squash` is.
    public struct Client: Hashable, Sendable {
        public var network: ClientNetwork
        public var access: Access
        public var squash: Squash
        public var anonymousUID: UInt32
        public var anonymousGID: UInt32
        /// The source port must be below 1024, which on many systems only root can use: exports(5)'s "secure".
        public var needsPrivilegedPort: Bool

        public init(
            network: ClientNetwork, access: Access = .readWrite, squash: Squash = .root,
            anonymousUID: UInt32 = Credentials.anonymous.uid, anonymousGID: UInt32 = Credentials.anonymous.gid,
            needsPrivilegedPort: Bool = true
        ) {
            self.network = network
            self.access = access
            self.squash = squash
            self.anonymousUID = anonymousUID
            self.anonymousGID = anonymousGID
            self.needsPrivilegedPort = needsPrivilegedPort
        }

        /// IPPORT_RESERVED of BSD and Linux.
        private static let privilegedPorts = 1..<1024

        func admitsPort(of client: SocketAddress?) -> Bool {
            !needsPrivilegedPort || client?.port.map(Self.privilegedPorts.contains) ?? false
        }

        /// Who the caller is in this export.
        func caller(_ credential: RPCCredential) -> Credentials {
            guard case .system(let caller, machineName: _) = credential, squash != .all else {
                return Credentials(uid: anonymousUID, gid: anonymousGID, groups: [])
            }
            guard squash == .root else { return caller }
            // Group 0 is squashed for everyone, as Linux does: it can be worth as much as user 0.
            return Credentials(
                uid: caller.uid == 0 ? anonymousUID : caller.uid, gid: caller.gid == 0 ? anonymousGID : caller.gid,
                groups: caller.groups.map { $0 == 0 ? anonymousGID : $0 })
        }
    }

    public let path: ExportPath
    /// The first whose network has a client decides; a client in none is refused.
    public let clients: [Client]

    public init(path: ExportPath, clients: [Client]) {
        self.path = path
        self.clients = clients
    }

    /// All of the store for everyone, with the ids that clients say: what is served without any configuration.
    public static let open = Export(
        path: .root, clients: [Client(network: .everyone, squash: .none, needsPrivilegedPort: false)])
}
