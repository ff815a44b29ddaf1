// A file system wholly in memory that fails on demand and can lose what was not synced: the twin of
// `Platform.FileSystem` for tests.
//
// A path always starts at the root "/", which exists. Permissions, links and rmdir are left out.
// Thread-safe. Lock order: `state` is the only lock, covers all nodes, and is never held while a hook runs.

internal import Glibc
public import Platform
internal import Synchronization

/// A disk in memory with faults.
public final class SimulatedFileSystem: FileSystem, @unchecked Sendable {
    private let state = Mutex(State())

    public override init() { super.init() }

    /// A disk with these directories, durable, with all their parents.
    public convenience init(directories: [String]) {
        self.init()
        state.withLock { state in
            for directory in directories {
                var node = state.root
                for name in State.components(directory) {
                    let child = node.names[name] ?? SimulatedNode(isDirectory: true)
                    node.names[name] = child
                    node.durableNames[name] = child
                    node = child
                }
            }
        }
    }

    // MARK: Telling it what to do

    /// A lying disk: syncs succeed and do nothing.
    public var ignoresSync: Bool {
        get { state.withLock { $0.ignoresSync } }
        set { state.withLock { $0.ignoresSync = newValue } }
    }

    public func inject(_ fault: Fault) { state.withLock { $0.faults.append((fault, 0)) } }

    /// Whether a fault was injected that was not removed, whether it has come up or not.
    public var hasFaults: Bool { state.withLock { !$0.faults.isEmpty } }

    public func removeFaults() { state.withLock { $0.faults = [] } }

    /// From now on nothing under the prefix is there: calls by name fail with ENOENT, calls on open files
    /// with EIO.
    public func disappear(_ pathPrefix: String) { state.withLock { $0.missingPrefixes.append(pathPrefix) } }

    /// Ends `disappear`; what was there is there again.
    public func reappear(_ pathPrefix: String) {
        state.withLock { $0.missingPrefixes.removeAll { $0 == pathPrefix } }
    }

    /// The files under the prefix may hold so many bytes together; nil: any.
    public func setCapacity(_ bytes: Int?, under pathPrefix: String) {
        state.withLock { $0.capacities[pathPrefix] = bytes }
    }

    /// How many bytes the files under the prefix, as `setCapacity` takes it, hold together.
    public func usedBytes(under pathPrefix: String) -> Int { state.withLock { $0.usedBytes(under: pathPrefix) } }

    /// Files that are open now.
    public var openFileCount: Int { state.withLock { $0.openFiles } }

    /// The process may have so many open; nil: any. What needs one more, to open a file, to sync or to list a directory,
    /// fails with EMFILE.
    public var maxOpenFiles: Int? {
        get { state.withLock { $0.maxOpenFiles } }
        set { state.withLock { $0.maxOpenFiles = newValue } }
    }

    func fileWasClosed() { state.withLock { $0.openFiles -= 1 } }

    /// Calls `body` before each such call, outside of the lock: it may block, and use this file system.
    public func before(_ operation: FileOperation, under pathPrefix: String, _ body: @escaping @Sendable () -> Void) {
        state.withLock { $0.hooks.append((pathPrefix, operation, body)) }
    }

    public func removeHooks() { state.withLock { $0.hooks = [] } }

    /// Calls `before` before and `after` after each call of any kind, outside of the lock: for a simulation, which lets
    /// others run at every call, and writes down what was done.
    public func observe(
        before: @escaping @Sendable (FileOperation) -> Void, after: @escaping @Sendable (FileCall) -> Void
    ) {
        state.withLock { $0.observer = (before, after) }
    }

    /// After so many more calls that change something (open, createDirectory, remove, rename,
    /// syncDirectory, write, sync, truncate) the power is gone: these and all other calls fail with EIO.
    public func losePower(afterCalls calls: Int) { state.withLock { $0.callsUntilPowerLoss = calls } }

    /// False after `crash`, and when `losePower` has struck.
    public var hasPower: Bool { state.withLock { $0.hasPower } }

