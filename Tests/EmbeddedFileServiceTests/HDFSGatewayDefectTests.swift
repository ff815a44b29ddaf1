// What HDFS's NFS gateway does wrong (OpenFileCtx, WriteManager), and this service must not.

import FaultInjection
import FileService
import Glibc
import Model
import Testing

@testable import EmbeddedFileService
@testable import WriteBack

@Suite("What HDFS's gateway does wrong is not done here:", .timeLimit(.minutes(10)))
struct HDFSGatewayDefectTests {
    private func withStore(_ body: (SimulatedStore) async throws -> Void) async throws {
        let store = try SimulatedStore()
        try await store.open()
        try await body(store)
        await store.close()
    }

    @Test("1. the same range rewritten with new bytes is dropped as a repeated request")
    func repeatedRange() async throws {
        try await withStore { store in
            let file = try await store.service.make("f")
            try await store.service.write(pattern(5000, seed: 1), to: file)
            let new = pattern(5000, seed: 2)
            try await store.service.write(new, to: file)
            #expect(try await store.service.bytes(of: file) == new)
            try await store.service.commit(file)
            let newer = pattern(5000, seed: 3)
            try await store.service.write(newer, to: file)
            try await store.service.commit(file)
            await store.crash(seed: 1)
            try await store.open()
            #expect(try await store.service.bytes(of: file) == newer)
        }
    }

    @Test(
        "2. of a write that straddles the next offset the overlap is thrown away unread",
        arguments: [false, true])
    func straddling(isStriped: Bool) async throws {
        try await withStore { store in
            let file = try await store.service.make("f")
            try await store.service.write(pattern(10_000, seed: 1), to: file, .fileSync)
            // What is only in the journal is behind the next offset.
            if isStriped { try await store.stripe(file) }
            #expect(try await store.context(of: file).nextOffset == (isStriped ? 10_000 : 0))
            let new = pattern(10_000, seed: 2)
            try await store.service.write(new, to: file, at: 5_000)
            try await store.service.commit(file)
            let expected = Array(pattern(10_000, seed: 1)[..<5_000]) + new
            #expect(try await store.service.bytes(of: file) == expected)
            await store.crash(seed: 2)
            try await store.open()
            #expect(try await store.service.bytes(of: file) == expected)
        }
    }

    @Test("3. after an I/O error the next COMMIT says OK with the same verifier")
    func lostWrites() async throws {
        try await withStore { store in
            let file = try await store.service.make("f")
            let written = try await store.service.write(pattern(30_000, seed: 1), to: file)
            // With two volumes fewer a group would have no parity. The journal is on others.
            for volume in 1...2 { store.disk.inject(Fault("/v\(volume)/blocks/", .write, code: EIO)) }
            store.clock.advance(seconds: 10)
            await store.service.tick()
            await eventually("the drain fails") { await store.service.status().counters.writeBackErrors == 1 }
            // Until then more than one may be told.
            let context = try await store.context(of: file)
            await eventually("the failed drain is wound up") { !context.isTurnComing }
            await #expect(throws: FileError.inputOutput) { try await store.service.commit(file) }
            #expect(try await store.service.commit(file).verifier != written.verifier)
        }
    }

    @Test("4. a COMMIT past a gap answers success without durability")
    func commitPastGap() async throws {
        try await withStore { store in
            let file = try await store.service.make("f")
            let bytes = pattern(3000, seed: 1)
            try await store.service.write(bytes, to: file, at: 100_000)
            try await store.service.write(bytes, to: file, at: 1 << 40)
            try await store.service.commit(file)
            await store.crash(seed: 3)
            try await store.open(without: [0, 1])
            let attributes = try await store.service.attributes(of: file)
            #expect(attributes.size == 1 << 40 + 3000 && attributes.usedBytes == 6000)
            let head = Array(repeating: UInt8(0), count: 100) + bytes + Array(repeating: 0, count: 100)
            #expect(try await store.service.bytes(of: file, from: 99_900, count: 3200) == head)
            #expect(try await store.service.bytes(of: file, from: 1 << 40) == bytes)
        }
    }

    @Test("5. a COMMIT without an open context answers OK blindly")
    func commitWithoutContext() async throws {
        try await withStore { store in
            let file = try await store.service.make("f")
            let written = try await store.service.write(pattern(3000, seed: 1), to: file)
            await store.crash(seed: 4)
            try await store.open()
            // The bytes went with the crash, and the verifier says so.
            let committed = try await store.service.commit(file)
            #expect(committed.verifier != written.verifier && committed.change.after.size == 0)
            let root = try await store.service.rootReference()
            await #expect(throws: FileError.isDirectory) { try await store.service.commit(root) }
            try await store.service.remove("f")
            await #expect(throws: FileError.stale) { try await store.service.commit(file) }
        }
    }

