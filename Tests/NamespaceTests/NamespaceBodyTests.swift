import FaultInjection
import Journal
import Model
import Platform
import Synchronization
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

    @Test("tells the log of each entry before its body runs, and of none that comes to nothing")
    func begun() async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let log = fixture.log
        for index in 0..<5 {
            let last = log.lastNumber
            #expect(log.begunNumber == last)
            let seen = try await namespace.perform { transaction throws(NamespaceError) in
                if index.isMultiple(of: 2) { try transaction.create(Fixture.name("\(index)")) }
                return log.begunNumber
            }
            #expect(seen == last.next)
        }
        #expect(log.begunNumber == log.lastNumber)
        await namespace.close()
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

    @Test("bodies go on while the log is at work: none waits for a sync, and all that gathered share the next")
    func groupCommit() async throws {
        let fixture = try Fixture()
        let log = fixture.log
        let namespace = try fixture.open()
        let groups = log.groups
        log.setMode(.held)
        let isAnswered = Flag()
        let count = 200
        let syncs = [0, 1].map { fixture.disk.callCount(.sync, under: "/v\($0)/") }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<count {
                group.addTask {
                    try await namespace.create(Fixture.name("\(index)"))
                    isAnswered.set()
                }
            }
            while log.pendingCount < count { await Task.yield() }
            // Bodies see what those before them did; none of it is answered.
            let names = try await namespace.read { transaction throws(NamespaceError) in
                try transaction.entries(.root, after: 0, limit: .max)
            }
            #expect(names.count == count && !isAnswered.isSet)
            log.setMode(.atOnce)
            try await group.waitForAll()
        }
        #expect(log.groups - groups == 1)
        // No mirror was touched for any of it.
        #expect([0, 1].map { fixture.disk.callCount(.sync, under: "/v\($0)/") } == syncs)
        #expect(try await namespace.names().count == count)
        await namespace.close()
    }

    @Test("a change, and what relies on it, is answered when it is durable; a look, before")
    func answersWhenDurable() async throws {
        let fixture = try Fixture()
        let log = fixture.log
        let namespace = try fixture.open()
        log.setMode(.held)
        let isAnswered = Flag()
        let created = Task { () async throws in
            try await namespace.create(Fixture.name("a"))
            isAnswered.set()
        }
        while log.pendingCount < 1 { await Task.yield() }
        // An operation that finds its work done must not be answered as done while it may still be lost.
        let isRepeated = Flag()
        let isRun = Flag()
        let repeated = Task {
            _ = try await namespace.perform { transaction throws(NamespaceError) in
                isRun.set()
                return try transaction.entry(.root, Fixture.name("a"))
            }
            isRepeated.set()
        }
        while !isRun.isSet { await Task.yield() }
        // So is one that was refused because of it.
        let isRefused = Flag()
        let isThrown = Flag()
        let refused = Task {
            await #expect(throws: TestFailure.refused) {
                try await namespace.perform { _ throws(TestFailure) in
                    isThrown.set()
                    throw .refused
                }
            }
            isRefused.set()
        }
        while !isThrown.isSet { await Task.yield() }
        #expect(try await namespace.child(Fixture.name("a")) != nil)
        #expect(!isAnswered.isSet && !isRepeated.isSet && !isRefused.isSet)
        log.setMode(.atOnce)
        try await created.value
        try await repeated.value
        await refused.value
        #expect(isAnswered.isSet && isRepeated.isSet && isRefused.isSet)
        await namespace.close()
    }

    @Test("bytes that a body journals go with its record, and the claims come back in order")
    func journaling() async throws {
        let fixture = try Fixture()
        let log = fixture.log
        let namespace = try fixture.open()
        @Sendable func payload(_ file: FileID, _ offset: UInt64, _ count: Int) -> JournalPayload {
            JournalPayload(
                file: file, offset: offset, sequence: WriteSequence(rawValue: offset + 1),
                bytes: Payload(bytes: Array(repeating: 7, count: count)))
        }
        let before = log.lastNumber
        let (id, claims) = try await namespace.performJournaling { transaction throws(NamespaceError) in
            let id = try transaction.create(Fixture.name("a"))
            transaction.journal([payload(id, 10, 5), payload(id, 0, 3)])
            transaction.journal([payload(id, 20, 1)])
            return id
        }
        #expect(claims.map(\.offset) == [10, 0, 20] && claims.map(\.count) == [5, 3, 1])
        #expect(claims.allSatisfy { $0.file == id && $0.sequence.rawValue == $0.offset + 1 })
        #expect(log.lastNumber == before.next)
        // Also without a change of metadata; nothing of a body that threw.
        let alone = try await namespace.performJournaling { transaction throws(NamespaceError) in
            transaction.journal([payload(id, 30, 2)])
        }
        #expect(alone.claims.map(\.offset) == [30] && log.lastNumber == before.next.next)
        await #expect(throws: TestFailure.refused) {
            try await namespace.performJournaling { transaction throws(TestFailure) in
                transaction.journal([payload(id, 40, 2)])
                throw .refused
            }
        }
        let none = try await namespace.performJournaling { _ throws(NamespaceError) in }
        #expect(none.claims.isEmpty && log.lastNumber == before.next.next)
        #expect(log.payloads.map(\.offset) == [10, 0, 20, 30])
        await namespace.close()
        // The position counts them too.
        #expect(log.records.isEmpty && log.appliedNumber == before.next.next)
        guard case .verified(let position) = fixture.inspect(1) else { throw TestFailure.refused }
        #expect(position.logNumber == before.next.next)
    }

    @Test("when the log fails, that is told once and before anybody is answered, and all later bodies are refused")
    func logFails() async throws {
        let fixture = try Fixture()
        let failures = Mutex(0)
        let namespace = try fixture.open(onFailure: { _ in failures.withLock { $0 += 1 } })
        try await namespace.create(Fixture.name("a"))
        fixture.log.fail()
        for name in ["b", "c"] {
            do {
                try await namespace.create(Fixture.name(name))
                Issue.record("answered")
            } catch {
                guard case .failed = error else { throw error }
            }
            #expect(failures.withLock { $0 } == 1)
        }
        await #expect(throws: NamespaceError.self) { try await namespace.child(Fixture.name("a")) }
        await namespace.close()
        let log = fixture.log.crash()
        let again = try fixture.open(log: log, epoch: 2)
        #expect(try await again.names() == ["a"])
        await again.close()
    }

    @Test("the last of a file's extents go with one mutation, whatever the mirrors have", arguments: [0, 1, 2])
    func removeExtents(applied: Int) async throws {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let file = FileID(rawValue: 77)
        func put(_ offsets: [UInt64], sequence: UInt64) async throws {
            try await namespace.perform { transaction throws(NamespaceError) in
                for offset in offsets {
                    let extent = Extent(
                        range: ByteRange(offset: offset, count: 5), group: BlockGroupID(ordinal: 1),
                        groupOffset: offset, sequence: WriteSequence(rawValue: sequence))
                    try transaction.mutate(.putExtent(file: file, extent))
                }
            }
        }
        func offsets(_ namespace: Namespace) async throws -> [UInt64] {
            try await namespace.read { transaction throws(NamespaceError) in
                try transaction.extents(file).map(\.range.lowerBound)
            }
        }
        try await put([0, 10, 20, 30, 40], sequence: 1)
        if applied > 0 { try await namespace.applyNow() }
        try await namespace.perform { transaction throws(NamespaceError) in
            try transaction.mutate(.removeExtents(file: file, from: 11))
        }
        #expect(try await offsets(namespace) == [0, 10])
        if applied > 1 { try await namespace.applyNow() }
        try await put([25, 50], sequence: 2)
        // Taken back with the body that did it.
        await #expect(throws: NamespaceError.closed) {
            try await namespace.perform { transaction throws(NamespaceError) in
                try transaction.mutate(.removeExtents(file: file, from: 0))
                guard try transaction.extents(file).isEmpty else { throw .damaged("still there") }
                throw .closed
            }
        }
        try await namespace.perform { transaction throws(NamespaceError) in
            try transaction.mutate(.removeExtents(file: file, from: 50))
        }
        #expect(try await offsets(namespace) == [0, 10, 25])
        await namespace.close()
        let again = try fixture.open()
        #expect(try await offsets(again) == [0, 10, 25])
        await again.close()
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
                if handedOut == 2 { fixture.log.fail(afterEntries: Int(seed % 4)) }
                if seed % 3 == 0 { try? await namespace.applyNow() }
            }
            fixture.crash(seed: seed)
            await namespace.close()
        }
        #expect(files.count >= 4 * 1400)
    }

    @Test("a group's id is never given out before its reservation is durable", arguments: [0, 1, 2])
    func reservedGroupIDs(kept: Int) async throws {
        var fixture = try Fixture()
        let namespace = try fixture.open()
        /// All that can be had now.
        @Sendable func take(_ transaction: inout Transaction) throws(NamespaceError) -> Set<BlockGroupID> {
            var ids: Set<BlockGroupID> = []
            do throws(NamespaceError) {
                while true { ids.insert(try transaction.newGroupID()) }
            } catch {
                guard error == .outOfGroupIDs else { throw error }
            }
            return ids
        }
        fixture.log.setMode(.held)
        let first = try await namespace.read(take)
        #expect(first.count >= 2048)
        // Now another range is being reserved; and the one behind it, but none is durable.
        for _ in 0..<3 { #expect(try await namespace.read(take) == []) }
        #expect(fixture.log.pendingCount > 0)
        fixture.log.makeDurable(1)
        let second = try await namespace.read(take)
        #expect(second.count >= 2048 && second.isDisjoint(with: first))
        fixture.crash(seed: 1, keeping: kept)
        await namespace.close()
        let again = try fixture.open(epoch: 2)
        let third = try await again.read(take)
        #expect(third.count >= 2048 && third.isDisjoint(with: first) && third.isDisjoint(with: second))
        await again.close()
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