    /// A power cut. Returns the disk as it is after it: what was synced, and any part of what was not, writes
    /// torn at 512 bytes and in any order. Without faults, hooks and counts; capacities stay.
    /// This one answers EIO to everything from now on.
    public func crash(seed: UInt64) -> SimulatedFileSystem {
        let (root, capacities, splitPaths) = state.withLock { ($0.crash(seed: seed), $0.capacities, $0.splitPaths) }
        let result = SimulatedFileSystem()
        result.state.withLock {
            $0.root = root
            $0.capacities = capacities
            $0.splitPaths = splitPaths
        }
        return result
    }

    /// The end of the process, by SIGKILL say, without a power cut. Returns the disk as the next process finds it: with all
    /// that was written, synced or not. Without faults, hooks and counts; capacities stay.
    /// This one answers EIO to everything from now on.
    public func outlive() -> SimulatedFileSystem {
        let result = SimulatedFileSystem()
        state.withLock { old in
            old.hasPower = false
            result.state.withLock { new in
                new.root = old.root
                new.unsyncedNames = old.unsyncedNames
                new.capacities = old.capacities
                new.splitPaths = old.splitPaths
            }
            old.root = SimulatedNode(isDirectory: true)
            old.unsyncedNames = []
        }
        return result
    }

    // MARK: Seeing and changing it from outside

    /// Whether `callCount` is wanted, which takes time.
    public var countsCalls: Bool {
        get { state.withLock { $0.countsCalls } }
        set { state.withLock { $0.countsCalls = newValue } }
    }

    /// How often an operation was called on paths under the prefix (see `Fault.pathPrefix`), failures included.
    public func callCount(_ operation: FileOperation, under pathPrefix: String = "") -> Int {
        state.withLock { state in
            state.calls[operation, default: [:]].reduce(0) {
                $0 + (matches($1.key, prefix: pathPrefix) ? $1.value : 0)
            }
        }
    }

    /// The content as a reader would see it; nil when there is no such file.
    public func content(of path: String) -> [UInt8]? {
        state.withLock { state in
            guard let node = state.node(path), !node.isDirectory else { return nil }
            return node.content
        }
    }

    /// Damages a file behind everybody's back, durably. The byte must exist.
    public func flipBits(_ path: String, at offset: Int, mask: UInt8 = 0xff) {
        damage(path) { $0[offset] ^= mask }
    }

    /// Replaces a part of a file behind everybody's back, durably. The part must exist.
    public func overwrite(_ path: String, at offset: Int, with bytes: [UInt8]) {
        damage(path) { $0.replaceSubrange(offset..<offset + bytes.count, with: bytes) }
    }

    /// Shortens a file behind everybody's back, durably.
    public func truncate(_ path: String, to size: Int) {
        damage(path) { $0.removeLast($0.count - size) }
    }

    private func damage(_ path: String, _ body: (inout [UInt8]) -> Void) {
        state.withLock { state in
            guard let node = state.node(path), !node.isDirectory else { preconditionFailure("no file \(path)") }
            node.sync()
            body(&node.durableContent)
            node.content = node.durableContent
        }
    }

    // MARK: FileSystem

    public override func open(_ path: String, _ mode: OpenMode) throws(IOError) -> File {
        try call(.open, path, "open") { state throws(IOError) in
            try state.needDescriptor("open", path)
            let (directory, name) = try state.parent(path, "open")
            let node: SimulatedNode
            if let existing = directory.names[name] {
                if mode == .createNew { throw IOError(code: EEXIST, operation: "open", path: path) }
                if existing.isDirectory { throw IOError(code: EISDIR, operation: "open", path: path) }
                node = existing
            } else {
                guard mode == .createNew || mode == .createOrOpen else {
                    throw IOError(code: ENOENT, operation: "open", path: path)
                }
                node = SimulatedNode(isDirectory: false)
                state.change([(directory, name, node)])
            }
            state.openFiles += 1
            return SimulatedFile(path: path, disk: self, node: node, isWritable: mode != .read)
        }
    }

    /// There is only one process in here, so nobody else ever has the lock.
    public override func lock(_ path: String) throws(IOError) -> File { try open(path, .createOrOpen) }

    public override func createDirectory(_ path: String) throws(IOError) {
        try call(.createDirectory, path, "mkdir") { state throws(IOError) in
            let (directory, name) = try state.parent(path, "mkdir")
            guard directory.names[name] == nil else { throw IOError(code: EEXIST, operation: "mkdir", path: path) }
            state.change([(directory, name, SimulatedNode(isDirectory: true))])
        }
    }