    @Test("6. COMMIT on an erasure-coded file syncs nothing")
    func commitSyncs() async throws {
        try await withStore { store in
            let file = try await store.service.make("f")
            // Three cells of data and their parity: each volume has a block. The rest goes to the journal.
            let bytes = pattern(store.policy.stripeSizeBytes + 1000, seed: 1)
            try await store.service.write(bytes, to: file)
            func syncs(_ directory: String) -> [Int] {
                (0..<5).map { store.disk.callCount(.sync, under: "/v\($0)/\(directory)/") }
            }
            let (blocks, journal) = (syncs("blocks"), syncs("journal"))
            try await store.service.commit(file)
            #expect(zip(syncs("blocks"), blocks).allSatisfy { $0 > $1 })
            #expect(zip(syncs("journal"), journal).count { $0 > $1 } == 3)
            await store.crash(seed: 5)
            try await store.open(without: [0, 1])
            #expect(try await store.service.bytes(of: file) == bytes)
        }
    }

    @Test("7. GETATTR hides what is cached")
    func attributesOfCachedBytes() async throws {
        try await withStore { store in
            let file = try await store.service.make("f")
            store.clock.advance(seconds: 7)
            try await store.service.write([1, 2, 3], to: file, at: 1000)
            let attributes = try await store.service.attributes(of: file)
            #expect(attributes.size == 1003 && attributes.usedBytes == 3)
            #expect(attributes.modificationTime == store.clock.now())
            let entries = try await store.service.entries(of: store.service.rootReference())
            #expect(entries.first?.entry?.attributes.size == 1003)
            // A drain is not a change of the file.
            store.clock.advance(seconds: 10)
            await store.service.tick()
            let committed = try await store.service.commit(file)
            #expect(committed.change.after.modificationTime == attributes.modificationTime)
            #expect(committed.change.after.changeTime == attributes.changeTime)
        }
    }

    @Test(
        "8. a FILE_SYNC out of order is answered with a lower stability",
        arguments: [WriteStability.dataSync, .fileSync])
    func stableOutOfOrder(stability: WriteStability) async throws {
        try await withStore { store in
            let file = try await store.service.make("f")
            let bytes = pattern(5000, seed: 1)
            #expect(try await store.service.write(bytes, to: file, at: 70_000, stability).stability == .fileSync)
            #expect(try await store.service.write(bytes, to: file, at: 20_000, stability).stability == .fileSync)
            await store.crash(seed: 6)
            try await store.open(without: [2, 3])
            #expect(try await store.service.bytes(of: file, from: 70_000) == bytes)
            #expect(try await store.service.bytes(of: file, from: 20_000, count: 5000) == bytes)
        }
    }

    @Test("9. a failed dump turns dumping off, and memory grows without a bound")
    func failedDump() async throws {
        // Its stripes are longer than what is written here without a gap, so that nothing is drained before it must be.
        let store = try SimulatedStore("RS-3-2-64k")
        store.limits.idleTime = .seconds(3600)
        try await store.open()
        let file = try await store.service.make("f")
        let verifier = store.core.verifier.current
        var expected: [UInt8] = []
        var mostPending = 0
        // Four times the budget.
        func scatter(_ places: Range<Int>) async throws {
            for index in places {
                let bytes = pattern(3000, seed: UInt64(index))
                try await store.service.write(bytes, to: file, at: UInt64(9000 * index))
                expected.write(bytes, at: 9000 * index)
                mostPending = max(mostPending, store.service.writeBack.usage.pendingBytes)
            }
        }
        for path in store.paths { store.disk.inject(Fault(path + "/dump/", .write, code: EIO)) }
        try await scatter(0..<180)
        var counters = await store.service.status().counters
        #expect(counters.failedDumps > 0 && counters.dumpedBytes == 0)
        // The one that goes beyond the budget is taken, and waits then.
        #expect(mostPending <= store.limits.maxPendingBytes + 4096)
        store.disk.removeFaults()
        store.clock.advance(seconds: 15)
        try await scatter(180..<360)
        counters = await store.service.status().counters
        #expect(counters.dumpedBytes > 0)
        #expect(mostPending <= store.limits.maxPendingBytes + 4096)
        #expect(try await store.service.commit(file).verifier == verifier)
        #expect(try await store.service.bytes(of: file) == expected)
        await store.close()
    }

    @Test("10. random overwrites, truncates to a size other than zero and hard links are refused")
    func overwriteTruncateAndLink() async throws {
        try await withStore { store in
            let file = try await store.service.make("f")
            var expected = pattern(50_000, seed: 1)
            try await store.service.write(expected, to: file, .fileSync)
            for (step, offset) in [31_000, 3, 12_288, 49_000, 17].enumerated() {
                let bytes = pattern(777, seed: UInt64(step + 2))
                try await store.service.write(bytes, to: file, at: UInt64(offset))
                expected.replaceSubrange(offset..<offset + 777, with: bytes)
            }
            try await store.service.commit(file)
            try await store.service.truncate(file, to: 20_001)
            try await store.service.truncate(file, to: 30_000)
            expected = Array(expected[..<20_001]) + Array(repeating: 0, count: 9_999)
            _ = try await store.service.link(
                file, as: name("g"), in: store.service.rootReference(), by: SimulatedStore.superuser)
            try await store.service.remove("f")
            await store.crash(seed: 7)
            try await store.open(without: [1, 4])
            #expect(try await store.service.find("g") == file)
            #expect(try await store.service.bytes(of: file) == expected)
            try await store.core.checkNamespace()
        }
    }
}
