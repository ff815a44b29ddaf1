import FaultInjection
import Model
import Platform
import Testing

@testable import Namespace

@Suite("The namespace")
struct NamespaceBodyTests {
    @Test("has the root after format, and what was put after reopening")
    func reopen() async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let id = try await namespace.create(Fixture.name("a"), size: 5)
        await namespace.close()

        let again = try fixture.open(epoch: 2)
        #expect(try await again.child(Fixture.name("a")) == id)
        let (inode, root, epoch) = try await again.perform { transaction throws(NamespaceError) in
            (try transaction.inode(id), try transaction.inode(.root), transaction.epoch)
        }
        #expect(inode == Fixture.inode(id, size: 5))
        #expect(root?.entryCount == 1)
        #expect(epoch == Epoch(rawValue: 2))
        await again.close()
        await again.close()
        await #expect(throws: NamespaceError.closed) { try await again.create(Fixture.name("b")) }
    }

    @Test("shows a body what earlier ones did, and itself what it did; what it threw away is gone")
    func bodies() async throws {
        let fixture = try Fixture()
        // A cache of two entries, so that both the caches and the tables are asked.
        for cacheLimit in [2, 1000] {
            let namespace = try fixture.open(cacheLimit: cacheLimit)
            let names = (0..<5).map { Fixture.name("\(cacheLimit)-\($0)") }
            for name in names { try await namespace.create(name) }
            let before = try await namespace.perform { transaction throws(NamespaceError) in transaction.counts }
            await #expect(throws: TestFailure.refused) {
                try await namespace.perform { transaction throws(TestFailure) in
                    do throws(NamespaceError) {
                        try transaction.create(Fixture.name("x"))
                        for name in names { try transaction.mutate(.removeEntry(directory: .root, name: name)) }
                        guard try transaction.entry(.root, names[0]) == nil,
                            try transaction.entry(.root, Fixture.name("x")) != nil,
                            try transaction.entries(.root, after: 0, limit: 100).filter({ names.contains($0.name) })
                                .isEmpty,
                            transaction.counts.files == before.files + 1
                        else { throw .damaged("a body doesn't see what it did") }
                    } catch {
                        throw .namespace(error)
                    }
                    throw .refused
                }
            }
            #expect(try await namespace.child(Fixture.name("x")) == nil)
            for name in names { #expect(try await namespace.child(name) != nil) }
            let after = try await namespace.perform { transaction throws(NamespaceError) in transaction.counts }
            #expect(after == before)
            let root = try await namespace.perform { transaction throws(NamespaceError) in
                try transaction.inode(.root)
            }
            #expect(try await root?.entryCount == UInt64(namespace.names().count))
            await namespace.close()
        }
    }

    @Test("keeps names apart that are canonically equal as Unicode (RFC 1813 §3.2)")
    func names() async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let names = try [Array("\u{e9}".utf8), Array("e\u{301}".utf8), [0xff, 0xfe], [0xff]].map { try FileName($0) }
        var ids: [FileID] = []
        for name in names { ids.append(try await namespace.create(name)) }
        #expect(Set(ids).count == 4)
        await namespace.close()
        let again = try fixture.open()
        for (name, id) in zip(names, ids) { #expect(try await again.child(name) == id) }
        await again.close()
    }

    @Test(
        "lists by cookie: what stays is listed once, whatever is removed in between", arguments: 0..<5 as Range<UInt64>)
    func listing(seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let names = (0..<60).map { Fixture.name("f\($0)") }
        for name in names { try await namespace.create(name) }
        var listed: [FileName] = []
        var removed: Set<FileName> = []
        var cookie: UInt64 = 0
        while true {
            let from = cookie
            let limit = Int.random(in: 1...7, using: &random)
            let page = try await namespace.perform { transaction throws(NamespaceError) in
                try transaction.entries(.root, after: from, limit: limit)
            }
            guard let last = page.last else { break }
            #expect(page.count <= limit && page.map(\.cookie) == page.map(\.cookie).sorted())
            listed += page.map(\.name)
            cookie = last.cookie
            // Also the entry of the cookie itself.
            for name in [last.name] + (0..<2).map({ _ in names.randomElement(using: &random) ?? names[0] }) {
                try await namespace.remove(name)
                removed.insert(name)
            }
            try await namespace.create(Fixture.name("new\(cookie)"))
            if listed.count > 300 { break }
        }
        #expect(Set(listed).count == listed.count)
        #expect(Set(names).subtracting(removed).isSubset(of: listed))
        #expect(cookie >= Inode.firstCookie)
        let none = try await namespace.perform { transaction throws(NamespaceError) in
            try transaction.entries(.root, after: .max, limit: 5)
        }
        #expect(none.isEmpty)
        await namespace.close()
    }

    @Test("cuts and finds extents as a map of bytes would", arguments: 0..<20 as Range<UInt64>)
    func extents(seed: UInt64) async throws {
        let fixture = try Fixture(mirrors: 1)
        let namespace = try fixture.open()
        let file = FileID(rawValue: 77)
        let bounds = (0..<40).map { step in
            var random = SeededGenerator(seed: seed &* 1000 + UInt64(step))
            let low = UInt64.random(in: 0..<60, using: &random)
            return ByteRange(offset: low, count: .random(in: 1...25, using: &random))
        }
        var model: [UInt64: UInt64] = [:]
        for (step, range) in bounds.enumerated() {
            let expected = (range.lowerBound..<range.upperBound).filter { model[$0] != nil }.count
            for offset in range.lowerBound..<range.upperBound {
                model[offset] = step % 5 == 4 ? nil : UInt64(step) * 1000 + offset - range.lowerBound
            }
            let pieces = try await namespace.perform { transaction throws(NamespaceError) in
                let pieces = try transaction.cutExtents(file, range)
                if step % 5 != 4 {
                    let extent = Extent(
                        range: range, group: BlockGroupID(ordinal: 1), groupOffset: UInt64(step) * 1000,
                        sequence: WriteSequence(rawValue: UInt64(step)))
                    try transaction.mutate(.putExtent(file: file, extent))
                }
                return pieces
            }
            #expect(pieces.reduce(0) { $0 + Int($1.range.count) } == expected)
            #expect(pieces.allSatisfy { range.contains($0.range) })
        }
        let found = try await namespace.perform { transaction throws(NamespaceError) in
            try transaction.extents(file)
        }
        var bytes: [UInt64: UInt64] = [:]
        for extent in found {
            for offset in extent.range.lowerBound..<extent.range.upperBound {
                #expect(bytes[offset] == nil)
                bytes[offset] = extent.groupOffset + offset - extent.range.lowerBound
            }
        }
        #expect(bytes == model)
        for range in bounds {
            let part = try await namespace.perform { transaction throws(NamespaceError) in
                try transaction.extents(file, overlapping: range)
            }
            #expect(part == found.filter { $0.range.overlaps(range) })
        }
        await namespace.close()
    }

    @Test("counts files, directories, groups and bytes, and knows them after reopening")
    func counts() async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let policy = try ErasureCodingPolicy("RS-3-2-1024k")
        try await namespace.perform { transaction throws(NamespaceError) in
            for index in 0..<4 { try transaction.create(Fixture.name("\(index)"), size: 10) }
            try transaction.mutate(.putInode(Fixture.inode(transaction.newFileID(), .directory, parent: .root)))
            for _ in 0..<3 {
                let group = BlockGroup(
                    id: try transaction.newGroupID(), generationStamp: .first, policy: policy,
                    locations: Array(repeating: nil, count: 5))
                try transaction.mutate(.putGroup(group))
                try transaction.mutate(.putGroup(group))
            }
        }
        try await namespace.remove(Fixture.name("1"))
        try await namespace.perform { transaction throws(NamespaceError) in
            let entry = try transaction.entry(.root, Fixture.name("2"))
            guard let id = entry?.child, let group = try transaction.groups(after: nil, limit: 1).first else { return }
            try transaction.mutate(.putInode(Fixture.inode(id, size: 25)))
            try transaction.mutate(.removeGroup(group.id))
            try transaction.mutate(.removeGroup(group.id))
        }
        let expected = NamespaceCounts(files: 3, directories: 2, blockGroups: 2, usedBytes: 45)
        #expect(try await namespace.perform { transaction throws(NamespaceError) in transaction.counts } == expected)
        await namespace.close()
        let again = try fixture.open()
        #expect(try await again.perform { transaction throws(NamespaceError) in transaction.counts } == expected)
        let groups = try await again.perform { transaction throws(NamespaceError) in
            let first = try transaction.groups(after: nil, limit: 1)
            return (first + (try transaction.groups(after: first.first?.id, limit: 9))).map(\.id)
        }
        #expect(groups.count == 2 && groups == groups.sorted())
        await again.close()
    }

    @Test("bodies that queue up during a commit share the next: one sync of each mirror")
    func groupCommit() async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        try await namespace.create(Fixture.name("warm up"))
        let gate = Gate()
        fixture.disk.before(.sync, under: "/v0/") { gate.pass() }
        let before = [0, 1].map { fixture.disk.callCount(.sync, under: "/v\($0)/") }
        let count = 200
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { gate.stopExpecting() }
                try await namespace.create(Fixture.name("first"))
            }
            await gate.waitForArrival()
            for index in 0..<count {
                group.addTask { try await namespace.create(Fixture.name("\(index)")) }
            }
            while namespace.queuedRequests < count, !gate.isAbandoned { await Task.yield() }
            gate.open()
            try await group.waitForAll()
        }
        for index in 0...1 {
            #expect(fixture.disk.callCount(.sync, under: "/v\(index)/") - before[index] == 2)
        }
        #expect(try await namespace.names().count == count + 2)
        await namespace.close()
    }

    @Test(
        "a change, and what relies on it, is answered when it is durable on every mirror; a look, before",
        arguments: [0, 1])
    func answersWhenDurable(_ slowMirror: Int) async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let batch = Gate()
        let disk = Gate()
        let isAnswered = Flag()
        // Both bodies wait for the same batch.
        let pause = namespace.queueBody { batch.pass() }
        await batch.waitForArrival()
        let created = Task { () async throws in
            defer { disk.stopExpecting() }
            try await namespace.create(Fixture.name("a"))
            isAnswered.set()
        }
        while namespace.queuedRequests < 1 { await Task.yield() }
        // An operation that finds its work done must not be answered as done while it may still be lost.
        let isRepeated = Flag()
        let repeated = Task {
            _ = try await namespace.perform { transaction throws(NamespaceError) in
                try transaction.entry(.root, Fixture.name("a"))
            }
            isRepeated.set()
        }
        while namespace.queuedRequests < 2 { await Task.yield() }
        let read = Task { try await namespace.child(Fixture.name("a")) }
        while namespace.queuedRequests < 3 { await Task.yield() }
        fixture.disk.before(.sync, under: "/v\(slowMirror)/") { disk.pass() }
        batch.open()
        try await pause.value
        #expect(try await read.value != nil)
        await disk.waitForArrival()
        #expect(!isAnswered.isSet && !isRepeated.isSet)
        disk.open()
        try await created.value
        try await repeated.value
        #expect(isAnswered.isSet)
        await namespace.close()
    }

    @Test("ids are not used again after a crash, whatever was lost", arguments: 0..<20 as Range<UInt64>)
    func idsAfterCrash(seed: UInt64) async throws {
        var fixture = try Fixture()
        var files: Set<FileID> = []
        var groups: Set<BlockGroupID> = []
        for epoch in 1...4 as ClosedRange<UInt64> {
            let namespace = try fixture.open(epoch: epoch)
            var handedOut = 0
            for _ in 0..<3 {
                // A group's id is used at once, also when the body's record is lost; a file's when it is durable.
                let ids = try? await namespace.perform { transaction throws(NamespaceError) in
                    (
                        try (0..<7).map { _ throws(NamespaceError) in try transaction.newGroupID() },
                        (0..<700).map { _ in transaction.newFileID() }
                    )
                }
                guard let ids else { break }
                for id in ids.0 { #expect(groups.insert(id).inserted) }
                for id in ids.1 { #expect(files.insert(id).inserted && id != .root) }
                handedOut += 1
                if handedOut == 2 { fixture.disk.losePower(afterCalls: Int(seed % 4)) }
            }
            fixture.disk = fixture.disk.crash(seed: seed)
            await namespace.close()
        }
        #expect(files.count >= 4 * 1400)
    }

    @Test("keeps the caller's numbers")
    func states() async throws {
        let fixture = try Fixture()
        let key = StateKey(rawValue: StateKey.firstFree.rawValue + 7)
        let namespace = try fixture.open()
        try await namespace.perform { transaction throws(NamespaceError) in
            try transaction.mutate(.putState(key, .max))
            transaction.raiseEpoch(to: Epoch(rawValue: 9))
            transaction.raiseEpoch(to: Epoch(rawValue: 3))
        }
        await namespace.close()
        #expect(throws: NamespaceError.self) { try fixture.open(epoch: 8) }
        let again = try fixture.open(epoch: 9)
        #expect(try await again.perform { transaction throws(NamespaceError) in transaction.state(key) } == .max)
        await again.close()
    }
}
