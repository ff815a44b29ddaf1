// Disks that fail or fill up while the store is served, and what clients are told then.

import BlockStore
import FaultInjection
import FileService
import Glibc
import Model
import Platform
import Testing

@testable import EmbeddedFileService
@testable import Namespace

@Suite("When disks fail", .timeLimit(.minutes(10)))
struct DiskFaultTests {
    private func superblocks(_ store: SimulatedStore) throws -> [Superblock] {
        try store.paths.map { try Superblock.read(volumeDirectory: $0, fileSystem: store.disk) }
    }

    /// Whether the start says that nothing of the highest epoch is there, or what else it says.
    private func refusal(_ store: SimulatedStore, without missing: Set<Int>) async throws -> StoreRefusal.Reason? {
        do {
            try await store.open(without: missing)
            return nil
        } catch let refusal as StoreRefusal {
            return refusal.reason
        }
    }

    // MARK: Data

    @Test("a drain whose volume fails is done again on others", arguments: [FileOperation.open, .write, .sync])
    func drainAgain(operation: FileOperation) async throws {
        let store = try SimulatedStore(volumes: 6)
        try await store.open()
        let file = try await store.service.make("f")
        store.disk.inject(Fault("/v2/blocks/", operation, code: EIO))
        let bytes = pattern(40_000, seed: 1)
        let written = try await store.service.write(bytes, to: file)
        let committed = try await store.service.commit(file)
        #expect(committed.verifier == written.verifier)
        #expect(try await store.service.bytes(of: file) == bytes)
        let status = await store.service.status()
        #expect(status.health == .yellow)
        #expect(status.counters.rewrittenGroups >= 1)
        #expect(status.volumes[2].isHealthy == false && status.degradedBlockGroups == 0)
        // Power goes, and the failed volume and another are gone with it.
        await store.crash(seed: 1)
        try await store.open(without: [2, 0])
        #expect(try await store.service.bytes(of: file) == bytes)
        try await store.core.checkNamespace()
        await store.close()
    }