    public override func remove(_ path: String) throws(IOError) {
        try call(.remove, path, "unlink") { state throws(IOError) in
            let (directory, name) = try state.parent(path, "unlink")
            guard let node = directory.names[name] else {
                throw IOError(code: ENOENT, operation: "unlink", path: path)
            }
            if node.isDirectory { throw IOError(code: EISDIR, operation: "unlink", path: path) }
            state.change([(directory, name, nil)])
        }
    }

    public override func rename(_ path: String, to target: String) throws(IOError) {
        try call(.rename, path, and: target, "rename") { state throws(IOError) in
            let (source, name) = try state.parent(path, "rename")
            let (directory, newName) = try state.parent(target, "rename")
            guard let node = source.names[name] else {
                throw IOError(code: ENOENT, operation: "rename", path: path)
            }
            if let replaced = directory.names[newName] {
                if replaced === node { return }
                let code: Int32? =
                    switch (node.isDirectory, replaced.isDirectory) {
                    case (false, false): nil
                    case (false, true): EISDIR
                    case (true, false): ENOTDIR
                    case (true, true): replaced.names.isEmpty ? nil : ENOTEMPTY
                    }
                if let code { throw IOError(code: code, operation: "rename", path: path) }
            }
            state.change([(source, name, nil), (directory, newName, node)])
        }
    }

    public override func syncDirectory(_ path: String) throws(IOError) {
        try call(.syncDirectory, path, "fsync") { state throws(IOError) in
            try state.needDescriptor("open", path)
            let directory = try state.directory(path, "open")
            if !state.ignoresSync { state.syncNames(of: directory) }
        }
    }

    public override func list(_ path: String) throws(IOError) -> [String] {
        try call(.list, path, "opendir") { state throws(IOError) in
            try state.needDescriptor("opendir", path)
            return try Array(state.directory(path, "opendir").names.keys)
        }
    }

    public override func status(_ path: String) throws(IOError) -> Status? {
        do throws(IOError) {
            return try call(.status, path, "stat") { state throws(IOError) in
                guard let node = state.node(path) else { return nil }
                return Status(isDirectory: node.isDirectory, size: UInt64(node.content.count), device: 1)
            }
        } catch {
            if error.isNotFound { return nil }
            throw error
        }
    }

    public override func space(_ path: String) throws(IOError) -> Space {
        try call(.space, path, "statvfs") { state throws(IOError) in
            guard state.node(path) != nil else { throw IOError(code: ENOENT, operation: "statvfs", path: path) }
            let total = state.capacity(for: path)?.bytes ?? 1 << 40
            let free = UInt64(min(total, state.room(for: path)))
            return Space(
                totalBytes: UInt64(total), freeBytes: free, availableBytes: free, totalFiles: 1 << 20,
                freeFiles: 1 << 20)
        }
    }

    /// Every call's way: counts it, lets hooks and faults have their say, then runs `body` under the lock.
    /// `failing` is told how many bytes an injected fault lets through.
    func call<Value: Sendable>(
        _ operation: FileOperation, _ path: String, and other: String? = nil, _ name: String,
        at offset: UInt64 = 0, bytes: UnsafeRawBufferPointer? = nil, failing: (Int) -> Void = { _ in },
        _ body: (inout State) throws(IOError) -> Value
    ) throws(IOError) -> Value {
        let (hooks, observer) = state.withLock { state in
            (
                state.hooks.isEmpty
                    ? []
                    : state.hooks.filter { $0.operation == operation && matches(path, prefix: $0.pathPrefix) }
                        .map(\.body),
                state.observer
            )
        }
        for hook in hooks { hook() }
        observer?.before(operation)
        let result: Result<Value, IOError> = state.withLock { state in
            do throws(IOError) {
                if state.countsCalls { state.calls[operation, default: [:]][path, default: 0] += 1 }
                if let fault = state.verdict(operation, path, other) {
                    failing(fault.writtenBytes)
                    throw IOError(code: fault.code, operation: name, path: path)
                }
                return .success(try body(&state))
            } catch {
                return .failure(error)
            }
        }
        if let observer {
            var error: IOError?
            if case .failure(let failure) = result { error = failure }
            observer.after(
                FileCall(operation: operation, path: path, other: other, offset: offset, bytes: bytes, error: error))
        }
        return try result.get()
    }
}
