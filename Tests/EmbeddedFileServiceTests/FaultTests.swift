// Targets, mirrors and whole volumes that fail while the store is served.

import BlockStore
import FaultInjection
import FileService
import Glibc
import Model
import Testing

@testable import EmbeddedFileService
@testable import Namespace

@Suite("Failures while serving", .timeLimit(.minutes(10)))
struct FaultTests {
    /// 30 KiB: two full stripes of RS-3-2-4k and a part of a third.
    private let bytes = pattern(30 << 10, seed: 1)

    @Test("a volume that fails while a file is drained: it is written again to the others, and COMMIT is true")
    func failedTarget() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("a")
        try await store.service.write(bytes, to: file)
        store.disk.inject(Fault("/v4/blocks/", .sync, code: EIO))
        let verifier = try await store.service.commit(file).verifier
        #expect(try await store.service.bytes(of: file) == bytes)
        let status = await store.service.status()
        #expect(status.health == .yellow && status.counters.rewrittenGroups == 1)
        #expect(status.counters.verifierChanges == 0)
        // It is on the disks, without the failed volume and the cache.
        await store.crash(seed: 1)
        try await store.open(without: [4])
        #expect(try await store.service.bytes(of: store.service.find("a")) == bytes)
        #expect(try await store.service.commit(file).verifier != verifier)
        await store.close()
    }

    @Test("more failures than the policy allows: COMMIT fails, the verifier changes once, what was committed stays")
    func tooManyFailedTargets() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("a")
        try await store.service.write(bytes, to: file)
        let before = try await store.service.commit(file).verifier
        // As large, so that it needs every target.
        try await store.service.write(pattern(30 << 10, seed: 2), to: file, at: 1)
        for volume in ["/v3/blocks/", "/v4/blocks/"] { store.disk.inject(Fault(volume, .write, code: EIO)) }
        await #expect(throws: FileError.inputOutput) { try await store.service.commit(file) }
        // Told once; nothing is pending any more, and the verifier says that something was lost.
        let after = try await store.service.commit(file).verifier
        #expect(after != before)
        #expect(await store.service.status().counters.verifierChanges == 1)
        #expect(try await store.service.bytes(of: file) == bytes)
        await #expect(throws: FileError.readOnly) { try await store.service.write([4], to: file) }
        await store.close()
    }

    @Test("without room a write fails, and works when there is room again; the volumes stay healthy")
    func noRoom() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("a")
        store.disk.inject(Fault("/v2/blocks/", .write, code: ENOSPC))
        await #expect(throws: FileError.noSpace) { try await store.service.write(bytes, to: file, at: 0, .fileSync) }
        #expect(await store.service.status().counters.verifierChanges == 0)
        store.disk.removeFaults()
        try await store.service.write(bytes, to: file, at: 0, .fileSync)
        #expect(try await store.service.bytes(of: file) == bytes)
        let status = await store.service.status()
        #expect(status.health == .green, "\(status.reasons)")
        await store.close()
    }

    @Test("a lack of descriptors is no damage: no volume fails")
    func noDescriptors() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("a")
        store.disk.inject(Fault("/v", .open, code: EMFILE))
        await #expect(throws: FileError.noSpace) { try await store.service.write(bytes, to: file, at: 0, .fileSync) }
        store.disk.removeFaults()
        try await store.service.write(bytes, to: file, at: 0, .fileSync)
        #expect(await store.service.status().health == .green)
        await store.close()
    }

    @Test("a metadata mirror that fails is left out when it is noticed, and another copy is made")
    func failedMirror() async throws {
        let store = try SimulatedStore("RS-3-2-4k", volumes: 6)
        try await store.open()
        let epoch = store.core.epochs.epoch
        store.disk.inject(Fault("/v1/metadata/", .sync, code: EIO))
        try await store.service.make("a")
        try await store.core.namespace.applyNow()
        #expect(store.core.epochs.epoch > epoch)
        let lost = try #require(store.core.volumes.present.first { $0.index == 1 }).id
        #expect(!store.core.epochs.mirrorSet.contains(lost))
        store.disk.removeFaults()
        await store.service.tick()
        #expect(store.core.epochs.mirrorSet.count == 3 && !store.core.epochs.mirrorSet.contains(lost))
        try await store.service.make("b")
        // Any two volumes go, two of the new mirrors among them.
        await store.crash(seed: 2)
        try await store.open(without: [0, 2])
        _ = try await store.service.find("a")
        _ = try await store.service.find("b")
        await store.close()
    }

    @Test("a volume that disappears loses its mirror too, so that the next failure finds enough others")
    func disappearedVolume() async throws {
        let store = try SimulatedStore("RS-3-2-4k", volumes: 6)
        try await store.open()
        store.disk.disappear("/v0")
        store.clock.advance(seconds: 60)
        await store.service.tick()
        #expect(store.core.epochs.mirrorSet.count == 3)
        store.disk.disappear("/v1")
        store.clock.advance(seconds: 60)
        await store.service.tick()
        try await store.service.make("a")
        #expect(store.core.epochs.mirrorSet.count == 3)
        await store.close()
    }
}
