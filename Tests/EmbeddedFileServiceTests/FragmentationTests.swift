// Files in very many pieces: they read right, and nothing that they cost is without a bound.

import FaultInjection
import FileService
import Model
import Platform
import Testing
import WriteBack

@testable import EmbeddedFileService

@Suite("Files in many pieces")
struct FragmentationTests {
    /// Reads on until the end, as a client does after short reads.
    private func readAll(
        _ service: EmbeddedFileService, _ file: FileReference, count: Int = 1 << 20
    ) async throws -> (bytes: [UInt8], replies: [ReadResult]) {
        var bytes: [UInt8] = []
        var replies: [ReadResult] = []
        while true {
            let result = try await service.read(
                file, offset: UInt64(bytes.count), count: count, as: SimulatedStore.superuser)
            bytes += result.payload.bytes
            replies.append(result)
            if result.isAtEnd { return (bytes, replies) }
            guard !result.payload.isEmpty else {
                Issue.record("no bytes, and not the end")
                return (bytes, replies)
            }
        }
    }

    @Test("single bytes, pending and stored, are copied into one buffer; beyond 4,096 of them a READ is short")
    func singleBytes() async throws {
        let store = try SimulatedStore()
        store.limits.maxPendingBytes = 64 << 20
        store.limits.drainChunkBytes = 1 << 20
        try await store.open()
        let file = try await store.service.make("a")
        var expected = [UInt8](repeating: 0, count: 20_000)
        for round in 0..<2 {
            for place in stride(from: round, to: expected.count, by: 3) {
                expected[place] = UInt8(truncatingIfNeeded: place % 251 + 1 + round)
                try await store.service.write([expected[place]], to: file, at: UInt64(place))
            }
            // The first round is stored, in batches, the second stays pending.
            if round == 0 { try await store.service.commit(file) }
        }
        expected.removeLast(expected.count - 1 - (expected.lastIndex { $0 != 0 } ?? 0))
        let (bytes, replies) = try await readAll(store.service, file)
        #expect(bytes == expected)
        #expect(replies.count > 1)
        #expect(replies.allSatisfy { $0.payload.segments.count == 1 })
        try await store.service.commit(file)
        #expect(try await readAll(store.service, file).bytes == expected)
        await store.close()
    }

    /// A store in which what was written goes to a group of its own when it is to be durable, however little it is.
    private func storeWithoutRoomInJournal() throws -> SimulatedStore {
        let store = try SimulatedStore()
        store.limits.maxJournaledBytes = 0
        return store
    }

    @Test("a READ makes no more than 256 reads of groups")
    func manyGroups() async throws {
        let store = try storeWithoutRoomInJournal()
        try await store.open()
        let file = try await store.service.make("a")
        var expected = [UInt8](repeating: 0, count: 299 * 100 + 1)
        for index in 0..<300 {
            expected[index * 100] = UInt8(index % 255 + 1)
            // Each ends inside a stripe, so each has a group.
            try await store.service.write([expected[index * 100]], to: file, at: UInt64(index * 100), .fileSync)
        }
        let (bytes, replies) = try await readAll(store.service, file)
        #expect(bytes == expected)
        #expect(replies.count == 2)
        #expect(replies[0].payload.count == 256 * 100 && !replies[0].isAtEnd)
        await store.close()
    }

    @Test("groups that stay open between drains are bounded, whatever is written")
    func openGroups() async throws {
        let store = try SimulatedStore()
        // Two groups of RS-3-2 on five volumes.
        store.bounds.maxOpenFiles = 40
        try await store.open()
        let stripe = pattern(3 * 4096, seed: 1)
        for index in 0..<12 {
            let file = try await store.service.make("f\(index)")
            try await store.service.write(stripe, to: file)
            try await store.service.commit(file)
            #expect(store.core.groups.openCount <= 3)
        }
        #expect(store.core.groups.openCount > 0)
        for index in 0..<12 {
            let file = try await store.service.find("f\(index)")
            #expect(try await store.service.bytes(of: file) == stripe)
        }
        await store.close()
    }

    @Test("the blocks of a file that had hundreds of groups are deleted a few at a time, and all go")
    func deletions() async throws {
        let store = try storeWithoutRoomInJournal()
        try await store.open()
        let file = try await store.service.make("a")
        for index in 0..<300 as Range<UInt64> {
            try await store.service.write([1], to: file, at: index * 100, .fileSync)
        }
        #expect(store.allBlockFiles.count >= 300 * 3 * 2)
        try await store.service.remove("a")
        await eventually("all blocks are deleted") { store.core.deletions.count == 0 }
        #expect(store.allBlockFiles.isEmpty)
        await store.close()
    }
}
