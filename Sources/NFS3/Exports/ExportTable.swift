// The exports that are in force, and the one place where a call is admitted or refused. Immutable but for which file
// each exported directory is, which is found out by looking its path up: at start, at a reload and at each MNT.
//
// Lock order: `state` and `log` are leaves; nothing is called with one of them held.

internal import FileService
public import Logging
internal import Model
internal import NIOCore
internal import ONCRPC
internal import Synchronization

/// The exports in force. Thread-safe; `replace` may be called at any time, the next call feels it.
public final class ExportTable: Sendable {
    private struct State {
        var exports: [Export]
        /// Exports by the file that is their directory.
        var byRoot: [FileID: Export] = [:]
        /// Goes up with each `replace`, so that a lookup that was under way is not believed afterwards.
        var version: UInt64 = 0
    }

    private struct DenialLog {
        var logged: Set<String> = []
    }

    /// Denials are logged once per client and export, up to so many: memory is bounded whoever comes along.
    static let maxLoggedDenials = 1024

    private let state: Mutex<State>
    private let denialLog = Mutex(DenialLog())
    private let deniedCount = Atomic<UInt64>(0)
    private let logger: Logger?

    /// - Parameter exports: no two with the same path.
    public init(_ exports: [Export] = [.open], logger: Logger? = nil) {
        state = Mutex(State(exports: exports, byRoot: Self.knownRoots(exports)))
        self.logger = logger
    }

    /// As configured, in that order.
    public var exports: [Export] { state.withLock { $0.exports } }

    /// Calls and mounts that were refused because of who called.
    public var denied: UInt64 { deniedCount.load(ordering: .relaxed) }

    /// Puts other exports in force. Their directories are unknown until `NFSPrograms.findExportRoots`; so that mounts
    /// in use see no gap, those of exports that stay are kept.
    public func replace(_ exports: [Export]) {
        state.withLock { state in
            let roots = Dictionary(uniqueKeysWithValues: state.byRoot.map { ($0.value.path, $0.key) })
            state.exports = exports
            state.version += 1
            state.byRoot = Self.knownRoots(exports)
            for export in exports {
                if let root = roots[export.path] { state.byRoot[root] = export }
            }
        }
        denialLog.withLock { $0 = DenialLog() }
    }

    /// The root of the store is the one directory whose file is known without looking.
    private static func knownRoots(_ exports: [Export]) -> [FileID: Export] {
        exports.first { $0.path == .root }.map { [.root: $0] } ?? [:]
    }

    /// The export with the longest path that `path` is at or below, and the version to tell `setRoot`.
    func export(covering path: ArraySlice<FileName>) -> (export: Export, version: UInt64)? {
        state.withLock { state in
            state.exports.filter { path.starts(with: $0.path.names) }
                .max { $0.path.names.count < $1.path.names.count }.map { ($0, state.version) }
        }
    }

    var version: UInt64 { state.withLock { $0.version } }

    /// Notes which directory an export's path leads to; nil for none.
    func setRoot(of path: ExportPath, to root: FileID?, version: UInt64) {
        state.withLock { state in
            guard state.version == version, let export = state.exports.first(where: { $0.path == path }) else {
                return
            }
            for (known, other) in state.byRoot where other.path == path && known != root { state.byRoot[known] = nil }
            if let root { state.byRoot[root] = export }
        }
    }

    /// What a caller may do in the export with this root: NFS3ERR_STALE when it isn't exported (any more),
    /// NFS3ERR_ACCES when it is not for this client or not from this port.
    func client(for call: RPCCall, exportRoot: FileID) throws(NFSStatus) -> Export.Client {
        guard let export = state.withLock({ $0.byRoot[exportRoot] }) else { throw .stale }
        guard let client = client(for: call, in: export) else { throw .accessDenied }
        return client
    }

    /// The rule that admits a caller; nil, counted and logged, when none does.
    func client(for call: RPCCall, in export: Export) -> Export.Client? {
        guard let client = export.clients.first(where: { $0.network.contains(call.clientAddress) }) else {
            deny(call, export, "it is not among the export's clients")
            return nil
        }
        guard client.admitsPort(of: call.clientAddress) else {
            deny(call, export, "its port is not privileged (privilegedPort: false would admit it)")
            return nil
        }
        return client
    }

    private func deny(_ call: RPCCall, _ export: Export, _ reason: String) {
        deniedCount.add(1, ordering: .relaxed)
        guard let logger else { return }
        let host = call.clientHost
        let (isNew, isLast) = denialLog.withLock { log -> (Bool, Bool) in
            guard log.logged.count < Self.maxLoggedDenials else { return (false, false) }
            let isNew = log.logged.insert("\(host) \(export.path)").inserted
            return (isNew, isNew && log.logged.count == Self.maxLoggedDenials)
        }
        if isNew {
            logger.warning(
                "a client was refused",
                metadata: [
                    "client": "\(host)", "export": "\(export.path)", "because": "\(reason)",
                ])
        }
        if isLast { logger.warning("further clients that are refused are counted, not logged") }
    }
}

extension RPCCall {
    /// The caller's address as text, without its port.
    var clientHost: String { clientAddress?.ipAddress ?? "?" }
}