    @Test(
        "a disk that is gone, or can't say how much room it has, is not taken for a full one", arguments: [true, false])
    func goneDisk(isGone: Bool) async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("f")
        let bytes = pattern(40_000, seed: 16)
        let written = try await store.service.write(bytes, to: file)
        if isGone {
            store.disk.disappear("/v4/")
        } else {
            store.disk.inject(Fault("/v4", .space, code: EIO))
        }
        #expect(try await store.service.commit(file).verifier == written.verifier)
        #expect(try await store.service.bytes(of: file) == bytes)
        let status = await store.service.status()
        #expect(status.health == .yellow && status.counters.verifierChanges == 0)
        await store.crash(seed: 2)
        try await store.open(without: [4])
        #expect(try await store.service.bytes(of: file) == bytes)
        await store.close()
    }

    @Test("a volume that fails leaves what was published before readable, and later groups go without it")
    func failsBetweenDrains() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("f")
        let stripe = store.policy.stripeSizeBytes
        let bytes = pattern(4 * stripe, seed: 2)
        // On a stripe boundary, so that the group stays open.
        try await store.service.write(Array(bytes[..<(2 * stripe)]), to: file, .fileSync)
        store.disk.inject(Fault("/v1/blocks/", .write, code: EIO))
        try await store.service.write(Array(bytes[(2 * stripe)...]), to: file, at: UInt64(2 * stripe), .fileSync)
        #expect(try await store.service.bytes(of: file) == bytes)
        try await store.restart(without: [1])
        #expect(try await store.service.bytes(of: file) == bytes)
        #expect(await store.service.status().health == .yellow)
        await store.close()
    }

    @Test("more failures than allowed: COMMIT fails, the verifier changes once, WRITE is refused, the rest is readable")
    func tooManyFailures() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("f")
        let committed = pattern(30_000, seed: 3)
        let first = try await store.service.write(committed, to: file)
        #expect(try await store.service.commit(file).verifier == first.verifier)
        // What fills no stripe.
        let journaled = await store.service.status().counters.pendingBytes
        #expect(journaled > 0)
        for volume in 0..<2 { store.disk.inject(Fault("/v\(volume)/blocks/", .sync, code: EIO)) }
        try await store.service.write(pattern(40_000, seed: 4), to: file, at: 10_000)
        #expect(try await store.service.attributes(of: file).size == 50_000)
        await #expect(throws: FileError.inputOutput) { try await store.service.commit(file) }
        // Told: the file is what the store has, and a COMMIT shows by its verifier what was lost.
        let again = try await store.service.commit(file)
        #expect(again.verifier != first.verifier)
        #expect(again.change.after.size == 30_000)
        #expect(try await store.service.bytes(of: file) == committed)
        for _ in 0..<3 {
            await #expect(throws: FileError.readOnly) { try await store.service.write([1], to: file) }
        }
        let status = await store.service.status()
        #expect(status.counters.verifierChanges == 1 && status.counters.writeBackErrors == 1)
        #expect(status.counters.pendingBytes == journaled && status.health == .yellow)
        #expect(try await store.service.commit(file).verifier == again.verifier)
        // Names can still be changed, and disks may come back.
        try await store.service.make("g")
        store.disk.removeFaults()
        try await store.restart()
        #expect(try await store.service.bytes(of: file) == committed)
        #expect(try await store.orphans().isEmpty)
        #expect(await store.service.status().health == .green)
        await store.close()
    }

    @Test("an error that nobody waited for is kept until a client was told")
    func sticky() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let (file, other) = (try await store.service.make("f"), try await store.service.make("g"))
        let kept = pattern(5_000, seed: 5)
        try await store.service.write(kept, to: other, .fileSync)
        for volume in 0..<5 { store.disk.inject(Fault("/v\(volume)/blocks/", .write, code: ENOSPC)) }
        let before = try await store.service.write(pattern(20_000, seed: 6), to: file)
        store.clock.advance(seconds: 10)
        await store.service.tick()
        await eventually("the drain fails") { await store.service.status().counters.writeBackErrors == 1 }
        await #expect(throws: FileError.noSpace) { try await store.service.write([1], to: file) }
        store.disk.removeFaults()
        let after = try await store.service.write([1], to: file)
        #expect(after.verifier != before.verifier)
        #expect(try await store.service.commit(file).verifier == after.verifier)
        #expect(try await store.service.bytes(of: file) == [1])
        #expect(try await store.service.bytes(of: other) == kept)
        #expect(await store.service.status().counters.verifierChanges == 1)
        await store.close()
    }

    @Test(
        "a FILE_SYNC WRITE that can't be made durable says so, and doesn't touch what is there",
        arguments: [10_000, 20_000], [2, 5])
    func failedStableWrite(size: Int, failingVolumes: Int) async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("f")
        let bytes = pattern(size, seed: 7)
        try await store.service.write(bytes, to: file, .fileSync)
        for volume in 0..<failingVolumes { store.disk.inject(Fault("/v\(volume)/blocks/", .sync, code: EIO)) }
        await #expect(throws: FileError.inputOutput) {
            try await store.service.write(pattern(30_000, seed: 8), to: file, .fileSync)
        }
        // With no volume to write to there is no journal either.
        #expect((store.service.failure == nil) == (failingVolumes == 2))
        if failingVolumes == 2 { #expect(try await store.service.bytes(of: file) == bytes) }
        await store.crash(seed: 7)
        try await store.open()
        #expect(try await store.service.bytes(of: file) == bytes)
        try await store.core.checkNamespace()
        await store.close()
    }

    // MARK: Room

    @Test("a volume without room is passed over when there are others, and stays healthy")
    func oneFull() async throws {
        let store = try SimulatedStore(volumes: 6)
        try await store.open()
        let file = try await store.service.make("f")
        store.disk.inject(Fault("/v1/blocks/", .write, code: ENOSPC))
        let bytes = pattern(40_000, seed: 9)
        try await store.service.write(bytes, to: file)
        try await store.service.commit(file)
        #expect(try await store.service.bytes(of: file) == bytes)
        let status = await store.service.status()
        #expect(status.volumes[1].isHealthy && status.health == .green && status.counters.rewrittenGroups >= 1)
        await store.close()
    }

    @Test("no room anywhere is told as such, and there is room again when there is", arguments: [true, false])
    func allFull(foundByWriting: Bool) async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("f")
        try await store.service.write(pattern(10_000, seed: 10), to: file, .fileSync)
        for volume in 0..<5 {
            if foundByWriting {
                store.disk.inject(Fault("/v\(volume)/blocks/", .write, code: ENOSPC))
            } else {
                // Less than what is kept for metadata.
                store.disk.setCapacity(64 << 20, under: "/v\(volume)/")
            }
        }
        let bytes = pattern(40_000, seed: 11)
        let lost = try await store.service.write(bytes, to: file)
        await #expect(throws: FileError.noSpace) { try await store.service.commit(file) }
        // Names and attributes are still taken.
        try await store.service.make("g")
        try await store.service.truncate(file, to: 5_000)
        store.disk.removeFaults()
        for volume in 0..<5 { store.disk.setCapacity(nil, under: "/v\(volume)/") }
        let again = try await store.service.write(bytes, to: file)
        #expect(again.verifier != lost.verifier)
        #expect(try await store.service.commit(file).verifier == again.verifier)
        try await store.restart()
        #expect(try await store.service.bytes(of: file) == bytes)
        #expect(try await store.orphans().isEmpty)
        #expect(await store.service.status().health == .green)
        await store.close()
    }

    // MARK: Mirrors

    @Test("a mirror that failed lacks nothing that the journal doesn't have, until a new epoch leaves it out")
    func failedMirror() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let before = try superblocks(store)
        let ids = before.map(\.volumeID)
        #expect(before[0].mirrorSet == Array(ids[0..<3]))
        store.disk.inject(Fault("/v1/metadata/", .sync, code: EIO))
        try await store.service.make("f")
        // What is on the disks at the moment of the reply.
        let opened = try superblocks(store)
        #expect(opened.allSatisfy { $0.mirrorSet == Array(ids[0..<3]) })
        await store.crash(seed: 2)
        #expect(try superblocks(store) == opened)
        let copy = store.copyOfDisk()
        #expect(try await refusal(store, without: [0, 2]) == nil)
        _ = try await store.service.find("f")
        await store.close()

        store.use(copy)
        try await store.open()
        store.disk.inject(Fault("/v1/metadata/", .sync, code: EIO))
        let epoch = store.core.epochs.epoch
        try await store.service.make("g")
        try await store.core.namespace.applyNow()
        // Before the journal may forget anything.
        await store.crash(seed: 3)
        for superblock in try superblocks(store) {
            #expect(superblock.epoch == epoch.next)
            #expect(superblock.mirrorSet == [ids[0], ids[2]])
        }
        // The old mirror on volume 1 must not be believed, although no other is there.
        #expect(try await refusal(store, without: [0, 2]) == .stale)
        try await store.open(without: [0])
        _ = try await store.service.find("g")
        await store.close()
    }

    @Test("two mirrors that fail at once leave the third")
    func twoFailedMirrors() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let ids = try superblocks(store).map(\.volumeID)
        store.disk.inject(Fault("/v1/metadata/", .sync, code: EIO))
        store.disk.inject(Fault("/v2/superblock", code: EIO))
        try await store.service.make("f")
        try await store.core.namespace.applyNow()
        let first = try Superblock.read(volumeDirectory: "/v0", fileSystem: store.disk)
        #expect(first.mirrorSet == [ids[0]])
        await store.service.tick()
        await store.service.tick()
        try await store.service.make("g")
        await store.crash(seed: 5)
        try await store.open(without: [0, 2])
        _ = try await store.service.find("g")
        await store.close()
    }

    @Test("without any mirror the store ends, and what was answered before is in the journal")
    func noMirror() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("f")
        let bytes = pattern(1000, seed: 12)
        try await store.service.write(bytes, to: file, .fileSync)
        for volume in 0..<5 { store.disk.inject(Fault("/v\(volume)/metadata/", .sync, code: EIO)) }
        try await store.service.make("g")
        let more = pattern(1000, seed: 13)
        try await store.service.write(more, to: file, at: 2000, .fileSync)
        #expect(store.service.failure == nil)
        await #expect(throws: NamespaceError.self) { try await store.core.namespace.applyNow() }
        #expect(store.service.failure != nil)
        await #expect(throws: FileError.inputOutput) { try await store.service.make("h") }
        await #expect(throws: FileError.inputOutput) { try await store.service.truncate(file, to: 5) }
        await #expect(throws: FileError.inputOutput) {
            try await store.service.write(pattern(1000, seed: 14), to: file, at: 4000)
        }
        await #expect(throws: FileError.inputOutput) { try await store.service.commit(file) }
        await store.service.tick()
        #expect(await store.service.status().volumes.allSatisfy(\.isHealthy))
        await store.crash(seed: 6)
        try await store.open()
        #expect(try await store.service.bytes(of: file) == bytes + Array(repeating: 0, count: 1000) + more)
        _ = try await store.service.find("g")
        await #expect(throws: FileError.notFound) { try await store.service.find("h") }
        await store.close()
    }

    // MARK: Reading

    @Test("reads decode around damage and count it; beyond m blocks they fail and health is red")
    func damagedBlocks() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("f")
        let bytes = pattern(50_000, seed: 14)
        try await store.service.write(bytes, to: file, .fileSync)
        var random = SeededGenerator(seed: 15)
        store.damageBlocks(of: 0, .flippedBits, using: &random)
        store.damageBlocks(of: 3, .truncated, using: &random)
        try await store.restart()
        #expect(try await store.service.bytes(of: file) == bytes)
        let degraded = await store.service.status()
        #expect(degraded.health == .yellow && degraded.counters.decodedStripes > 0)
        store.damageBlocks(of: 1, .emptied, using: &random)
        try await store.restart()
        await #expect(throws: FileError.inputOutput) { try await store.service.bytes(of: file) }
        #expect(await store.service.status().health == .red)
        await store.close()
    }
}
