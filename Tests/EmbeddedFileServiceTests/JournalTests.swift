// What a COMMIT leaves in the journal: that it is durable there, what supersedes it, and how it gets to where it belongs.

import BlockStore
import FaultInjection
import FileService
import Journal
import Model
import Platform
import Testing
import WriteBack

@testable import EmbeddedFileService
@testable import Namespace
@testable import WriteBack

@Suite("Small files in the journal", .timeLimit(.minutes(10)))
struct JournalTests {
    func openStore(_ change: (SimulatedStore) -> Void = { _ in }) async throws -> SimulatedStore {
        let store = try SimulatedStore()
        store.bounds.journal.patience = SimulatedStore.endlessPatience
        change(store)
        try await store.open()
        return store
    }

    /// Closes it when nothing contradicts anything.
    func finish(_ store: SimulatedStore) async throws {
        try await store.core.checkNamespace()
        try await store.restart()
        try await store.core.checkNamespace()
        #expect(try await store.orphans() == [])
        await store.close()
        #expect(store.disk.openFileCount == 0)
    }

    /// All sets of two of the five volumes.
    private static let pairs: [[Int]] = (0..<5).flatMap { first in (first + 1..<5).map { [first, $0] } }

    // MARK: A COMMIT

    @Test(
        "a COMMIT of a small file, or a stable WRITE, syncs the journal's replicas and nothing else",
        arguments: [false, true])
    func commitOfSmallFile(isStable: Bool) async throws {
        let store = try await openStore()
        let replicas = Set(try #require(store.core.journal).usage.replicas.compactMap { store.core.volumes[$0]?.index })
        #expect(replicas == [0, 3, 4])
        let file = try await store.service.make("f")
        // Later ones go into the same segment.
        func syncs() -> [Int] {
            store.paths.map {
                store.disk.callCount(.sync, under: $0 + "/") - store.disk.callCount(.sync, under: $0 + "/journal/")
            }
        }
        let others = syncs()
        let groups = try #require(store.core.journal).usage.groups
        let inJournal = store.paths.map { store.disk.callCount(.sync, under: $0 + "/journal/") }
        let bytes = pattern(5000, seed: 1)
        try await store.service.write(bytes, to: file, at: 100, isStable ? .fileSync : .unstable)
        if !isStable { try await store.service.commit(file) }
        for volume in 0..<5 {
            let count = store.disk.callCount(.sync, under: "/v\(volume)/journal/")
            #expect((count > inJournal[volume]) == replicas.contains(volume))
        }
        #expect(try #require(store.core.journal).usage.groups == groups + 1)
        #expect(syncs() == others && store.allBlockFiles.isEmpty)
        #expect(try await store.journaledBytes(of: file) == 5000)
        // There is nothing more to be done for it.
        try await store.service.commit(file)
        #expect(try #require(store.core.journal).usage.groups == groups + 1)
        let expected = [UInt8](repeating: 0, count: 100) + bytes
        #expect(try await store.service.bytes(of: file) == expected)
        #expect(try await store.service.attributes(of: file).usedBytes == 5000)
        try await finish(store)
    }

    @Test(
        "what is journaled is there after a power cut without any two volumes, and when they return", arguments: pairs)
    func powerCut(without missing: [Int]) async throws {
        let store = try await openStore()
        var files: [String: [UInt8]] = [:]
        for index in 0..<4 as Range<UInt64> {
            files["f\(index)"] = pattern(3000, seed: index)
            try await store.service.write(pattern(3000, seed: index), to: store.service.make("f\(index)"), .fileSync)
        }
        // With stripes and a rest.
        let long = pattern(30_000, seed: 9)
        files["long"] = long
        let file = try await store.service.make("long")
        try await store.service.write(long, to: file)
        try await store.service.commit(file)
        #expect(try await store.journaledBytes(of: file) == 30_000 - 2 * store.policy.stripeSizeBytes)
        await store.crash(seed: UInt64(missing[0] * 5 + missing[1]))

        func check(_ when: Comment) async throws {
            for (name, bytes) in files {
                let found = try await store.service.bytes(of: store.service.find(name))
                #expect(found == bytes, "\(name) \(when)")
            }
        }
        try await store.open(without: Set(missing))
        try await check("without two volumes")
        #expect(await store.service.status().health != .red)
        // There are too few to stripe anything, so it stays where it is.
        await store.close()
        #expect(store.disk.openFileCount == 0)
        try await store.open()
        try await check("with stale volumes")
        try await store.stripeEverything()
        try await check("when all is striped")
        await store.crash(seed: 2)
        try await store.open(without: Set(missing))
        try await check("in block groups")
        await store.close()
        try await store.open()
        try await finish(store)
    }

    // MARK: What supersedes it

    enum Moment: CaseIterable {
        /// Nothing has been done with the journal since.
        case atOnce
        /// The mirrors have it.
        case applied
        /// It was found by a start.
        case restarted
        /// It was striped, and the journal may still have it.
        case striped
    }

    @Test(
        "a truncate, remove, replacement or overwrite holds after a crash, whatever the journal has",
        arguments: Moment.allCases, [[], [0, 3], [1, 4]])
    func superseded(moment: Moment, missing: [Int]) async throws {
        let store = try await openStore()
        var expected: [String: [UInt8]?] = [:]
        let old = pattern(4000, seed: 1)
        for index in 0..<12 {
            let file = try await store.service.make("f\(index)")
            try await store.service.write(old, to: file)
            try await store.service.commit(file)
            expected["f\(index)"] = old
        }
        switch moment {
        case .atOnce: break
        case .applied: try await store.core.namespace.applyNow()
        case .restarted:
            await store.crash(seed: 1)
            try await store.open()
        case .striped: try await store.stripeEverything()
        }
        let service = store.service
        let root = try await service.rootReference()
        let user = SimulatedStore.superuser
        func find(_ index: Int) async throws -> FileReference { try await service.find("f\(index)") }

        try await service.truncate(find(0), to: 1000)
        expected["f0"] = Array(old[..<1000])
        // Down and up: there must be zeros.
        try await service.truncate(find(1), to: 1000)
        try await service.truncate(find(1), to: 3000)
        expected["f1"] = old[..<1000] + [UInt8](repeating: 0, count: 2000)
        try await service.truncate(find(2), to: 0)
        expected["f2"] = []
        // Cut, and written again, but less.
        try await service.truncate(find(3), to: 0)
        try await service.write([7, 8, 9], to: find(3), at: 10, .fileSync)
        expected["f3"] = [UInt8](repeating: 0, count: 10) + [7, 8, 9]
        try await service.remove("f4")
        expected["f4"] = .some(nil)
        _ = try await service.rename(name("f5"), in: root, to: name("f6"), in: root, as: user)
        expected["f5"] = .some(nil)
        // Over it, in the middle, and beyond the end.
        try await service.write(pattern(500, seed: 2), to: find(7), at: 1000, .fileSync)
        expected["f7"] = old[..<1000] + pattern(500, seed: 2) + old[1500...]
        try await service.write(pattern(500, seed: 3), to: find(8), at: 3900)
        try await service.commit(find(8))
        expected["f8"] = old[..<3900] + pattern(500, seed: 3)
        // What nobody was promised is lost, and what was before it is not.
        try await service.write(pattern(500, seed: 4), to: find(9), at: 1000)
        // A name more, and one less.
        _ = try await service.link(find(10), as: name("g"), in: root, by: user)
        try await service.remove("f10")
        expected["f10"] = .some(nil)
        expected["g"] = old
        // Full stripes over all of it.
        try await service.write(pattern(2 * store.policy.stripeSizeBytes, seed: 5), to: find(11), .fileSync)
        expected["f11"] = pattern(2 * store.policy.stripeSizeBytes, seed: 5)

        func check(_ when: Comment) async throws {
            for (name, bytes) in expected {
                guard let bytes else {
                    await #expect(throws: FileError.notFound, "\(name) \(when)") {
                        try await store.service.find(name)
                    }
                    continue
                }
                let file = try await store.service.find(name)
                #expect(try await store.service.bytes(of: file) == bytes, "\(name) \(when)")
                #expect(try await store.service.attributes(of: file).size == UInt64(bytes.count), "\(name) \(when)")
            }
        }
        await store.crash(seed: 2)
        try await store.open(without: Set(missing))
        try await check("after the crash")
        // Once more, from what the first start has left.
        await store.crash(seed: 3)
        try await store.open()
        try await check("after another")
        try await store.stripeEverything()
        try await check("when all is striped")
        let used = expected.values.reduce(0) { $0 + UInt64($1?.count ?? 0) }
        // Holes.
        #expect(await store.service.status().bytes == used - 2000 - 10)
        await store.crash(seed: 4)
        try await store.open(without: Set(missing))
        try await check("in block groups")
        await store.close()
        try await store.open()
        try await finish(store)
    }

