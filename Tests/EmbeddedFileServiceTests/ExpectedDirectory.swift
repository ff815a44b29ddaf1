// What may be there after a crash: for metadata the state after the last answered operation or after the one under
// way, whole; for each byte what was made durable last or anything written since.

import FaultInjection
import FileService
import Model

/// A file with writes that nobody promised to keep.
struct ExpectedFile {
    /// What COMMIT, FILE_SYNC and SETATTR promised.
    private(set) var durable: [UInt8] = []
    /// Written since, oldest first; cut by truncates.
    private(set) var unstable: [(offset: Int, bytes: [UInt8])] = []

    /// What readers see while the store is served.
    var live: [UInt8] {
        var result = durable
        for write in unstable {
            let end = write.offset + write.bytes.count
            if end > result.count { result += Array(repeating: 0, count: end - result.count) }
            result.replaceSubrange(write.offset..<end, with: write.bytes)
        }
        return result
    }

    mutating func write(_ bytes: [UInt8], at offset: Int) {
        if !bytes.isEmpty { unstable.append((offset, bytes)) }
    }

    /// Everything written so far is promised.
    mutating func commit() {
        durable = live
        unstable = []
    }

    /// The size is promised, the bytes below it are what they were.
    mutating func truncate(to size: Int) {
        if size < durable.count { durable.removeLast(durable.count - size) }
        durable += Array(repeating: 0, count: size - durable.count)
        unstable = unstable.compactMap { write in
            let count = min(write.bytes.count, size - write.offset)
            return count > 0 ? (write.offset, Array(write.bytes.prefix(count))) : nil
        }
    }

    /// Why `found` can't be what a crash left; nil when it can.
    func objection(to found: [UInt8]) -> String? {
        if found == durable || found == live { return nil }
        let largest = max(durable.count, unstable.map { $0.offset + $0.bytes.count }.max() ?? 0)
        guard found.count >= durable.count, found.count <= largest else {
            return "\(found.count) bytes, promised were \(durable.count), written at most \(largest)"
        }
        for (position, byte) in found.enumerated() {
            let old = position < durable.count ? durable[position] : 0
            if byte == old { continue }
            let isWritten = unstable.contains { write in
                let index = position - write.offset
                return index >= 0 && index < write.bytes.count && write.bytes[index] == byte
            }
            if !isWritten { return "byte \(position) is \(byte), promised was \(old), and nobody wrote that since" }
        }
        return nil
    }
}

/// An operation of one worker in its directory.
enum ExpectedChange {
    case create(FileName, size: Int)
    case write(FileName, offset: Int, bytes: [UInt8], isStable: Bool)
    case commit(FileName)
    case truncate(FileName, size: Int)
    case remove(FileName)
    case rename(FileName, to: FileName)
    case link(FileName, as: FileName)
    case symbolicLink(FileName, LinkTarget)
}

/// What a name turned out to lead to.
struct FoundFile {
    enum Content: Equatable {
        case bytes([UInt8])
        case target(LinkTarget)
    }
    let id: FileID
    let content: Content
}

/// A directory that one worker alone changes.
struct ExpectedDirectory {
    enum Content {
        case file(ExpectedFile)
        case symbolicLink(LinkTarget)
    }

    /// A file by its number here, so that it can have several names.
    private var names: [FileName: Int] = [:]
    private var contents: [Int: Content] = [:]
    private var nextNumber = 0

    subscript(name: FileName) -> Content? { names[name].flatMap { contents[$0] } }

    mutating func apply(_ change: ExpectedChange) {
        switch change {
        case .create(let name, let size):
            var file = ExpectedFile()
            file.truncate(to: size)
            add(name, .file(file))
        case .write(let name, let offset, let bytes, let isStable):
            changeFile(name) {
                $0.write(bytes, at: offset)
                if isStable { $0.commit() }
            }
        case .commit(let name): changeFile(name) { $0.commit() }
        case .truncate(let name, let size): changeFile(name) { $0.truncate(to: size) }
        case .remove(let name): set(name, nil)
        case .rename(let name, let newName):
            guard let number = names[name], names[newName] != number else { return }
            set(newName, number)
            set(name, nil)
        case .link(let name, let newName):
            if names[newName] == nil { set(newName, names[name]) }
        case .symbolicLink(let name, let target): add(name, .symbolicLink(target))
        }
    }

    private mutating func add(_ name: FileName, _ content: Content) {
        guard names[name] == nil else { return }
        names[name] = nextNumber
        contents[nextNumber] = content
        nextNumber += 1
    }

    private mutating func changeFile(_ name: FileName, _ change: (inout ExpectedFile) -> Void) {
        guard let number = names[name], case .file(var file) = contents[number] else { return }
        change(&file)
        contents[number] = .file(file)
    }

    private mutating func set(_ name: FileName, _ number: Int?) {
        let old = names[name]
        names[name] = number
        if let old, !names.values.contains(old) { contents[old] = nil }
    }

    /// What the directory may be when the change was asked for and not answered.
    func outcomes(of change: ExpectedChange?) -> [ExpectedDirectory] {
        guard let change else { return [self] }
        var changed = self
        switch change {
        // Not promised, whatever was asked for.
        case .write(let name, let offset, let bytes, _):
            changed.apply(.write(name, offset: offset, bytes: bytes, isStable: false))
            return [changed]
        case .commit: return [self]
        default:
            changed.apply(change)
            return [self, changed]
        }
    }

    /// Why `found` can't be what a crash left.
    func objection(to found: [FileName: FoundFile]) -> String? {
        guard Set(found.keys) == Set(names.keys) else {
            return "names \(found.keys.map(\.description).sorted()), not \(names.keys.map(\.description).sorted())"
        }
        for (name, number) in names {
            guard let file = found[name], let content = contents[number] else { continue }
            for (other, otherNumber) in names where (found[other]?.id == file.id) != (otherNumber == number) {
                return "\(name) and \(other) are one file, or should be"
            }
            switch (content, file.content) {
            case (.file(let expected), .bytes(let bytes)):
                if let objection = expected.objection(to: bytes) { return "\(name): \(objection)" }
            case (.symbolicLink(let expected), .target(let target)):
                if expected != target { return "\(name) leads to \(target), not \(expected)" }
            default: return "\(name) has another type"
            }
        }
        return nil
    }
}
