// What a start refuses, and what it finds again.

import BlockStore
import FaultInjection
import FileService
import Glibc
import Model
import Platform
import Testing

@testable import EmbeddedFileService

@Suite("What a start refuses", .timeLimit(.minutes(10)))
struct StartRefusalTests {
    private func refusal(
        _ store: SimulatedStore, volumes: [String]? = nil
    ) async throws -> StoreRefusal? {
        do {
            let service = try await EmbeddedFileService.open(
                volumes: volumes ?? store.paths, fileSystem: store.disk, clock: store.clock, log: SimulatedStore.quiet)
            _ = await service.close()
            return nil
        } catch {
            return error
        }
    }

    @Test("a volume of another store is refused and named")
    func foreign() async throws {
        let store = try SimulatedStore()
        let others = (0..<5).map { "/w\($0)" }
        for path in others { try store.disk.createDirectory(path) }
        var random = SeededGenerator(seed: 99)
        try EmbeddedFileService.format(
            volumes: others, policy: store.policy, fileSystem: store.disk, clock: store.clock, random: &random)
        let refusal = try #require(try await refusal(store, volumes: Array(store.paths.dropLast()) + ["/w4"]))
        #expect(refusal.reason == .foreign && refusal.description.contains("/w4"))
    }

    @Test("a volume of another format version is refused")
    func otherVersion() async throws {
        let store = try SimulatedStore()
        let path = "/v3/superblock"
        var bytes = try #require(store.disk.content(of: path))
        // Magic of 25 bytes, then the version; the checksum is the last four.
        bytes[28] = 200
        let checksum = crc32c(bytes.dropLast(4))
        bytes.replaceSubrange((bytes.count - 4)..., with: withUnsafeBytes(of: checksum.bigEndian) { Array($0) })
        store.disk.overwrite(path, at: 0, with: bytes)
        let refusal = try #require(try await refusal(store))
        #expect(refusal.reason == .otherVersion && refusal.description.contains("version 200"))
    }

    @Test("directories that were never formatted are refused")
    func notFormatted() async throws {
        let store = try SimulatedStore()
        try store.disk.createDirectory("/x")
        #expect(try await refusal(store, volumes: ["/x"])?.reason == .notFormatted)
    }

    @Test("a volume that fails while the store is being opened is one that is missing", arguments: [2, 3])
    func failsMeanwhile(count: Int) async throws {
        let store = try SimulatedStore()
        // Its superblock has been read twice when the volume is opened.
        for path in store.paths.prefix(count) {
            store.disk.inject(Fault(path + "/superblock", isWholePath: true, .open, code: EIO, afterCalls: 2))
        }
        let refusal = try await refusal(store)
        #expect(refusal?.reason == (count == 2 ? nil : .incomplete))
    }

    @Test("a volume that was away comes back: its old mirror doesn't win, its dead blocks go")
    func comesBack() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let old = try await store.service.make("old")
        let bytes = pattern(60_000, seed: 1)
        try await store.service.write(bytes, to: old, .fileSync)
        try await store.restart(without: [0])
        try await store.service.remove("old")
        let new = try await store.service.make("new")
        try await store.service.write(bytes, to: new, .fileSync)
        try await store.restart()
        #expect(try await store.service.bytes(of: new) == bytes)
        await #expect(throws: FileError.notFound) { try await store.service.find("old") }
        #expect(try await store.orphans().isEmpty)
        // Only what was written while it was away lacks a block.
        #expect(await store.service.status().health == .yellow)
        // One block of it was never written, so one more volume may go.
        try await store.restart(without: [1])
        #expect(try await store.service.bytes(of: new) == bytes)
        try await store.core.checkNamespace()
        await store.close()
    }

    @Test("only stale metadata are refused, and where the good ones were is said")
    func onlyStale() async throws {
        let store = try SimulatedStore("XOR-2-1-4k", volumes: 3)
        try await store.open()
        // Mirrors on volumes 0 and 1; without 1 the other two get a new epoch, and 2 a mirror.
        try await store.restart(without: [1])
        try await store.service.make("f")
        await store.close()
        store.disk.disappear("/v0/")
        var random = SeededGenerator(seed: 3)
        // What volume 2 has is unreadable: only the old mirror of volume 1 is left.
        let path = "/v2/metadata/namespace.sqlite"
        let size = try #require(store.disk.content(of: path)?.count)
        for _ in 0..<200 { store.disk.flipBits(path, at: Int.random(in: 0..<size, using: &random)) }
        let refusal = try #require(try await refusal(store, volumes: ["/v1", "/v2"]))
        #expect(refusal.reason == .stale)
        #expect(refusal.description.contains("/v0") && refusal.description.contains("/v2"))
        // It is the mirrors that are missed, not only what the journal says of them: volume 0 may have the new epoch, too.
        #expect(refusal.description.hasPrefix("no usable metadata of epoch"), "\(refusal)")
    }

    @Test("ids of files and generations stay what they were, the verifier doesn't")
    func handles() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("f")
        let first = try await store.service.write([1], to: file, .fileSync)
        let (storeID, key) = (store.service.storeID, store.service.handleKey)
        try await store.restart()
        #expect(store.service.storeID == storeID && store.service.handleKey == key)
        #expect(try await store.service.find("f") == file)
        let second = try await store.service.write([2], to: file)
        #expect(second.verifier != first.verifier)
        let forged = FileReference(id: file.id, generation: FileGeneration(rawValue: file.generation.rawValue &+ 1))
        await #expect(throws: FileError.stale) { try await store.service.attributes(of: forged) }
        await store.close()
    }

    /// CRC32C, bit by bit.
    private func crc32c(_ bytes: some Sequence<UInt8>) -> UInt32 {
        var crc: UInt32 = ~0
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 0 ? crc >> 1 : (crc >> 1) ^ 0x82f6_3b78 }
        }
        return ~crc
    }
}
