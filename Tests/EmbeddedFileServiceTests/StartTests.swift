// Whom a start believes: epochs, mirrors, volumes that were away.

import BlockStore
import FaultInjection
import FileService
import Glibc
import Model
import Testing

@testable import EmbeddedFileService
@testable import Namespace

@Suite("Starts", .timeLimit(.minutes(10)))
struct StartTests {
    private func refusal(_ store: SimulatedStore, without missing: Set<Int>) async throws -> StoreRefusal? {
        do {
            try await store.open(without: missing)
            await store.close()
            return nil
        } catch let refusal as StoreRefusal {
            return refusal
        }
    }

    @Test("with fewer than N − m volumes is refused, and the missing ones are named")
    func tooFewVolumes() async throws {
        let store = try SimulatedStore()
        let refused = try #require(try await refusal(store, without: [0, 2, 3]))
        #expect(refused.reason == .incomplete)
        for volume in ["/v0", "/v2", "/v3"] { #expect(refused.description.contains("last at \(volume)")) }
        #expect(try await refusal(store, without: [0, 2]) == nil)
    }

    @Test("a volume that comes back with old metadata neither wins nor is believed")
    func returningMirror() async throws {
        let store = try SimulatedStore()
        try await store.open()
        try await store.service.make("before")
        await store.close()
        try await store.open(without: [0])
        try await store.service.make("after")
        await store.close()
        // Volume 0 is back; two that were there are gone.
        try await store.open(without: [1, 2])
        _ = try await store.service.find("after")
        await store.close()
    }

    @Test("an epoch that was only begun when the power went can't hide a later one", arguments: 0..<30)
    func interruptedEpoch(calls: Int) async throws {
        let store = try SimulatedStore()
        // A start that is cut off somewhere in the superblocks: some volumes may have its epoch, some not.
        store.disk.losePower(afterCalls: calls * 6)
        if (try? await store.open()) != nil { await store.close() }
        await store.crash(seed: UInt64(calls))
        // Another start without the volume that the first one wrote first.
        try await store.open(without: [0])
        let file = try await store.service.make("promised")
        try await store.service.write([1, 2, 3], to: file, at: 0, .fileSync)
        await store.close()
        // Volume 0 is back and two others are away.
        try await store.open(without: [1, 2])
        #expect(try await store.service.bytes(of: store.service.find("promised")) == [1, 2, 3])
        await store.close()
    }

    @Test("an epoch that can't have come about is not needed: who has it may be lost")
    func epochOfFew() async throws {
        var (few, enough) = (0, 0)
        for calls in stride(from: 0, to: 150, by: 2) {
            let store = try SimulatedStore()
            try await store.open()
            let file = try await store.service.make("promised")
            try await store.service.write([1, 2, 3], to: file, at: 0, .fileSync)
            await store.close()
            store.disk.losePower(afterCalls: calls)
            if (try? await store.open()) != nil { await store.close() }
            await store.crash(seed: UInt64(calls))

            let epochs = try store.paths.map {
                try Superblock.read(volumeDirectory: $0, fileSystem: store.disk).epoch
            }
            let highest = try #require(epochs.max())
            let holders = epochs.indices.filter { epochs[$0] == highest }
            if holders.count < 3 {
                few += 1
                // Their superblocks are there, their metadata are not.
                for index in holders { store.disk.inject(Fault("/v\(index)/metadata/", code: EIO)) }
                try await store.open()
                #expect(try await store.service.bytes(of: store.service.find("promised")) == [1, 2, 3])
                await store.close()
            } else if holders.count < 5 {
                enough += 1
                // Something may have been answered by these.
                for index in holders { store.disk.inject(Fault("/v\(index)/metadata/", code: EIO)) }
                #expect(try await refusal(store, without: [])?.reason == .stale)
                // Also with some of them away, as far as anybody can know.
                #expect(try await refusal(store, without: Set(holders.prefix(2)))?.reason == .stale)
            }
        }
        #expect(few > 2 && enough > 1, "\(few), \(enough)")
    }

    @Test("after all metadata mirrors failed at once the store starts again", arguments: [EIO, ENOSPC])
    func allMirrorsFailed(code: Int32) async throws {
        let store = try SimulatedStore()
        try await store.open()
        try await store.service.make("a")
        for index in 0..<3 { store.disk.inject(Fault("/v\(index)/metadata/", .write, code: code)) }
        try await store.service.make("b")
        await #expect(throws: NamespaceError.self) { try await store.core.namespace.applyNow() }
        await #expect(throws: FileError.inputOutput) { try await store.service.make("c") }
        await store.close()
        store.disk.removeFaults()
        try await store.open()
        _ = try await store.service.find("a")
        _ = try await store.service.find("b")
        await #expect(throws: FileError.notFound) { try await store.service.find("c") }
        await store.close()
    }

    @Test("the status of a store that is not served changes nothing on any volume")
    func inspectionIsReadOnly() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("a")
        try await store.service.write(pattern(20_000, seed: 3), to: file, at: 0, .fileSync)
        await store.close()
        func positions() throws -> [String] {
            try StoreInspection(paths: store.paths, fileSystem: store.disk).mirrors.map { "\($0.position)" }
        }
        let before = try positions()
        let status = try await EmbeddedFileService.inspect(
            volumes: store.paths, fileSystem: store.disk, clock: store.clock, log: SimulatedStore.quiet)
        #expect(status.health == .green && status.files == 1 && !status.isServed)
        #expect(try positions() == before)
    }

    @Test("a volume of another store is refused")
    func foreignVolumes() async throws {
        let store = try SimulatedStore()
        var superblock = try Superblock.read(volumeDirectory: "/v0", fileSystem: store.disk)
        superblock.storeID = StoreID(rawValue: UniqueID(high: 1, low: 2))
        try superblock.write(volumeDirectory: "/v0", fileSystem: store.disk)
        #expect(try await refusal(store, without: [])?.reason == .foreign)
    }
}
