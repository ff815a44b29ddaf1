// Mirrors that are added while others fail, copies that fail, and mirrors whose rows contradict each other or themselves
// under right checksums.

import FaultInjection
import Glibc
import Model
import Platform
import Synchronization
import Testing

@testable import Namespace

@Suite("Faults of mirrors")
struct MirrorFaultTests {
    /// What a namespace has told of its mirrors.
    final class Reports: Sendable {
        private let state = Mutex((failed: [VolumeID](), ends: 0, recorded: [[VolumeID]]()))
        var failed: [VolumeID] { state.withLock { $0.failed } }
        var ends: Int { state.withLock { $0.ends } }
        var recorded: [[VolumeID]] { state.withLock { $0.recorded } }

        func fail(_ failed: [VolumeID], _ remaining: [VolumeID]) -> Bool {
            state.withLock { $0.failed += failed }
            return !remaining.isEmpty
        }
        func end() { state.withLock { $0.ends += 1 } }
        func record(_ mirrors: [VolumeID]) { state.withLock { $0.recorded.append(mirrors) } }
    }

    private func open(
        _ fixture: Fixture, _ indices: [Int], _ reports: Reports, epoch: UInt64 = 1
    ) throws -> Namespace {
        try fixture.open(
            indices.map { fixture.mirrors[$0] }, epoch: epoch, cacheLimit: 2, onMirrorFailure: reports.fail,
            onFailure: { _ in reports.end() })
    }

    // MARK: Members

    @Test(
        "one that was added is recorded with those there are at that moment, not with one that failed before",
        arguments: [true, false])
    func recordedMembers(failsBefore: Bool) async throws {
        let fixture = try Fixture(mirrors: 3)
        let volumes = fixture.mirrors.map(\.volume)
        let reports = Reports()
        let namespace = try open(fixture, [0, 1], reports)
        fixture.disk.inject(Fault("/v1/", .sync, code: EIO))
        try await namespace.create(Fixture.name("a"))
        // The batch that loses a mirror is on its way when the copy is asked for, or the other way round.
        let gate = Gate()
        let pause = Task { try await namespace.withMirrors { _ in gate.pass() } }
        await gate.waitForArrival()
        let lose = { @Sendable () async throws -> Void in try await namespace.applyNow() }
        let add = { @Sendable () async throws -> Void in
            try await namespace.addMirror(fixture.mirrors[2]) { mirrors in
                reports.record(mirrors)
                return true
            }
        }
        let first = Task { try await (failsBefore ? lose : add)() }
        await Task.yield()
        let second = Task { try await (failsBefore ? add : lose)() }
        gate.open()
        try await pause.value
        try await first.value
        try await second.value
        try await namespace.create(Fixture.name("b"))
        try await namespace.applyNow()
        #expect(reports.failed == [volumes[1]])
        let last = try #require(reports.recorded.last)
        #expect(reports.recorded.count == 1 && Set(last).count == last.count && last.contains(volumes[2]))
        // Whichever came first: who isn't among the mirrors is not recorded, or was told of afterwards.
        #expect(try await namespace.mirrorVolumes() == [volumes[0], volumes[2]])
        await namespace.close()
        #expect(fixture.inspect(2) == fixture.inspect(0))
    }