    // MARK: Settling in the background

    @Test("a start opens no file; ticks have all of the journal striped, and its segments freed")
    func background() async throws {
        let store = try await openStore {
            // Nothing presses.
            $0.bounds.journal.capacityBytes = 64 << 20
            $0.limits.maxPendingBytes = 8 << 20
        }
        // Full stripes, all together.
        let (count, bytesEach) = (48, 1024)
        #expect(count * bytesEach % store.policy.stripeSizeBytes == 0)
        for index in 0..<count {
            // They must not be packed before.
            let file = try await store.service.make("f\(index)")
            try await store.service.write(pattern(bytesEach, seed: UInt64(index)), to: file, .fileSync)
        }
        #expect(store.allBlockFiles.isEmpty)
        await store.crash(seed: 1)
        try await store.open()
        let service = store.service
        #expect(store.core.recovered.count == count && store.core.nodes.count == 0)
        #expect(service.writeBack.usage.openFiles == 0)
        // One is wanted before.
        #expect(try await service.bytes(of: service.find("f7")) == pattern(bytesEach, seed: 7))
        #expect(store.core.recovered.count == count - 1 && service.writeBack.usage.openFiles == 1)
        #expect(store.allBlockFiles.isEmpty)
        let journal = try #require(store.core.journal)
        #expect(journal.usage.segments > 1)
        await eventually("the journal holds nothing any more") {
            store.clock.advance(seconds: 1)
            await service.tick()
            // The last segment stays, there will be more.
            return store.core.recovered.count == 0 && service.writeBack.usage.openFiles == 0
                && journal.usage.segments == 1
        }
        #expect(service.writeBack.usage.packs > 0 && service.writeBack.usage.failedPacks == 0)
        // Four stripes.
        let groups = try await store.blockGroups()
        #expect(groups.reduce(0) { $0 + $1.length } == UInt64(count * bytesEach))
        #expect(groups.reduce(0) { $0 + $1.liveBytes } == UInt64(count * bytesEach))
        // The next group says which segments are not needed any more.
        try await service.make("last")
        // Nothing is taken from the journal then.
        await store.crash(seed: 2)
        try await store.open(without: [1, 3])
        #expect(store.core.recovered.count == 0)
        for index in 0..<count {
            let found = try await store.service.bytes(of: store.service.find("f\(index)"))
            #expect(found == pattern(bytesEach, seed: UInt64(index)))
        }
        await store.close()
        try await store.open()
        try await finish(store)
    }

