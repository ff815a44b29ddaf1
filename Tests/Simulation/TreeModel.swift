// The names that one client alone changes, one call at a time: what was answered is there, what was not is there wholly or
// not at all.

import FileService
import Model

struct TreeModel: Equatable {
    enum Entry: Hashable {
        case file(Int)
        case directory(Int)
    }

    /// By numbers, which are the model's; 0 is the client's root.
    private(set) var directories: [Int: [String: Entry]] = [0: [:]]

    enum Change {
        case create(String, in: Int, file: Int)
        case makeDirectory(String, in: Int, directory: Int)
        case remove(String, from: Int)
        case removeDirectory(String, from: Int)
        case rename(String, in: Int, to: String, into: Int)
        case link(Int, as: String, in: Int)
    }

    subscript(directory: Int, name: String) -> Entry? { directories[directory]?[name] }

    /// All that have a name, in order.
    var files: [Int] {
        Set(directories.values.joined().compactMap { if case .file(let file) = $0.value { file } else { nil } })
            .sorted()
    }

    /// How many names a file has.
    func names(of file: Int) -> Int {
        directories.values.reduce(0) { $0 + $1.values.count { $0 == .file(file) } }
    }

    mutating func apply(_ change: Change) {
        switch change {
        case .create(let name, let directory, let file): directories[directory]?[name] = .file(file)
        case .makeDirectory(let name, let directory, let number):
            directories[directory]?[name] = .directory(number)
            directories[number] = [:]
        case .remove(let name, let directory): directories[directory]?[name] = nil
        case .removeDirectory(let name, let directory):
            if case .directory(let number) = directories[directory]?[name] { directories[number] = nil }
            directories[directory]?[name] = nil
        case .rename(let name, let directory, let newName, let newDirectory):
            guard let entry = self[directory, name], self[newDirectory, newName] != entry else { return }
            if case .directory(let replaced) = self[newDirectory, newName] { directories[replaced] = nil }
            directories[directory]?[name] = nil
            directories[newDirectory]?[newName] = entry
        case .link(let file, let name, let directory): directories[directory]?[name] = .file(file)
        }
    }

    func after(_ change: Change) -> TreeModel {
        var result = self
        result.apply(change)
        return result
    }
}

/// What a client's tree turned out to be.
struct FoundTree {
    enum Entry {
        case file(FileReference)
        case directory(FileReference)
    }
    var directories: [FileReference: [String: Entry]] = [:]
}

extension TreeModel {
    /// Why `found` is not this tree. References that are not known yet are those of calls that were not answered; they are
    /// added to the known ones when all agrees.
    func objection(
        to found: FoundTree, root: FileReference, files: inout [Int: FileReference],
        directories known: inout [Int: FileReference]
    ) -> String? {
        var newFiles = files
        var newDirectories = known
        newDirectories[0] = root
        var queue = [0]
        while let number = queue.popLast() {
            guard let reference = newDirectories[number], let there = found.directories[reference] else {
                return "directory \(number) is not there"
            }
            let expected = directories[number] ?? [:]
            guard Set(there.keys) == Set(expected.keys) else {
                return "directory \(number) has \(there.keys.sorted()) instead of \(expected.keys.sorted())"
            }
            for (name, entry) in expected.sorted(by: { $0.key < $1.key }) {
                switch (entry, there[name]!) {
                case (.file(let file), .file(let reference)):
                    if newFiles[file] == nil { newFiles[file] = reference }
                    if newFiles[file] != reference { return "\(name) in \(number) is another file" }
                case (.directory(let directory), .directory(let reference)):
                    if newDirectories[directory] == nil { newDirectories[directory] = reference }
                    if newDirectories[directory] != reference { return "\(name) in \(number) is another directory" }
                    queue.append(directory)
                default: return "\(name) in \(number) has another type"
                }
            }
        }
        files = newFiles
        known = newDirectories
        return nil
    }
}
