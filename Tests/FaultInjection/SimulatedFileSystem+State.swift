// The state of a `SimulatedFileSystem`, all of it under its lock.

internal import Glibc
internal import Platform

extension SimulatedFileSystem {
    struct State {
        /// A change of names: all its steps or none. A nil node means that the name is gone.
        typealias Step = (directory: SimulatedNode, name: String, node: SimulatedNode?)

        var root = SimulatedNode(isDirectory: true)
        /// Changes of names that no `syncDirectory` has covered yet, oldest first.
        var unsyncedNames: [[Step]] = []
        var ignoresSync = false
        /// Each with the number of calls that it matched.
        var faults: [(fault: Fault, calls: Int)] = []
        var missingPrefixes: [String] = []
        /// Bytes by path prefix.
        var capacities: [String: Int] = [:]
        var hooks: [(pathPrefix: String, operation: FileOperation, body: @Sendable () -> Void)] = []
        var observer: (before: @Sendable (FileOperation) -> Void, after: @Sendable (FileCall) -> Void)?
        var countsCalls = true
        var calls: [FileOperation: [String: Int]] = [:]
        /// Changing calls that still succeed; nil: no power cut is due.
        var callsUntilPowerLoss: Int?
        var hasPower = true
        var splitPaths: [String: [String]] = [:]
        /// Files that are open, and how many may be.
        var openFiles = 0
        var maxOpenFiles: Int?

        /// Throws when no descriptor is left.
        func needDescriptor(_ operation: String, _ path: String) throws(IOError) {
            if let maxOpenFiles, openFiles >= maxOpenFiles {
                throw IOError(code: EMFILE, operation: operation, path: path)
            }
        }
    }
}

extension SimulatedFileSystem.State {
    static func components(_ path: String) -> [String] { path.split(separator: "/").map(String.init) }

    /// The same, remembered: most paths are used again and again.
    mutating func names(in path: String) -> [String] {
        if let known = splitPaths[path] { return known }
        let names = Self.components(path)
        splitPaths[path] = names
        return names
    }

    // MARK: Faults

    /// What makes this call fail, if anything does.
    mutating func verdict(_ operation: FileOperation, _ path: String, _ other: String?) -> Fault? {
        if let calls = callsUntilPowerLoss, operation.changesSomething {
            if calls == 0 { hasPower = false }
            callsUntilPowerLoss = max(0, calls - 1)
        }
        guard hasPower else { return Fault("", code: EIO) }
        func isUnder(_ prefix: String) -> Bool {
            matches(path, prefix: prefix) || other.map { matches($0, prefix: prefix) } ?? false
        }
        if missingPrefixes.contains(where: isUnder) { return Fault("", code: operation.isByName ? ENOENT : EIO) }
        for index in faults.indices {
            let fault = faults[index].fault
            guard fault.operation == nil || fault.operation == operation,
                fault.isWholePath ? path == fault.pathPrefix || other == fault.pathPrefix : isUnder(fault.pathPrefix)
            else { continue }
            faults[index].calls += 1
            let failures = faults[index].calls - fault.afterCalls
            if failures > 0, failures <= fault.count ?? .max { return fault }
        }
        return nil
    }

    /// Cuts the power and returns the tree that is left.
    mutating func crash(seed: UInt64) -> SimulatedNode {
        hasPower = false
        var random = SeededGenerator(seed: seed)
        for change in unsyncedNames where Bool.random(using: &random) { Self.makeDurable(change) }
        unsyncedNames = []
        var survivors: [ObjectIdentifier: SimulatedNode] = [:]
        return Self.survivor(of: root, &survivors, &random)
    }

    /// The durable tree below a node, with what a crash leaves of each file.
    private static func survivor(
        of node: SimulatedNode, _ survivors: inout [ObjectIdentifier: SimulatedNode], _ random: inout SeededGenerator
    ) -> SimulatedNode {
        if let survivor = survivors[ObjectIdentifier(node)] { return survivor }
        let result =
            node.isDirectory
            ? SimulatedNode(isDirectory: true) : SimulatedNode(content: node.contentAfterCrash(using: &random))
        survivors[ObjectIdentifier(node)] = result
        for (name, child) in node.durableNames.sorted(by: { $0.key < $1.key }) {
            result.durableNames[name] = survivor(of: child, &survivors, &random)
        }
        result.names = result.durableNames
        return result
    }

    // MARK: Names

    mutating func node(_ path: String) -> SimulatedNode? {
        var node: SimulatedNode? = root
        for name in names(in: path) { node = node?.names[name] }
        return node
    }

    mutating func directory(_ path: String, _ operation: String) throws(IOError) -> SimulatedNode {
        guard let node = node(path) else { throw IOError(code: ENOENT, operation: operation, path: path) }
        guard node.isDirectory else { throw IOError(code: ENOTDIR, operation: operation, path: path) }
        return node
    }

    /// The directory that holds the path's last name.
    mutating func parent(_ path: String, _ operation: String) throws(IOError) -> (
        directory: SimulatedNode, name: String
    ) {
        let components = names(in: path)
        guard let name = components.last else { throw IOError(code: EISDIR, operation: operation, path: path) }
        var directory = root
        for component in components.dropLast() {
            guard let next = directory.names[component] else {
                throw IOError(code: ENOENT, operation: operation, path: path)
            }
            guard next.isDirectory else { throw IOError(code: ENOTDIR, operation: operation, path: path) }
            directory = next
        }
        return (directory, name)
    }

    mutating func change(_ steps: [Step]) {
        for step in steps { step.directory.names[step.name] = step.node }
        unsyncedNames.append(steps)
    }

    private static func makeDurable(_ steps: [Step]) {
        for step in steps { step.directory.durableNames[step.name] = step.node }
    }

    /// Makes the changes of a directory durable, and the earlier changes of the names that they touch:
    /// a journaling file system cannot keep the later one and forget the earlier.
    mutating func syncNames(of directory: SimulatedNode) {
        struct Name: Hashable {
            let directory: ObjectIdentifier
            let name: String
        }
        var touched: Set<Name> = []
        var kept: [[Step]] = []
        var synced: [[Step]] = []
        for change in unsyncedNames.reversed() {
            let names = change.map { Name(directory: ObjectIdentifier($0.directory), name: $0.name) }
            if change.contains(where: { $0.directory === directory }) || names.contains(where: touched.contains) {
                touched.formUnion(names)
                synced.append(change)
            } else {
                kept.append(change)
            }
        }
        for change in synced.reversed() { Self.makeDurable(change) }
        unsyncedNames = kept.reversed()
    }

    // MARK: Space

    /// The most specific capacity that a path falls under.
    func capacity(for path: String) -> (prefix: String, bytes: Int)? {
        capacities.filter { matches(path, prefix: $0.key) }.max { $0.key.utf8.count < $1.key.utf8.count }
            .map { ($0.key, $0.value) }
    }

    /// By how many bytes the files there may still grow. Files that are open but have no name don't count.
    func room(for path: String) -> Int {
        guard let capacity = capacity(for: path) else { return Int.max / 2 }
        return max(0, capacity.bytes - usedBytes(root, path: "", under: capacity.prefix))
    }

    func usedBytes(under prefix: String) -> Int { usedBytes(root, path: "", under: prefix) }

    private func usedBytes(_ node: SimulatedNode, path: String, under prefix: String) -> Int {
        guard node.isDirectory else { return matches(path, prefix: prefix) ? node.content.count : 0 }
        return node.names.reduce(0) { $0 + usedBytes($1.value, path: path + "/" + $1.key, under: prefix) }
    }
}
