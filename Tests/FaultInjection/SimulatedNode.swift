// What a simulated disk holds: files and directories, each in two states, live (what a running process
// sees) and durable (what a power cut leaves for sure), with the changes between the two.
//
// Nodes are plain data; all access is under the lock of the `SimulatedFileSystem` that owns them.

internal import Glibc

/// A file or a directory.
final class SimulatedNode: @unchecked Sendable {
    /// A change of a file's content that was not synced yet.
    enum Change {
        case write(offset: Int, bytes: [UInt8])
        case truncate(size: Int)
    }

    let isDirectory: Bool

    /// A file's content, as of the last sync and as a reader sees it; `unsynced` leads from one to the other.
    var durableContent: [UInt8] = []
    var content: [UInt8] = []
    var unsynced: [Change] = []

    /// A directory's names. The changes between the two are the file system's, since a rename is one
    /// change of two directories.
    var durableNames: [String: SimulatedNode] = [:]
    var names: [String: SimulatedNode] = [:]

    init(isDirectory: Bool) { self.isDirectory = isDirectory }

    /// A file of which all is durable.
    init(content: [UInt8]) {
        isDirectory = false
        durableContent = content
        self.content = content
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        guard !bytes.isEmpty else { return }
        let change = Change.write(offset: offset, bytes: [UInt8](bytes))
        Self.apply(change, to: &content)
        unsynced.append(change)
    }

    func truncate(to size: Int) {
        let change = Change.truncate(size: size)
        Self.apply(change, to: &content)
        unsynced.append(change)
    }

    func sync() {
        for change in unsynced { Self.apply(change, to: &durableContent) }
        unsynced = []
    }

    /// What a disk might hold after a power cut: the synced content with any of the later changes, some of
    /// the writes torn between sectors.
    func contentAfterCrash(using random: inout SeededGenerator) -> [UInt8] {
        var result = durableContent
        for change in unsynced {
            switch (change, Int.random(in: 0..<5, using: &random)) {
            case (_, 0), (_, 1): continue
            case (.truncate, _), (_, 2), (_, 3): Self.apply(change, to: &result)
            case (.write(let offset, let bytes), _):
                for sector in Self.sectors(offset: offset, count: bytes.count) where Bool.random(using: &random) {
                    let piece = bytes[(sector.lowerBound - offset)..<(sector.upperBound - offset)]
                    Self.apply(.write(offset: sector.lowerBound, bytes: Array(piece)), to: &result)
                }
            }
        }
        return result
    }

    /// A write is torn at multiples of this: the least that a disk writes at once.
    static let sectorSizeBytes = 512

    private static func sectors(offset: Int, count: Int) -> [Range<Int>] {
        let first = offset / sectorSizeBytes
        let last = (offset + count - 1) / sectorSizeBytes
        return (first...last).map {
            max(offset, $0 * sectorSizeBytes)..<min(offset + count, ($0 + 1) * sectorSizeBytes)
        }
    }

    private static func apply(_ change: Change, to content: inout [UInt8]) {
        switch change {
        case .truncate(let size): resize(&content, to: size)
        case .write(let offset, let bytes):
            if content.count < offset + bytes.count { resize(&content, to: offset + bytes.count) }
            content.withUnsafeMutableBytes { target in
                bytes.withUnsafeBytes {
                    UnsafeMutableRawBufferPointer(rebasing: target[offset...]).copyMemory(from: $0)
                }
            }
        }
    }

    private static func resize(_ content: inout [UInt8], to size: Int) {
        if size < content.count {
            content.removeLast(content.count - size)
        } else {
            // Not `repeatElement`: a debug build would append byte by byte.
            let growth = size - content.count
            content.append(
                contentsOf: [UInt8](unsafeUninitializedCapacity: growth) { buffer, count in
                    if let start = buffer.baseAddress { memset(start, 0, growth) }
                    count = growth
                })
        }
    }
}
