// Replicas of the journal that fail while the store is served, and those that were away.

import BlockStore
import FaultInjection
import FileService
import Glibc
import Journal
import Model
import Synchronization
import Testing

@testable import EmbeddedFileService
@testable import Namespace

@Suite("Replicas of the journal in a store", .timeLimit(.minutes(10)))
struct JournalReplicaTests {
    private func superblocks(_ store: SimulatedStore) throws -> [Superblock] {
        try store.paths.map { try Superblock.read(volumeDirectory: $0, fileSystem: store.disk) }
    }

    /// The volumes with a replica, as the superblocks have it.
    private func replicas(_ store: SimulatedStore) -> Set<Int> {
        Set(store.core.epochs.journal.volumes.compactMap { store.core.volumes[$0]?.index })
    }

    private func usage(_ store: SimulatedStore) -> JournalUsage { store.core.journal?.usage ?? JournalUsage() }

    /// Small files, each with bytes of its own in the journal, and what is in them.
    private struct Files {
        var bytes: [String: [UInt8]] = [:]

        mutating func make(_ count: Int, in store: SimulatedStore) async throws {
            for _ in 0..<count {
                let name = "f\(bytes.count)"
                let content = pattern(9_000, seed: UInt64(bytes.count))
                let file = try await store.service.make(name)
                try await store.service.write(content, to: file, .fileSync)
                bytes[name] = content
            }
        }

        func check(in store: SimulatedStore, _ comment: Comment) async throws {
            for (name, content) in bytes {
                let found = try await store.service.bytes(of: store.service.find(name))
                #expect(found == content, comment)
            }
            try await store.core.checkNamespace()
        }
    }

    /// Opens a copy of the disk without each set of at most `count` volumes, and finds everything.
    private func checkWithout(_ count: Int, of store: SimulatedStore, _ files: Files) async throws {
        let disk = store.copyOfDisk()
        for first in store.paths.indices {
            for second in first..<store.paths.count where count > 1 || second == first {
                store.use(disk.crash(seed: 0))
                try await store.open(without: [first, second])
                try await files.check(in: store, "without \(first) and \(second)")
                await store.close()
            }
        }
        store.use(disk)
    }

    @Test(
        "one that fails is replaced by a new generation before the reply; older segments follow, then any m volumes may go",
        arguments: [FileOperation.write, .sync], [3, 0])
    func replaced(operation: FileOperation, volume: Int) async throws {
        let store = try SimulatedStore()
        try await store.open()
        #expect(replicas(store) == [3, 4, 0])
        var files = Files()
        // Several segments.
        try await files.make(20, in: store)
        #expect(usage(store).segments > 2)
        let before = store.core.epochs.epoch
        let journal = store.core.epochs.journal
        store.disk.inject(Fault("/v\(volume)/journal/", operation, code: EIO, writtenBytes: 4096))
        try await files.make(1, in: store)
        // What is on the disks at the moment of the reply.
        let lost = try #require(store.core.volumes.present.first { $0.index == volume }).id
        let now = store.core.epochs.journal
        #expect(now.epoch > before && !now.volumes.contains(lost) && now.volumes.count == 3)
        #expect(now.firstNumber > journal.firstNumber)
        for superblock in try superblocks(store) where superblock.volumeID != lost {
            #expect(superblock.epoch == now.epoch && superblock.journal == now)
        }
        #expect(usage(store).failedReplicas == 1 && usage(store).segmentsShortOfReplicas > 2)
        let status = await store.service.status()
        #expect(status.health == .yellow && !status.volumes[volume].isHealthy)
        #expect(status.reasons.contains { $0.hasSuffix("segments of the journal lack a copy") })
        // In the background, while there is other work.
        await eventually("older segments are copied") {
            await store.service.tick()
            return usage(store).segmentsShortOfReplicas == 0
        }
        try await files.make(3, in: store)
        #expect(replicas(store) == Set([3, 4, 0, 1]).subtracting([volume]))
        await store.crash(seed: UInt64(volume))
        try await checkWithout(2, of: store, files)
    }

