// What a store should hold, as simple as can be: every byte of every file in an array.

import FileService
import Model

/// A file of the model.
struct ModelFile: Equatable {
    private(set) var bytes: [UInt8] = []
    /// Whether somebody wrote the byte since the last truncate below it; the others are holes.
    private(set) var isHeld: [Bool] = []

    init(size: Int = 0) { truncate(to: size) }

    var usedBytes: Int { isHeld.count { $0 } }

    mutating func write(_ new: [UInt8], at offset: Int) {
        guard !new.isEmpty else { return }
        truncate(to: max(bytes.count, offset + new.count))
        bytes.replaceSubrange(offset..<offset + new.count, with: new)
        isHeld.replaceSubrange(offset..<offset + new.count, with: repeatElement(true, count: new.count))
    }

    mutating func truncate(to size: Int) {
        if size < bytes.count {
            bytes.removeLast(bytes.count - size)
            isHeld.removeLast(isHeld.count - size)
        } else {
            bytes += Array(repeating: 0, count: size - bytes.count)
            isHeld += Array(repeating: false, count: size - isHeld.count)
        }
    }
}

/// A tree of directories and files, which may have several names.
struct ModelTree {
    enum Content {
        case file(ModelFile)
        case directory([FileName: FileReference])
        case symbolicLink(LinkTarget)
        case fifo
    }

    let root: FileReference
    private(set) var nodes: [FileReference: Content]
    /// Of directories.
    private(set) var parents: [FileReference: FileReference]

    init(root: FileReference) {
        self.root = root
        nodes = [root: .directory([:])]
        parents = [root: root]
    }

    // Sorted, so that a seed always leads to the same sequence.
    var files: [FileReference] { ids { if case .file = $0 { true } else { false } } }
    var directories: [FileReference] { ids { if case .directory = $0 { true } else { false } } }

    private func ids(_ isWanted: (Content) -> Bool) -> [FileReference] {
        nodes.filter { isWanted($0.value) }.keys.sorted { $0.id < $1.id }
    }

    func isDirectory(_ node: FileReference) -> Bool {
        if case .directory = nodes[node] { true } else { false }
    }

    subscript(file: FileReference) -> ModelFile {
        get {
            guard case .file(let content) = nodes[file] else { preconditionFailure("no file of the model") }
            return content
        }
        set { nodes[file] = .file(newValue) }
    }

    func entries(_ directory: FileReference) -> [FileName: FileReference] {
        guard case .directory(let entries) = nodes[directory] else { preconditionFailure("no directory of the model") }
        return entries
    }

    func isFile(_ node: FileReference) -> Bool {
        if case .file = nodes[node] { true } else { false }
    }

    func linkCount(_ node: FileReference) -> UInt32 {
        guard case .directory(let entries) = nodes[node] else {
            return directories.reduce(0) { $0 + UInt32(entries($1).values.count { $0 == node }) }
        }
        return 2 + UInt32(entries.values.count(where: isDirectory))
    }

    mutating func add(_ name: FileName, to directory: FileReference, _ node: FileReference, _ content: Content) {
        setEntry(name, of: directory, to: node)
        nodes[node] = content
        if isDirectory(node) { parents[node] = directory }
    }

    mutating func link(_ node: FileReference, as name: FileName, in directory: FileReference) {
        setEntry(name, of: directory, to: node)
    }

    mutating func remove(_ name: FileName, from directory: FileReference) {
        guard let node = entries(directory)[name] else { return }
        setEntry(name, of: directory, to: nil)
        guard isDirectory(node) || linkCount(node) == 0 else { return }
        nodes[node] = nil
        parents[node] = nil
    }

    /// Why the rename must be refused, all reasons; empty when it must succeed.
    func objections(
        rename name: FileName, in source: FileReference, to newName: FileName, in target: FileReference
    ) -> Set<FileError> {
        guard let moved = entries(source)[name] else { return [.notFound] }
        var objections: Set<FileError> = []
        if let replaced = entries(target)[newName], replaced != moved {
            switch (isDirectory(moved), isDirectory(replaced)) {
            case (true, false): objections.insert(.notDirectory)
            case (false, true): objections.insert(.isDirectory)
            case (true, true): if !entries(replaced).isEmpty { objections.insert(.notEmpty) }
            case (false, false): break
            }
        }
        var ancestor = target
        while ancestor != root {
            if ancestor == moved { objections.insert(.invalidArgument) }
            ancestor = parents[ancestor] ?? root
        }
        return objections
    }

    /// - Precondition: there are no objections.
    mutating func rename(_ name: FileName, in source: FileReference, to newName: FileName, in target: FileReference) {
        guard let moved = entries(source)[name], entries(target)[newName] != moved else { return }
        remove(newName, from: target)
        setEntry(name, of: source, to: nil)
        setEntry(newName, of: target, to: moved)
        if isDirectory(moved) { parents[moved] = target }
    }

    private mutating func setEntry(_ name: FileName, of directory: FileReference, to node: FileReference?) {
        var entries = entries(directory)
        entries[name] = node
        nodes[directory] = .directory(entries)
    }
}
