// How what is in a dump ends: it is removed, truncated, replaced, or left behind by a crash.

import FaultInjection
import FileService
import Model
import Platform
import Testing

@testable import EmbeddedFileService
@testable import WriteBack

extension DumpTests {
    // MARK: Letting go of it

    enum End: CaseIterable {
        case remove, truncate, renameOver
    }

    @Test(
        "what is removed, truncated or replaced leaves nothing in the dump, also while it is being dumped",
        arguments: End.allCases, [true, false])
    func freed(end: End, isUnderWay: Bool) async throws {
        let store = try makeStore()
        try await store.open()
        let service = store.service
        let (file, other) = (try await service.make("f"), try await service.make("g"))
        try await service.write(pattern(5000, seed: 2), to: other)
        let gate = Gate()
        if isUnderWay {
            store.disk.before(.write, under: "/v0/dump/") { gate.pass() }
            try await scatter(28, in: file, of: store)
            await gate.waitForArrival()
        } else {
            try await scatter(60, in: file, of: store)
            try await settle(store, file)
            #expect(try await pieces(store, file).dumped > 20)
        }
        let dump = try dumpLog(store)
        #expect(dump.usage.segments > 0 && dump.usage.bytes > 20_000)
        let held = service.writeBack.usage.pendingBytes
        switch end {
        case .remove: try await service.remove("f")
        case .truncate: try await service.truncate(file, to: 0)
        case .renameOver:
            let root = try await service.rootReference()
            _ = try await service.rename(name("g"), in: root, to: name("f"), in: root, as: SimulatedStore.superuser)
        }
        if isUnderWay {
            // The turn that is out still has its memory, and the bytes go to a segment that nobody needs.
            #expect(service.writeBack.usage.pendingBytes == held)
            gate.open()
        }
        try await eventually("the dump is empty") {
            await service.tick()
            return try dump.usage.segments == 0 && dump.usage.bytes == 0 && dumpFiles(store).isEmpty
        }
        try await service.commit(other)
        // What is in the journal only may stay in memory.
        try await store.stripe(other)
        await eventually("the memory is given back") { service.writeBack.usage.pendingBytes == 0 }
        #expect(try await service.bytes(of: other) == pattern(5000, seed: 2))
        switch end {
        case .remove, .renameOver:
            await #expect(throws: FileError.stale) { try await service.bytes(of: file) }
        case .truncate:
            #expect(try await service.bytes(of: file).isEmpty)
            try await service.write([1], to: file, at: 20_000, .fileSync)
            #expect(try await service.bytes(of: file) == Array(repeating: 0, count: 20_000) + [1])
        }
        #expect(dump.usage.failures == 0 && dump.usage.segments == 0)
        await store.close()
    }

    // MARK: A crash

    @Test(
        "after a power cut at any moment a start removes what is left of a dump, and nothing else",
        arguments: [nil, "/spare"])
    func crash(directory: String?) async throws {
        var leftovers = 0
        for seed in 0..<25 as Range<UInt64> {
            var random = SeededGenerator(seed: seed)
            let store = try makeStore()
            if let directory {
                try store.disk.createDirectory(directory)
                try store.disk.syncDirectory("/")
            }
            store.dumpDirectory = directory
            try await store.open()
            let file = try await store.service.make("f")
            let place = directory.map { "\($0)/sluice-\(store.core.storeID)" } ?? "/v0/dump"
            let strangers = ["notes.txt", "1-old.dump", ".dump", "x.dump"].map { place + "/" + $0 }
            for path in strangers {
                let stranger = try store.disk.open(path, .createNew)
                let written = [UInt8](path.utf8).withUnsafeBytes { bytes in
                    Result { () throws(IOError) in try stranger.write(bytes, at: 0) }
                }
                try written.get()
                try stranger.sync()
                stranger.close()
            }
            try store.disk.syncDirectory(place)
            try store.disk.syncDirectory(directory ?? "/v0")
            store.disk.losePower(afterCalls: Int.random(in: 0..<400, using: &random))
            var content: [UInt8] = []
            var committed = 0
            var unstable: Set<WriteVerifier> = []
            do throws(FileError) {
                for index in 0..<200 {
                    let bytes = pattern(3000, seed: UInt64(index))
                    unstable.insert(try await store.service.write(bytes, to: file, at: UInt64(9000 * index)).verifier)
                    content.write(bytes, at: 9000 * index)
                    if Int.random(in: 0..<40, using: &random) == 0 {
                        let verifier = try await store.service.commit(file).verifier
                        if !unstable.isSubset(of: [verifier]) { break }
                        committed = index + 1
                        unstable = []
                    }
                }
            } catch {
                #expect(!store.disk.hasPower, "seed \(seed): \(error)")
            }
            await store.crash(seed: seed)
            leftovers += try dumpFiles(store).count - 3
            try await store.open()
            #expect(try dumpFiles(store).count == 3, "seed \(seed)")
            for path in strangers { #expect(store.disk.content(of: path) == [UInt8](path.utf8), "seed \(seed)") }
            let survivor = try await store.service.find("f")
            for index in 0..<committed {
                let range = 9000 * index..<9000 * index + 3000
                let found = try await store.service.bytes(of: survivor, from: UInt64(range.lowerBound), count: 3000)
                #expect(found == Array(content[range]), "seed \(seed), write \(index) of \(committed)")
            }
            try await store.core.checkNamespace()
            // And the dump is used as before; for what is in the journal needs memory, too.
            try await store.stripe(survivor)
            try await scatter(60, in: survivor, of: store)
            try await settle(store, survivor)
            #expect(try dumpLog(store).usage.dumpedBytes > 0, "seed \(seed)")
            await store.close()
            #expect(try dumpFiles(store).count == 3, "seed \(seed)")
        }
        // Otherwise this test would say nothing.
        #expect(leftovers > 5)
    }
}