    @Test("all of a generation's replicas may fail, one after the other, while there are others")
    func oneAfterTheOther() async throws {
        let store = try SimulatedStore(volumes: 7)
        try await store.open()
        var files = Files()
        try await files.make(3, in: store)
        for volume in [3, 4] {
            store.disk.disappear("/v\(volume)/")
            try await files.make(1, in: store)
            #expect(!replicas(store).contains(volume) && replicas(store).count == 3)
            await eventually("older segments are copied") {
                await store.service.tick()
                return usage(store).segmentsShortOfReplicas == 0
            }
        }
        await store.crash(seed: 4)
        try await store.open(without: [3, 4])
        try await files.check(in: store, "without those that failed")
        await store.close()
    }

    @Test(
        "one whose volume was away comes back with an old journal: it neither wins nor is believed",
        arguments: [3, 4, 0])
    func cameBack(volume: Int) async throws {
        let store = try SimulatedStore()
        try await store.open()
        var files = Files()
        try await files.make(4, in: store)
        try await store.service.make("removed")
        await store.crash(seed: 1)
        try await store.open(without: [volume])
        try await store.service.remove("removed")
        try await files.make(4, in: store)
        let file = try await store.service.find("f0")
        try await store.service.write([1, 2, 3], to: file, .fileSync)
        files.bytes["f0"]?.replaceSubrange(0..<3, with: [1, 2, 3])
        await store.crash(seed: 2)
        // It is back, and two that have the last generation are away: what it has is not asked for the rest.
        let disk = store.copyOfDisk()
        let others = Set(0..<5).subtracting([volume])
        for away in [[]] + others.map({ [$0] }) + others.flatMap({ a in others.filter { $0 > a }.map { [a, $0] } }) {
            store.use(disk.crash(seed: 0))
            try await store.open(without: Set(away))
            try await files.check(in: store, "\(volume) is back, without \(away)")
            await #expect(throws: FileError.notFound) { try await store.service.find("removed") }
            await store.close()
        }
    }

