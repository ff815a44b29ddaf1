// Volumes that are nearly full: what was promised is settled all the same, so new bytes are refused early.

import FaultInjection
import FileService
import Model
import Platform
import Testing

@testable import EmbeddedFileService
@testable import Namespace
@testable import WriteBack

@Suite("Volumes that are nearly full", .timeLimit(.minutes(10)))
struct NearlyFullTests {
    /// What new data leaves of each volume (VolumeSet).
    private let reserve = 64 << 20

    /// Leaves so many bytes free on each volume.
    private func leave(_ bytes: Int, in store: SimulatedStore) async {
        for path in store.paths {
            store.disk.setCapacity(store.disk.usedBytes(under: path + "/") + bytes, under: path + "/")
        }
        await store.service.tick()
    }

    private func free(_ store: SimulatedStore) throws -> Int {
        Int(try #require(try store.paths.map { try store.disk.space($0 + "/").availableBytes }.min()))
    }

    /// Makes small files until one finds no room; those that are answered are in `files`.
    private func fill(
        _ store: SimulatedStore, _ files: inout [String: [UInt8]], maxCount: Int
    ) async throws -> Bool {
        for _ in 0..<maxCount {
            let name = "f\(files.count)"
            let file = try await store.service.make(name)
            let bytes = pattern(5000, seed: UInt64(files.count))
            do throws(FileError) {
                try await store.service.write(bytes, to: file)
                try await store.service.commit(file)
            } catch {
                #expect(error == .noSpace)
                try await store.service.remove(name)
                return true
            }
            files[name] = bytes
            await store.service.tick()
        }
        return false
    }

    private func check(_ files: [String: [UInt8]], in store: SimulatedStore) async throws {
        for (name, bytes) in files {
            #expect(try await store.service.bytes(of: store.service.find(name)) == bytes)
        }
        try await store.core.checkNamespace()
    }

    @Test("COMMITs of small files find no room while there is enough to settle what was promised; removing makes room")
    func smallFiles() async throws {
        let store = try SimulatedStore()
        try await store.open()
        // Room for what comes back when it is removed.
        let large = try await store.service.make("large")
        try await store.service.write(pattern(100_000, seed: 99), to: large, .fileSync)
        for part in 1..<20 as Range<UInt64> {
            try await store.service.write(pattern(100_000, seed: part), to: large, at: part * 100_000, .fileSync)
        }
        var files: [String: [UInt8]] = [:]
        #expect(try await !fill(store, &files, maxCount: 5))
        await leave(reserve + (300 << 10), in: store)
        #expect(try await fill(store, &files, maxCount: 400))
        #expect(files.count > 5)
        // Most of the reserve is there yet.
        #expect(try free(store) > reserve - (1 << 20))
        try await check(files, in: store)
        // So is all that is larger.
        let file = try await store.service.make("stripes")
        try await store.service.write(pattern(40_000, seed: 98), to: file)
        await #expect(throws: FileError.noSpace) { try await store.service.commit(file) }
        #expect(await store.service.status().health == .green && store.service.failure == nil)
        // Names are still changed, and removing makes room.
        try await store.service.makeDirectory("names")
        try await store.service.remove("large")
        await eventually("there is room again") {
            await store.service.tick()
            return (try? await store.service.write([1, 2, 3], to: file, .fileSync)) != nil
        }
        try await check(files, in: store)
        await store.close()
    }

    @Test(
        "what was promised is settled with what is reserved, also what a start finds, and removed",
        arguments: [false, true])
    func settled(crashes: Bool) async throws {
        let store = try SimulatedStore()
        try await store.open()
        var files: [String: [UInt8]] = [:]
        await leave(reserve + (300 << 10), in: store)
        #expect(try await fill(store, &files, maxCount: 400))
        // What others take of the reserve.
        await leave(20 << 20, in: store)
        if crashes {
            await store.crash(seed: 1)
            try await store.open()
            #expect(store.core.recovered.count > 0)
            // Nothing is promised before it is known what room there is.
            let late = try await store.service.make("late")
            await #expect(throws: FileError.noSpace) { try await store.service.write([1], to: late, .fileSync) }
            try await store.service.remove("late")
        }
        for _ in 0..<20 {
            store.clock.advance(seconds: 10)
            await store.service.tick()
        }
        await eventually("less than a stripe is left in the journal") {
            await store.service.tick()
            let usage = store.service.writeBack.usage
            return usage.restingFiles == usage.openFiles && usage.restingBytes < store.policy.stripeSizeBytes
                && store.core.recovered.count == 0
        }
        #expect(store.service.writeBack.usage.failedPacks == 0)
        try await check(files, in: store)
        await store.close()
        try await store.open(without: [1, 3])
        try await check(files, in: store)
        // They were opened by that, and nothing of them is only in the journal.
        #expect(store.core.recovered.count == 0 && store.service.writeBack.usage.openFiles == 0)
        for name in files.keys { try await store.service.remove(name) }
        #expect(try await store.service.entries(of: store.service.rootReference()).isEmpty)
        try await store.core.checkNamespace()
        await store.close()
    }
}
