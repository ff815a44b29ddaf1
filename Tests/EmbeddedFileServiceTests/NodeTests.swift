// What of files is kept in memory: nodes come and go, and nothing is forgotten with them; groups end where they must.

import FaultInjection
import FileService
import Journal
import Model
import Testing
import WriteBack

@testable import EmbeddedFileService
@testable import Namespace

@Suite("Nodes and groups", .timeLimit(.minutes(10)))
struct NodeTests {
    private let store: SimulatedStore

    init() async throws {
        store = try SimulatedStore()
        store.bounds.journal.patience = SimulatedStore.endlessPatience
        try await store.open()
    }

    private var service: EmbeddedFileService { store.service }

    @Test("nodes are forgotten under load, and nothing with them")
    func eviction() async throws {
        await store.close()
        store.bounds.maxCachedNodes = 3
        try await store.open()
        let service = service
        let (workers, filesEach) = (6, 5)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<workers {
                group.addTask {
                    var random = SeededGenerator(seed: UInt64(worker))
                    var expected: [(file: FileReference, bytes: [UInt8])] = []
                    for index in 0..<filesEach { expected.append((try await service.make("f\(worker)-\(index)"), [])) }
                    for step in 0..<200 {
                        let index = Int.random(in: 0..<filesEach, using: &random)
                        let file = expected[index].file
                        switch Int.random(in: 0..<4, using: &random) {
                        case 0, 1:
                            let bytes = pattern(700, seed: UInt64(worker * 1000 + step))
                            let offset = UInt64(expected[index].bytes.count)
                            try await service.write(bytes, to: file, at: offset, step % 5 == 0 ? .fileSync : .unstable)
                            expected[index].bytes += bytes
                        case 2: try await service.commit(file)
                        default:
                            let found = try await service.bytes(of: file)
                            #expect(found == expected[index].bytes)
                        }
                    }
                    for (file, bytes) in expected { #expect(try await service.bytes(of: file) == bytes) }
                }
            }
            try await group.waitForAll()
        }
        await eventually("all files rest, and what they have in the journal makes no stripe") {
            store.clock.advance(seconds: 10)
            await service.tick()
            let usage = service.writeBack.usage
            return usage.openFiles == usage.restingFiles && usage.restingBytes < store.policy.stripeSizeBytes
        }
        // These are not forgotten.
        #expect(store.core.nodes.count >= service.writeBack.usage.restingFiles)
        try await store.stripeEverything()
        // Each insertion forgets a few.
        for index in 0..<10 { try await service.make("last-\(index)") }
        #expect(store.core.nodes.count <= 3 + 2)
        try await store.endsWell()
    }

    @Test("the nodes' table doesn't grow with files that come and go")
    func churn() async throws {
        for index in 0..<2_500 {
            try await service.make("f\(index)")
            try await service.remove("f\(index)")
        }
        #expect(store.core.nodes.count < 10 && store.core.nodes.listedCount < 2_000)
        try await store.endsWell()
    }

    @Test("a group that is full ends, and the next one begins", arguments: [false, true])
    func fullGroups(isStriped: Bool) async throws {
        await store.close()
        store.bounds.maxGroupBytes = 24 << 10
        try await store.open()
        let file = try await service.make("f")
        let bytes = pattern(200_000, seed: 1)
        for offset in stride(from: 0, to: bytes.count, by: 7_000) {
            try await service.write(
                Array(bytes[offset..<min(bytes.count, offset + 7_000)]), to: file, at: UInt64(offset))
        }
        try await service.commit(file)
        var groups = try await store.blockGroups()
        #expect(groups.count >= 8 && groups.allSatisfy { $0.length <= 24 << 10 })
        if isStriped {
            try await store.stripe(file)
            groups = try await store.blockGroups()
            #expect(groups.count >= 9 && groups.allSatisfy { $0.length <= 24 << 10 })
        }
        await store.crash(seed: 5)
        try await store.open(without: [0, 1])
        #expect(try await service.bytes(of: file) == bytes)
        await store.close()
        try await store.open()
        try await store.endsWell()
    }
}