    @Test("so is a longer tail of it, that was never answered")
    func unansweredTail() async throws {
        let store = try SimulatedStore()
        try await store.open()
        var files = Files()
        try await files.make(2, in: store)
        // The next group is held up on one replica, so that many entries gather behind it.
        let (gate, disk) = (Gate(), store.disk)
        disk.before(.write, under: "/v3/journal/1.new") { gate.pass() }
        let synced =
            disk.callCount(.sync, under: "/v4/journal/1.new") + disk.callCount(.sync, under: "/v0/journal/1.new")
        let service = store.service
        let held = Task { try await service.make("answered") }
        await gate.waitForArrival()
        await eventually("the others have it") {
            disk.callCount(.sync, under: "/v4/journal/1.new") + disk.callCount(.sync, under: "/v0/journal/1.new")
                == synced + 2
        }
        // What gathers comes to one replica only: it is longer than all that will come later.
        store.disk.inject(Fault("/v4/journal/", .write, code: EIO))
        store.disk.inject(Fault("/v0/journal/", .write, code: EIO))
        for volume in 0..<5 { store.disk.inject(Fault("/v\(volume)/superblock", code: EIO)) }
        let unanswered = (0..<8).map { number in Task { try await service.make("unanswered\(number)") } }
        try await eventually("all have been appended") {
            try await service.core.look { transaction throws(FileError) in transaction.counts.files } == 2 + 1 + 8
        }
        try await service.core.look { _ throws(FileError) in }
        gate.open()
        _ = try await held.value
        for task in unanswered { await #expect(throws: FileError.self) { try await task.value } }
        #expect(store.service.failure != nil)
        await store.crash(seed: 3)
        for volume in [3, 4, 0] {
            let content = try #require(store.disk.content(of: "/v\(volume)/journal/1.segment"))
            #expect(content.contains(Array("unanswered7".utf8)) == (volume == 3))
        }

        try await store.open(without: [3])
        try await files.make(1, in: store)
        _ = try await store.service.find("answered")
        await store.crash(seed: 4)
        let later = store.copyOfDisk()
        for away in [[], [0], [1], [2], [4], [0, 1], [0, 4], [1, 2], [1, 4]] as [Set<Int>] {
            store.use(later.crash(seed: 0))
            try await store.open(without: away)
            try await files.check(in: store, "without \(away)")
            for number in 0..<8 {
                await #expect(throws: FileError.notFound) { try await store.service.find("unanswered\(number)") }
            }
            _ = try await store.service.find("answered")
            await store.close()
        }
    }

    @Test("a start without one of the last generation is refused, and says where they were")
    func noReplica() async throws {
        let store = try SimulatedStore()
        try await store.open()
        var files = Files()
        try await files.make(2, in: store)
        await store.crash(seed: 5)
        // Two are away, and the third can't be read: the mirrors alone are not believed, however whole they are.
        store.disk.inject(Fault("/v0/journal", .list, code: EIO))
        let ids = try superblocks(store).map(\.volumeID)
        do {
            try await store.open(without: [3, 4])
            Issue.record("it was opened")
            await store.close()
        } catch let refusal as StoreRefusal {
            #expect(refusal.reason == .stale)
            for volume in [3, 4] {
                #expect(refusal.description.contains("\(ids[volume]) (not there)"))
                #expect(refusal.description.contains("last at /v\(volume)"))
            }
            #expect(refusal.description.contains("\(ids[0]) (unreadable)"))
        }
        let status = try? await EmbeddedFileService.inspect(
            volumes: ["/v0", "/v1", "/v2"], fileSystem: store.disk, clock: store.clock, log: SimulatedStore.quiet)
        #expect(status == nil)
        store.disk.removeFaults()
        // With any of them all is there.
        for present in [3, 4, 0] {
            let disk = store.copyOfDisk()
            try await store.open(without: Set([3, 4, 0]).subtracting([present]))
            try await files.check(in: store, "with \(present)")
            await store.close()
            store.use(disk)
        }
    }

    @Test("where a replica can't be replaced the store fails for good, what was answered before is there")
    func irreplaceable() async throws {
        let store = try SimulatedStore()
        try await store.open()
        var files = Files()
        try await files.make(2, in: store)
        let file = try await store.service.find("f0")
        for volume in [1, 2, 4] { store.disk.inject(Fault("/v\(volume)/journal/", code: EIO)) }
        let before = try superblocks(store).map(\.journal)
        await #expect(throws: FileError.inputOutput) { try await store.service.make("late") }
        let reason = try #require(store.service.failure)
        #expect(reason.contains("of 3 volumes that it needs only 2 can be written"))
        await #expect(throws: FileError.inputOutput) { try await store.service.write([1], to: file) }
        await #expect(throws: FileError.inputOutput) { try await store.service.commit(file) }
        #expect(store.core.verifier.changes == 1)
        // No generation was begun that it can't be served by.
        #expect(try superblocks(store).map(\.journal) == before)
        await store.crash(seed: 6)
        try await checkWithout(2, of: store, files)
    }

    @Test("one that was lost is replaced although nobody changes anything")
    func idle() async throws {
        let store = try SimulatedStore()
        try await store.open()
        var files = Files()
        try await files.make(2, in: store)
        store.disk.disappear("/v3/")
        await eventually("another one is there, with everything") {
            store.clock.advance(seconds: 10)
            await store.service.tick()
            let usage = usage(store)
            return replicas(store) == [4, 0, 1] && usage.segmentsShortOfReplicas == 0 && usage.replicas.count == 3
        }
        await store.crash(seed: 7)
        try await store.open(without: [3, 4])
        try await files.check(in: store, "without 3 and 4")
        await store.close()
    }
}