    @Test("a store that was closed in order has nothing in its journal")
    func closedInOrder() async throws {
        let store = try await openStore()
        for index in 0..<5 as Range<UInt64> {
            let file = try await store.service.make("f\(index)")
            try await store.service.write(pattern(1000, seed: index), to: file, index % 2 == 0 ? .fileSync : .unstable)
        }
        await store.close()
        let blocks = store.allBlockFiles
        #expect(!blocks.isEmpty)
        try await store.open()
        // What the last segment still has is in block groups: that is seen when the files are opened.
        await eventually("all are looked at") {
            await store.service.tick()
            return store.core.recovered.count == 0 && store.service.writeBack.usage.openFiles == 0
        }
        for index in 0..<5 as Range<UInt64> {
            let file = try await store.service.find("f\(index)")
            #expect(try await store.context(of: file).isClean)
            #expect(try await store.service.bytes(of: file) == pattern(1000, seed: index))
        }
        #expect(store.allBlockFiles == blocks && store.service.writeBack.usage.packs == 0)
        try await finish(store)
    }

    @Test("many small files share few block groups, which go when the last of them is gone")
    func packed() async throws {
        let store = try await openStore { $0.limits.maxPendingBytes = 8 << 20 }
        let (count, bytesEach) = (600, 1500)
        let stripe = UInt64(store.policy.stripeSizeBytes)
        for index in 0..<count {
            let file = try await store.service.make("f\(index)")
            try await store.service.write(pattern(bytesEach, seed: UInt64(index)), to: file, .fileSync)
            if index % 20 == 0 {
                store.clock.advance(seconds: 6)
                await store.service.tick()
            }
        }
        await eventually("what is left makes no stripe") {
            store.clock.advance(seconds: 6)
            await store.service.tick()
            let usage = store.service.writeBack.usage
            return usage.openFiles == usage.restingFiles && usage.restingBytes < stripe
        }
        let groups = try await store.blockGroups()
        let total = UInt64(count * bytesEach)
        // 73 stripes, at most 32 in a group. A group more for who came while another had it.
        #expect(groups.count >= 3 && groups.count <= 6, "\(groups.map(\.length))")
        #expect(groups.allSatisfy { $0.length <= 32 * stripe && $0.length % stripe == 0 })
        #expect(groups.reduce(0) { $0 + $1.length } > total - stripe)
        #expect(store.allBlockFiles.count <= groups.count * 2 * store.policy.totalUnits)
        func check() async throws {
            for index in 0..<count {
                let found = try await store.service.bytes(of: store.service.find("f\(index)"))
                #expect(found == pattern(bytesEach, seed: UInt64(index)))
            }
        }
        try await check()
        await store.crash(seed: 1)
        try await store.open(without: [0, 4])
        try await check()
        await store.close()
        try await store.open()
        try await store.core.checkNamespace()
        for index in 0..<count where index % 2 == 0 { try await store.service.remove("f\(index)") }
        try await store.core.checkNamespace()
        for index in 0..<count where index % 2 == 1 {
            let found = try await store.service.bytes(of: store.service.find("f\(index)"))
            #expect(found == pattern(bytesEach, seed: UInt64(index)))
        }
        for index in 0..<count where index % 2 == 1 { try await store.service.remove("f\(index)") }
        try await store.restart()
        await eventually("all blocks are deleted") { store.core.deletions.count == 0 }
        #expect(store.allBlockFiles.isEmpty)
        #expect(try await store.blockGroups().isEmpty)
        try await finish(store)
    }
}
