// What a namespace holds, as dictionaries, and random bodies over few ids, so that changes meet each other.

import FaultInjection
import Model
import Testing

@testable import Namespace

struct NamespaceModel: Equatable {
    var inodes: [FileID: Inode] = [:]
    var entries: [FileID: [FileName: EntryRow]] = [:]
    var extents: [FileID: [UInt64: Extent]] = [:]
    var groups: [BlockGroupID: BlockGroup] = [:]
    var states: [StateKey: UInt64] = [:]

    /// As after format.
    init() { inodes[.root] = Fixture.inode(.root, .directory, parent: .root) }

    mutating func apply(_ mutation: Mutation) {
        switch mutation {
        case .putInode(let inode): inodes[inode.id] = inode
        case .removeInode(let id): inodes[id] = nil
        case .putEntry(let directory, let name, let cookie, let child):
            entries[directory, default: [:]][name] = EntryRow(name: name, cookie: cookie, child: child)
        case .removeEntry(let directory, let name): entries[directory]?[name] = nil
        case .putExtent(let file, let extent): extents[file, default: [:]][extent.range.lowerBound] = extent
        case .removeExtent(let file, let offset): extents[file]?[offset] = nil
        case .removeExtents(let file, let offset):
            extents[file] = extents[file]?.filter { $0.key < offset }
        case .putGroup(let group): groups[group.id] = group
        case .removeGroup(let id): groups[id] = nil
        case .putState(let key, let value): states[key] = value
        }
    }

    func listing(_ directory: FileID) -> [EntryRow] {
        (entries[directory] ?? [:]).values.sorted { $0.cookie < $1.cookie }
    }

    func sortedExtents(_ file: FileID) -> [Extent] {
        (extents[file] ?? [:]).values.sorted { $0.range.lowerBound < $1.range.lowerBound }
    }

    var counts: NamespaceCounts {
        NamespaceCounts(
            files: UInt64(inodes.values.count { $0.type != .directory }),
            directories: UInt64(inodes.values.count { $0.type == .directory }), blockGroups: UInt64(groups.count),
            usedBytes: inodes.values.reduce(0) { $0 + $1.usedBytes })
    }

    // MARK: Random changes

    static let files = (10...13).map { FileID(rawValue: $0) }
    static let directories = (1...3).map { FileID(rawValue: $0) }
    static let names = (0..<12).map { Fixture.name("n\($0)") }
    static let groupIDs = (0..<8).map { BlockGroupID(ordinal: $0 + 1_000_000) }
    static let keys = (0..<3).map { StateKey(rawValue: 1000 + $0) }

    /// Mutations that fit what is there. Cookies, which never come again, count up in `cookie`.
    func change(_ cookie: inout UInt64, _ random: inout SeededGenerator) throws -> [Mutation] {
        let file = Self.files.randomElement(using: &random)!
        let directory = Self.directories.randomElement(using: &random)!
        let name = Self.names.randomElement(using: &random)!
        let group = Self.groupIDs.randomElement(using: &random)!
        let key = Self.keys.randomElement(using: &random)!
        switch Int.random(in: 0..<14, using: &random) {
        case 0:
            var inode = Fixture.inode(directory, .directory, parent: .root)
            inode.uid = .random(in: 0...9, using: &random)
            return [.putInode(inode)]
        case 1: return directory == .root ? [] : [.removeInode(directory)]
        case 2...4:
            cookie += 1
            return [.putEntry(directory: directory, name: name, cookie: cookie, child: file)]
        case 5: return [.removeEntry(directory: directory, name: name)]
        case 6: return [.removeInode(file), .removeExtents(file: file, from: 0)]
        case 7...9: return put(file, &random)
        case 10:
            let offset = UInt64.random(in: 0..<80, using: &random)
            return withInode(file, [.removeExtents(file: file, from: offset)])
        case 11:
            guard let extent = sortedExtents(file).randomElement(using: &random) else { return [] }
            return withInode(file, [.removeExtent(file: file, offset: extent.range.lowerBound)])
        case 12:
            guard Bool.random(using: &random) else { return [.removeGroup(group)] }
            return [
                .putGroup(
                    BlockGroup(
                        id: group, generationStamp: .first, policy: try ErasureCodingPolicy("RS-3-2-1024k"),
                        length: .random(in: 1000...2000, using: &random), locations: Array(repeating: nil, count: 5)))
            ]
        default: return [.putState(key, .random(in: 0...99, using: &random))]
        }
    }

