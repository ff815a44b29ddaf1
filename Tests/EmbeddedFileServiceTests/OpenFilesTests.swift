// What files that are open for writing may keep: descriptors and cells, however many files there are.

import FaultInjection
import FileService
import Journal
import Model
import Striping
import Testing
import WriteBack

@testable import EmbeddedFileService
@testable import WriteBack

@Suite("Many open files", .timeLimit(.minutes(10)))
struct OpenFilesTests {
    private func store(_ change: (SimulatedStore) -> Void) async throws -> SimulatedStore {
        let store = try SimulatedStore()
        change(store)
        try await store.open()
        return store
    }

    private func finish(_ store: SimulatedStore) async throws {
        try await store.core.checkNamespace()
        await store.close()
        #expect(store.disk.openFileCount == 0)
    }

    @Test("files between drains hold no cells, and all together no more descriptors than they may")
    func bounds() async throws {
        let store = try await store {
            $0.bounds.maxOpenFiles = 200
            $0.bounds.journal.patience = SimulatedStore.endlessPatience
            // Neither its room nor memory is what this is about.
            $0.bounds.journal.capacityBytes = 64 << 20
            $0.limits.maxPendingBytes = 8 << 20
        }
        // So much that each file has a group of its own.
        let size = 8 * store.policy.stripeSizeBytes
        let atStart = store.disk.openFileCount
        let pool = store.service.writeBack.sink.pool
        var files: [FileReference] = []
        var mostDescriptors = 0
        for index in 0..<60 {
            let file = try await store.service.make("f\(index)")
            // Full stripes, so that the group stays open for what may follow.
            try await store.service.write(pattern(size, seed: UInt64(index)), to: file, at: 0)
            try await store.service.commit(file)
            files.append(file)
            mostDescriptors = max(mostDescriptors, store.disk.openFileCount)
        }
        // Five volumes, two files each: ten groups in half of what may be open, the other half is for readers.
        #expect(store.service.writeBack.sink.outputs.count == 10)
        #expect(mostDescriptors <= atStart + 200)
        await eventually("all cells are given back") { pool.freeCount == pool.capacity }
        // Only for these something is left to do.
        #expect(store.service.writeBack.usage.openFiles == 10)
        // They go on where they are.
        for (index, file) in files.enumerated() {
            try await store.service.write(pattern(100, seed: UInt64(index + 100)), to: file, at: UInt64(size))
        }
        store.clock.advance(seconds: 5)
        store.service.settleIdleFiles()
        // What they have in the journal makes no stripe, all together.
        await eventually("all files rest") { store.service.writeBack.usage.restingFiles == files.count }
        #expect(store.service.writeBack.usage.restingBytes == 100 * files.count)
        #expect(pool.freeCount == pool.capacity && store.service.writeBack.sink.outputs.count == 0)
        #expect(store.disk.openFileCount <= atStart + 200)
        try await store.stripeEverything()
        for (index, file) in files.enumerated() {
            let found = try await store.service.bytes(of: file)
            #expect(found == pattern(size, seed: UInt64(index)) + pattern(100, seed: UInt64(index + 100)))
        }
        try await finish(store)
    }

    @Test("of more files than may be open those that rest longest are settled, and what was written is there")
    func contexts() async throws {
        let store = try await store {
            $0.limits.maxOpenContexts = 16
            $0.limits.maxPendingBytes = 8 << 20
        }
        for index in 0..<100 {
            let file = try await store.service.make("f\(index)")
            try await store.service.write(pattern(300, seed: UInt64(index)), to: file, at: 100)
            #expect(store.service.writeBack.usage.openFiles <= 17)
        }
        // Nobody committed anything, and nobody closed it in order.
        await eventually("most are settled") { store.service.writeBack.usage.openFiles <= 16 }
        await store.crash(seed: 3)
        try await store.open()
        var kept = 0
        for index in 0..<100 {
            let found = try await store.service.bytes(of: store.service.find("f\(index)"))
            guard !found.isEmpty else { continue }
            #expect(found == [UInt8](repeating: 0, count: 100) + pattern(300, seed: UInt64(index)))
            kept += 1
        }
        #expect(kept >= 84)
        try await finish(store)
    }
}
