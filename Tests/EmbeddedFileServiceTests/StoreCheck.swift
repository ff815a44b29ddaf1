// What must hold of a store at any time when nothing is under way: the namespace by itself, and the blocks on the
// volumes against it.

import BlockStore
import FileService
import Model
import Namespace
import Platform

@testable import EmbeddedFileService

struct Violation: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// What the namespace says, read whole.
private struct NamespaceImage: Sendable {
    var inodes: [FileID: Inode] = [:]
    var entries: [FileID: [NamespaceEntry]] = [:]
    var extents: [FileID: [Extent]] = [:]
    var groups: [BlockGroupID: BlockGroup] = [:]
    var counts: NamespaceCounts

    init(_ transaction: inout Transaction) throws(FileError) {
        counts = transaction.counts
        var queue = [FileID.root]
        while let id = queue.popLast() {
            let inode = try transaction.existing(id)
            inodes[id] = inode
            if inode.type == .directory {
                let entries = try transaction.entries(of: id, after: 0, limit: .max)
                self.entries[id] = entries
                queue += entries.map(\.child)
            } else {
                extents[id] = try transaction.allExtents(of: id)
            }
        }
        for group in try transaction.groupRows(after: nil, limit: .max) { groups[group.id] = group }
    }
}

extension StoreCore {
    /// Throws the first contradiction in the namespace.
    func checkNamespace() async throws {
        let image = try await transact { transaction throws(FileError) in try NamespaceImage(&transaction) }
        var live: [BlockGroupID: UInt64] = [:]
        for (id, extents) in image.extents {
            guard let inode = image.inodes[id] else { continue }
            var end: UInt64 = 0
            for extent in extents {
                guard extent.range.lowerBound >= end else { throw Violation("extents of \(id) overlap") }
                end = extent.range.upperBound
                live[extent.group, default: 0] += extent.range.count
                guard let group = image.groups[extent.group] else { throw Violation("\(extent.group) has no row") }
                guard extent.groupRange.upperBound <= group.length else {
                    throw Violation("an extent of \(id) goes beyond \(group.id)")
                }
                guard extent.sequence <= inode.writeSequence else { throw Violation("\(id) is behind its extents") }
            }
            guard inode.size >= end else { throw Violation("\(id) has \(inode.size) bytes, its extents end at \(end)") }
            guard inode.usedBytes == extents.reduce(0, { $0 + $1.range.count }) else {
                throw Violation("used bytes of \(id) are not those of its extents")
            }
        }
        for group in image.groups.values {
            guard group.liveBytes == live[group.id] ?? 0 else {
                throw Violation("\(group.id) has \(live[group.id] ?? 0) live bytes and says \(group.liveBytes)")
            }
            guard group.liveBytes > 0 || groups.isOpen(group.id) else {
                throw Violation("\(group.id) is dead and there")
            }
        }
        for (id, entries) in image.entries {
            guard let inode = image.inodes[id] else { continue }
            guard inode.entryCount == UInt64(entries.count) else { throw Violation("entry count of \(id)") }
            let directories = entries.count { image.inodes[$0.child]?.type == .directory }
            guard inode.linkCount == UInt32(2 + directories) else {
                throw Violation("\(id) has \(inode.linkCount) links and \(directories) directories in it")
            }
            for entry in entries where image.inodes[entry.child]?.type == .directory {
                guard image.inodes[entry.child]?.parent == id else {
                    throw Violation("\(entry.name) has another parent")
                }
            }
        }
        var names: [FileID: UInt32] = [:]
        for entry in image.entries.values.joined() { names[entry.child, default: 0] += 1 }
        for (id, inode) in image.inodes where inode.type != .directory && inode.linkCount != names[id] {
            throw Violation("\(id) has \(inode.linkCount) links and \(names[id] ?? 0) names")
        }
        let files = image.inodes.values.filter { $0.type != .directory }
        guard image.counts.files == UInt64(files.count),
            image.counts.directories == UInt64(image.entries.count),
            image.counts.usedBytes == image.inodes.values.reduce(0, { $0 + $1.usedBytes }),
            image.counts.blockGroups == UInt64(image.groups.count)
        else { throw Violation("the totals \(image.counts) are not those of the rows") }
    }
}

extension StoreCore {
    /// Block files on the volumes that are there that no group of the namespace names.
    func orphans(on disk: FileSystem) async throws -> [String] {
        let rows = try await transact { transaction throws(FileError) in
            try transaction.groupRows(after: nil, limit: .max)
        }
        var known: Set<String> = []
        for group in rows {
            for (index, location) in group.locations.enumerated() {
                guard let location, let volume = volumes[location] else { continue }
                let number = String(group.id.ordinal / 256 % UInt64(Volume.subdirectoryCount), radix: 16)
                let block =
                    "\(volume.directory)/blocks/\(number.count == 1 ? "0" : "")\(number)/\(group.id.internalBlock(index))"
                known.formUnion([block, "\(block)_\(group.generationStamp).meta"])
            }
        }
        return volumes.present.flatMap { disk.blockFiles(of: $0.directory) }.filter { !known.contains($0) }
    }
}

extension FileSystem {
    /// The data and checksum files of all blocks on a volume.
    func blockFiles(of volume: String) -> [String] {
        let blocks = volume + "/blocks"
        return ((try? list(blocks)) ?? []).sorted().flatMap { directory in
            ((try? list(blocks + "/" + directory)) ?? []).sorted().map { "\(blocks)/\(directory)/\($0)" }
        }
    }
}