    /// Puts an extent and takes away what it shadows.
    private func put(_ file: FileID, _ random: inout SeededGenerator) -> [Mutation] {
        let range = ByteRange(
            offset: .random(in: 0..<80, using: &random), count: .random(in: 1...20, using: &random))
        var mutations: [Mutation] = []
        for extent in sortedExtents(file) where extent.range.overlaps(range) {
            mutations.append(.removeExtent(file: file, offset: extent.range.lowerBound))
            for part in [ByteRange(0, range.lowerBound), ByteRange(range.upperBound, 1000)] {
                if !part.isEmpty, let rest = extent.clipped(to: part) {
                    mutations.append(.putExtent(file: file, rest))
                }
            }
        }
        let extent = Extent(
            range: range, group: Self.groupIDs.randomElement(using: &random)!,
            groupOffset: .random(in: 0...900, using: &random),
            sequence: WriteSequence(rawValue: .random(in: 0...50, using: &random)))
        return withInode(file, mutations + [.putExtent(file: file, extent)])
    }

    /// With the inode that fits the extents then.
    private func withInode(_ file: FileID, _ mutations: [Mutation]) -> [Mutation] {
        var after = self
        for mutation in mutations { after.apply(mutation) }
        let extents = after.sortedExtents(file)
        var inode = Fixture.inode(file)
        inode.size = extents.last?.range.upperBound ?? 0
        inode.usedBytes = extents.reduce(0) { $0 + $1.range.count }
        inode.writeSequence = extents.map(\.sequence).max() ?? .zero
        return mutations + [.putInode(inode)]
    }

    // MARK: Comparing

    /// Looks at a few things that a transaction shows, or at all of them. Returns what is wrong; nil: nothing.
    func contradiction(
        to transaction: inout Transaction, all: Bool, _ random: inout SeededGenerator
    ) throws(NamespaceError) -> String? {
        guard transaction.counts == counts else { return "counts: \(transaction.counts), expected \(counts)" }
        func chosen<Element>(_ elements: [Element]) -> [Element] {
            all ? elements : elements.filter { _ in Int.random(in: 0..<4, using: &random) == 0 }
        }
        for id in chosen(Self.files + Self.directories) {
            let inode = try transaction.inode(id)
            guard inode == inodes[id] else { return "\(id): \(String(describing: inode))" }
        }
        for directory in chosen(Self.directories) {
            for name in chosen(Self.names) {
                let entry = try transaction.entry(directory, name)
                guard entry?.cookie == entries[directory]?[name]?.cookie else {
                    return "\(name): \(String(describing: entry))"
                }
            }
            let rows = listing(directory)
            let limit = all ? Int.max : Int.random(in: 1...5, using: &random)
            let start = all ? 0 : UInt64.random(in: 0...(rows.last?.cookie ?? 0) + 1, using: &random)
            let page = try transaction.entries(directory, after: start, limit: limit)
            let expected = rows.filter { $0.cookie > start }.prefix(limit)
            guard page.map(\.name) == expected.map(\.name), page.map(\.cookie) == expected.map(\.cookie),
                page.map(\.child) == expected.map(\.child)
            else { return "entries of \(directory) after \(start): \(page), expected \(expected)" }
        }
        for file in chosen(Self.files) {
            if inodes[file] != nil {
                let extents = try transaction.allExtents(file)
                guard extents == sortedExtents(file) else { return "all extents of \(file): \(extents)" }
            }
            let range = ByteRange(
                offset: .random(in: 0..<90, using: &random), count: .random(in: 1...30, using: &random))
            let extents = try transaction.extents(file, overlapping: range)
            guard extents == sortedExtents(file).filter({ $0.range.overlaps(range) }) else {
                return "extents of \(file) in \(range): \(extents)"
            }
        }
        let sorted = groups.values.sorted { $0.id < $1.id }
        let start = all ? nil : chosen(Self.groupIDs).first
        let limit = all ? Int.max : Int.random(in: 1...4, using: &random)
        let page = try transaction.groups(after: start, limit: limit)
        let expected = sorted.filter { start == nil || $0.id > start! }.prefix(limit)
        guard page == Array(expected) else { return "groups after \(String(describing: start)): \(page)" }
        for id in chosen(Self.groupIDs) {
            guard try transaction.group(id) == groups[id] else { return "\(id)" }
        }
        for key in chosen(Self.keys) {
            guard transaction.state(key) == states[key] else { return "state \(key.rawValue)" }
        }
        return nil
    }
}