    @Test("one that can't be recorded is given up, that is told, and the rest go on")
    func notRecorded() async throws {
        let fixture = try Fixture(mirrors: 3)
        let volumes = fixture.mirrors.map(\.volume)
        let reports = Reports()
        let namespace = try open(fixture, [0, 1], reports)
        try await namespace.create(Fixture.name("a"))
        await #expect(throws: NamespaceError.self) {
            try await namespace.addMirror(fixture.mirrors[2]) { mirrors in
                reports.record(mirrors)
                return false
            }
        }
        #expect(reports.recorded == [volumes] && reports.failed == [volumes[2]] && reports.ends == 0)
        let writes = fixture.disk.callCount(.write, under: "/v2/")
        try await namespace.create(Fixture.name("b"))
        try await namespace.applyNow()
        #expect(try await namespace.mirrorVolumes() == Array(volumes[..<2]))
        #expect(fixture.disk.callCount(.write, under: "/v2/") == writes)
        // It may be tried again.
        try await namespace.addMirror(fixture.mirrors[2]) { _ in true }
        #expect(try await namespace.mirrorVolumes() == volumes)
        await namespace.close()
        #expect(fixture.inspect(2) == fixture.inspect(1))
    }

    @Test("a volume has one mirror: another is refused, when it is added and when the namespace is opened")
    func twice() async throws {
        let fixture = try Fixture(mirrors: 2)
        let reports = Reports()
        #expect(throws: NamespaceError.self) { try open(fixture, [0, 1, 0], reports) }
        let namespace = try open(fixture, [0, 1], reports)
        await #expect(throws: NamespaceError.self) {
            try await namespace.addMirror(fixture.mirrors[1]) { mirrors in
                reports.record(mirrors)
                return true
            }
        }
        #expect(reports.recorded.isEmpty && reports.failed.isEmpty)
        try await namespace.create(Fixture.name("a"))
        #expect(try await namespace.mirrorVolumes() == fixture.mirrors.map(\.volume))
        await namespace.close()
        #expect(fixture.inspect(0) == fixture.inspect(1))
    }

    @Test("two that are added at once to one volume are one")
    func addedAtOnce() async throws {
        let fixture = try Fixture(mirrors: 3)
        let reports = Reports()
        let namespace = try open(fixture, [0, 1], reports)
        let tasks = (0..<2).map { _ in
            Task { (try? await namespace.addMirror(fixture.mirrors[2]) { _ in true }) != nil }
        }
        var added = 0
        for task in tasks where await task.value { added += 1 }
        #expect(added == 1)
        #expect(try await namespace.mirrorVolumes() == fixture.mirrors.map(\.volume))
        await namespace.close()
    }

    @Test("the end of the namespace is told once, before anybody is answered", arguments: [true, false])
    func end(whenApplied: Bool) async throws {
        let fixture = try Fixture()
        let reports = Reports()
        let namespace = try open(fixture, [0, 1], reports)
        try await namespace.create(Fixture.name("a"))
        #expect(reports.ends == 0)
        if whenApplied {
            fixture.disk.inject(Fault("/v", .sync, code: EIO))
            // What the log has is answered.
            try await namespace.create(Fixture.name("b"))
            let applied = fixture.log.appliedNumber
            await #expect(throws: NamespaceError.self) { try await namespace.applyNow() }
            #expect(reports.ends == 1 && fixture.log.appliedNumber == applied)
        } else {
            for mirror in fixture.mirrors { try? await namespace.dropMirror(on: mirror.volume) }
        }
        for _ in 0..<2 {
            await #expect(throws: NamespaceError.self) { try await namespace.create(Fixture.name("c")) }
            await #expect(throws: NamespaceError.self) { try await namespace.mirrorVolumes() }
            await #expect(throws: NamespaceError.self) {
                try await namespace.addMirror(fixture.mirrors[0]) { _ in true }
            }
        }
        #expect(reports.ends == 1)
        await namespace.close()
    }

    // MARK: Copies

    @Test(
        "a copy that failed leaves nothing behind, and works later",
        arguments: [FileOperation.write, .sync, .read, .rename], [ENOSPC, EIO])
    func failedCopy(_ operation: FileOperation, _ code: Int32) async throws {
        let fixture = try Fixture(mirrors: 3)
        try fixture.disk.remove(fixture.mirrors[2].path)
        let reports = Reports()
        let namespace = try open(fixture, [0, 1], reports)
        for index in 0..<50 { try await namespace.create(Fixture.name("\(index)")) }
        try await namespace.applyNow()
        for afterCalls in [0, 1, 3] {
            // Less calls than that are no failure.
            let calls = fixture.disk.callCount(operation, under: "/v2/")
            fixture.disk.inject(Fault("/v2/", operation, code: code, afterCalls: afterCalls))
            do {
                try await namespace.addMirror(fixture.mirrors[2]) { _ in true }
                #expect(fixture.disk.callCount(operation, under: "/v2/") - calls <= afterCalls)
                try await namespace.dropMirror(on: fixture.mirrors[2].volume)
            } catch {
                #expect(try fixture.disk.list("/v2") == [], "after \(afterCalls): \(error)")
            }
            fixture.disk.removeFaults()
            for name in try fixture.disk.list("/v2") { try fixture.disk.remove("/v2/" + name) }
        }
        #expect(try await namespace.mirrorVolumes().count == 2)
        try await namespace.addMirror(fixture.mirrors[2]) { _ in true }
        #expect(try fixture.disk.list("/v2").allSatisfy { !$0.contains(".new") })
        await namespace.close()
        #expect(fixture.inspect(2) == fixture.inspect(0))
    }

    @Test("a copy is made from another mirror when the first one turns out damaged")
    func damagedSource() async throws {
        let fixture = try Fixture(mirrors: 3)
        let reports = Reports()
        let made = try open(fixture, [0, 1], reports)
        let id = try await made.create(Fixture.name("a"))
        await made.close()
        try change(fixture, 0, [.putInode(Self.implausible(id) { $0.linkCount = 0 })])
        let namespace = try open(fixture, [0, 1], reports)
        try await namespace.addMirror(fixture.mirrors[2]) { _ in true }
        #expect(try await namespace.mirrorVolumes().contains(fixture.mirrors[2].volume))
        await namespace.close()
        guard case .verified = fixture.inspect(2) else {
            Issue.record("\(fixture.inspect(2))")
            return
        }
        #expect(try inode(fixture, 2, id)?.linkCount == 1)
    }

    @Test("a mirror that was closed is replaced in one step: at no moment is there none", arguments: 0..<40)
    func replacedInOneStep(calls: Int) async throws {
        var fixture = try Fixture()
        let namespace = try fixture.open([fixture.mirrors[0]], epoch: 2)
        for index in 0..<20 { try await namespace.create(Fixture.name("\(index)")) }
        await namespace.close()
        guard case .verified(let old) = fixture.inspect(1), case .verified(let new) = fixture.inspect(0) else {
            Issue.record("not verified")
            return
        }
        #expect(old < new)
        fixture.disk.losePower(afterCalls: calls)
        try? Namespace.copy(from: fixture.mirrors[0], to: fixture.mirrors[1], fileSystem: fixture.disk)
        fixture.disk = fixture.disk.crash(seed: UInt64(calls))
        let found = fixture.inspect(1)
        #expect(found == .verified(old) || found == .verified(new), "\(found)")
    }

    // MARK: Rows

    private static func implausible(_ id: FileID, _ change: (inout Inode) -> Void) -> Inode {
        var inode = Fixture.inode(id)
        change(&inode)
        return inode
    }

    private static let group = BlockGroupID(ordinal: 7)

    private static func blockGroup(_ id: BlockGroupID = group, length: UInt64 = 5000, live: UInt64 = 3000) throws
        -> BlockGroup
    {
        BlockGroup(
            id: id, generationStamp: .first, policy: try ErasureCodingPolicy("RS-3-2-4k"), length: length,
            locations: [nil, nil, nil, nil, nil], liveBytes: live)
    }

    private static func extent(
        _ range: ByteRange, at groupOffset: UInt64 = 0, sequence: UInt64 = 1, group: BlockGroupID = group
    ) -> Extent {
        Extent(range: range, group: group, groupOffset: groupOffset, sequence: WriteSequence(rawValue: sequence))
    }

    /// Rows that are no file of this store, though their checksums are right.
    private static func implausibleRows(_ id: FileID) throws -> [(what: String, mutation: Mutation)] {
        func inode(_ what: String, _ change: (inout Inode) -> Void) -> (String, Mutation) {
            (what, .putInode(implausible(id, change)))
        }
        var group = try blockGroup()
        group.generationStamp = GenerationStamp(rawValue: 1000)
        return [
            inode("size") { $0.size = Limits.maxFileBytes + 1 },
            inode("used bytes beyond the size") { $0.usedBytes = 1 },
            inode("used bytes that would overflow") {
                $0.usedBytes = .max
                $0.size = Limits.maxFileBytes
            },
            inode("no link") { $0.linkCount = 0 },
            inode("links") { $0.linkCount = .max },
            inode("mode") { $0.mode = 0o10000 },
            inode("cookie of a special entry") { $0.nextCookie = 2 },
            inode("last cookie") { $0.nextCookie = 1 << 63 },
            inode("entries of a file") {
                $0.entryCount = 1
                $0.nextCookie = 9
            },
            inode("more entries than cookies") {
                $0.type = .directory
                $0.parent = .root
                $0.entryCount = 1
            },
            inode("directory without a parent") { $0.type = .directory },
            inode("link without a target") { $0.type = .symbolicLink },
            inode("sequence") { $0.writeSequence = WriteSequence(rawValue: .max) },
            inode("time") { $0.changeTime = Timestamp(seconds: .max, nanoseconds: 999_999_999) },
            (
                "extent beyond the end of any group",
                .putExtent(file: id, extent(ByteRange(0, 1), at: Limits.maxFileBytes))
            ),
            (
                "extent longer than any group",
                .putExtent(file: id, extent(ByteRange(0, UInt64(Limits.maxInternalBlockBytes) * 17)))
            ),
            (
                "extent in what is no group",
                .putExtent(file: id, extent(ByteRange(0, 1), group: BlockGroupID(rawValue: 16)))
            ),
            ("extent's sequence", .putExtent(file: id, extent(ByteRange(0, 1), sequence: .max))),
            ("group longer than its policy allows", .putGroup(try blockGroup(length: 1 << 40))),
            ("more live bytes than bytes", .putGroup(try blockGroup(live: 5001))),
            ("group's id", .putGroup(try blockGroup(BlockGroupID(rawValue: group.id.rawValue + 1)))),
            ("group's stamp", .putGroup(group)),
            ("state of file ids", .putState(.fileIDsReserved, .max)),
            ("state of group ids", .putState(.groupOrdinalsReserved, 1 << 60)),
            ("epoch", .putState(.epoch, .max)),
        ]
    }

    @Test("what was never written is damage, whatever its checksum says")
    func implausibleRows() async throws {
        let id = FileID(rawValue: 2)
        for (what, mutation) in try Self.implausibleRows(id) {
            let fixture = try Fixture()
            guard case .verified = fixture.inspect(0) else {
                Issue.record("\(what): \(fixture.inspect(0))")
                continue
            }
            try change(fixture, 0, [mutation])
            guard case .damaged(let reason, _) = fixture.inspect(0) else {
                Issue.record("\(what) was believed")
                continue
            }
            #expect(reason.contains("implausible"), "\(what): \(reason)")
        }
    }

    @Test("a row that is implausible on one mirror is served from another, and its mirror is given up")
    func implausibleRow() async throws {
        let (fixture, id) = try await fixtureWithFile()
        try change(fixture, 0, [.putInode(Self.implausible(id) { $0.usedBytes = .max })])
        let reports = Reports()
        let namespace = try open(fixture, [0, 1], reports)
        let found = try await namespace.read { transaction throws(NamespaceError) in try transaction.inode(id) }
        _ = try await namespace.mirrorVolumes()
        #expect(found?.usedBytes == 3000 && reports.failed == [fixture.mirrors[0].volume])
        await namespace.close()
    }

    /// What vanishes or changes on a mirror so that each row is right and they contradict each other.
    enum Contradiction: CaseIterable {
        case firstExtent, lastExtent, overlap, newer, beyondSize, usedBytes, inode
    }

    @Test("extents that don't fit their inode are served from another mirror", arguments: Contradiction.allCases)
    func contradiction(_ contradiction: Contradiction) async throws {
        let (fixture, id) = try await fixtureWithFile()
        try change(fixture, 0, contradiction.mutations(id))
        let expected = Self.extents
        let reports = Reports()
        let namespace = try open(fixture, [0, 1], reports)
        let extents = try await namespace.perform { transaction throws(NamespaceError) in
            // What the body has changed must move over.
            try transaction.create(Fixture.name("b"))
            return try transaction.allExtents(id)
        }
        #expect(extents == expected)
        _ = try await namespace.mirrorVolumes()
        #expect(reports.failed == [fixture.mirrors[0].volume])
        #expect(try await namespace.names() == ["a", "b"])
        await namespace.close()
    }

    @Test(
        "where all mirrors contradict themselves, it is an error for that file alone", arguments: Contradiction.allCases
    )
    func contradictionEverywhere(_ contradiction: Contradiction) async throws {
        let (fixture, id) = try await fixtureWithFile()
        for index in 0..<2 { try change(fixture, index, contradiction.mutations(id)) }
        let reports = Reports()
        let namespace = try open(fixture, [0, 1], reports)
        do {
            _ = try await namespace.read { transaction throws(NamespaceError) in try transaction.allExtents(id) }
            Issue.record("believed")
        } catch {
            guard case .damaged = error else { throw error }
        }
        #expect(reports.failed.isEmpty && reports.ends == 0)
        try await namespace.create(Fixture.name("b"))
        await namespace.close()
    }

    @Test(
        "a group that is missing, or too short for its extents, is served from another mirror",
        arguments: [true, false])
    func group(isMissing: Bool) async throws {
        let (fixture, _) = try await fixtureWithFile()
        try change(fixture, 0, [isMissing ? .removeGroup(Self.group) : .putGroup(try Self.blockGroup(length: 3500))])
        let reports = Reports()
        let namespace = try open(fixture, [0, 1], reports)
        let found = try await namespace.read { transaction throws(NamespaceError) in
            try transaction.existingGroup(Self.group, holding: 4000)
        }
        _ = try await namespace.mirrorVolumes()
        #expect(found == (try Self.blockGroup()) && reports.failed == [fixture.mirrors[0].volume])
        await #expect(throws: NamespaceError.self) {
            try await namespace.read { transaction throws(NamespaceError) in
                try transaction.existingGroup(Self.group, holding: 5001)
            }
        }
        #expect(reports.failed == [fixture.mirrors[0].volume])
        await namespace.close()
    }

    @Test("an inode that an entry names, and that is missing, is served from another mirror", arguments: [true, false])
    func missingInode(isKnownMissing: Bool) async throws {
        let (fixture, id) = try await fixtureWithFile()
        try change(fixture, 0, [.removeInode(id)])
        let reports = Reports()
        let namespace = try open(fixture, [0, 1], reports)
        let found = try await namespace.read { transaction throws(NamespaceError) in
            // A handle may name what is gone; that it is not there is kept in memory then.
            if isKnownMissing { _ = try transaction.inode(id) }
            return try transaction.existingInode(id)
        }
        _ = try await namespace.mirrorVolumes()
        #expect(found.usedBytes == 3000 && reports.failed == [fixture.mirrors[0].volume])
        await namespace.close()
    }

    // MARK: Help

    static let extents = [
        extent(ByteRange(0, 1000)), extent(ByteRange(2000, 3000), at: 1000),
        extent(ByteRange(4000, 5000), at: 3000, sequence: 2),
    ]

    static func file(_ id: FileID) -> Inode {
        var inode = Fixture.inode(id, size: 6000)
        inode.usedBytes = 3000
        inode.writeSequence = WriteSequence(rawValue: 2)
        return inode
    }

    private func fixtureWithFile() async throws -> (Fixture, FileID) {
        let fixture = try Fixture()
        let namespace = try fixture.open()
        let id = try await namespace.create(Fixture.name("a"))
        let group = try Self.blockGroup()
        try await namespace.perform { transaction throws(NamespaceError) in
            try transaction.mutate(.putInode(Self.file(id)))
            for extent in Self.extents { try transaction.mutate(.putExtent(file: id, extent)) }
            try transaction.mutate(.putGroup(group))
        }
        await namespace.close()
        return (fixture, id)
    }

    /// Changes rows of one mirror behind the others' back.
    private func change(_ fixture: Fixture, _ index: Int, _ mutations: [Mutation]) throws {
        guard case .verified(let position) = fixture.inspect(index) else {
            Issue.record("\(fixture.inspect(index))")
            return
        }
        let mirror = try Mirror(fixture.mirrors[index], fixture.disk)
        defer { mirror.close() }
        try mirror.apply([MetadataRecord(number: position.logNumber, mutations: mutations)])
        try mirror.commit(upTo: position.logNumber)
    }

    private func inode(_ fixture: Fixture, _ index: Int, _ id: FileID) throws -> Inode? {
        let mirror = try Mirror(fixture.mirrors[index], fixture.disk)
        defer { mirror.close() }
        return try mirror.inode(id)
    }
}

extension MirrorFaultTests.Contradiction {
    fileprivate func mutations(_ id: FileID) -> [Mutation] {
        let extents = MirrorFaultTests.extents
        var inode = MirrorFaultTests.file(id)
        switch self {
        case .firstExtent: return [.removeExtent(file: id, offset: 0)]
        case .lastExtent: return [.removeExtent(file: id, offset: 4000)]
        case .overlap:
            // As many bytes as before.
            return [
                .removeExtent(file: id, offset: 2000),
                .putExtent(
                    file: id,
                    Extent(
                        range: ByteRange(500, 1500), group: extents[0].group, groupOffset: 1000,
                        sequence: extents[0].sequence)),
            ]
        case .newer: inode.writeSequence = WriteSequence(rawValue: 1)
        case .beyondSize: inode.size = 4999
        case .usedBytes: inode.usedBytes = 2999
        case .inode: return [.removeInode(id)]
        }
        return [.putInode(inode)]
    }
}
