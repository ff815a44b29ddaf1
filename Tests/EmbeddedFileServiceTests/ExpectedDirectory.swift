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
}

/// A directory that one worker alone changes.
struct ExpectedDirectory {
    private(set) var files: [FileName: ExpectedFile] = [:]

    mutating func apply(_ change: ExpectedChange) {
        switch change {
        case .create(let name, let size):
            if files[name] == nil {
                files[name] = ExpectedFile()
                files[name]?.truncate(to: size)
            }
        case .write(let name, let offset, let bytes, let isStable):
            files[name]?.write(bytes, at: offset)
            if isStable { files[name]?.commit() }
        case .commit(let name): files[name]?.commit()
        case .truncate(let name, let size): files[name]?.truncate(to: size)
        case .remove(let name): files[name] = nil
        case .rename(let name, let newName):
            if name != newName, let file = files.removeValue(forKey: name) { files[newName] = file }
        }
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
    func objection(to found: [FileName: [UInt8]]) -> String? {
        guard Set(found.keys) == Set(files.keys) else {
            return "names \(found.keys.map(\.description).sorted()), not \(files.keys.map(\.description).sorted())"
        }
        for (name, file) in files {
            if let objection = file.objection(to: found[name] ?? []) { return "\(name): \(objection)" }
        }
        return nil
    }
}
