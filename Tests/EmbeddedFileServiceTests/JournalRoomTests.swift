// The journal has little room, or what is in it can't be striped: a COMMIT is true all the same.

import FaultInjection
import FileService
import Glibc
import Journal
import Model
import Namespace
import Platform
import Testing

@testable import EmbeddedFileService
@testable import WriteBack

extension JournalTests {
    // MARK: Little room

    @Test("at half of its room the oldest files leave the journal, busy or not, and writers go on")
    func halfFull() async throws {
        let store = try await openStore {
            $0.bounds.journal.segmentBytes = 32 << 10
            $0.bounds.journal.capacityBytes = 512 << 10
            // Nothing rests by itself.
            $0.limits.idleTime = .seconds(1 << 40)
        }
        let service = store.service
        let journal = try #require(store.core.journal)
        let (resting, busy) = (try await service.make("resting"), try await service.make("busy"))
        try await service.write(pattern(1000, seed: 1), to: resting, .fileSync)
        var content: [UInt8] = []
        var others: [FileReference] = []
        // Six times what there is room for.
        for index in 0..<1000 {
            let bytes = pattern(1000, seed: UInt64(index))
            try await service.write(bytes, to: busy, at: UInt64(3000 * index), .fileSync)
            content.write(bytes, at: 3000 * index)
            if index % 10 == 0 {
                let file = try await service.make("f\(index)")
                try await service.write(pattern(2000, seed: UInt64(index)), to: file, .fileSync)
                others.append(file)
                store.clock.advance(seconds: 1)
                await service.tick()
            }
            #expect(journal.usage.bytes <= journal.usage.capacityBytes)
        }
        #expect(journal.usage.appendedBytes > 4 << 20)
        #expect(try await store.context(of: resting).isClean)
        #expect(try await store.context(of: others[0]).isClean)
        let left = try await store.journaledBytes(of: busy)
        #expect(left < 256 << 10)
        await eventually("the journal is less than half full") {
            store.clock.advance(seconds: 1)
            await service.tick()
            return journal.usage.bytes < journal.usage.capacityBytes / 2
        }
        let status = await service.status()
        #expect(status.health == .green && status.counters.writeBackErrors == 0 && status.counters.verifierChanges == 0)
        #expect(try await service.bytes(of: busy, count: 3 << 20) == content)
        await store.crash(seed: 1)
        try await store.open(without: [2, 3])
        #expect(try await store.service.bytes(of: busy, count: 3 << 20) == content)
        #expect(try await store.service.bytes(of: resting) == pattern(1000, seed: 1))
        for (index, file) in others.enumerated() {
            #expect(try await store.service.bytes(of: file) == pattern(2000, seed: UInt64(10 * index)))
        }
        await store.close()
        try await store.open()
        try await finish(store)
    }

    @Test(
        "when the journal is full a COMMIT stripes everything, with padding, and is true",
        arguments: [2, 6])
    func full(segments: Int) async throws {
        let store = try await openStore {
            $0.bounds.journal.segmentBytes = 64 << 10
            // Two are kept free. No tick comes, so none is ever freed.
            $0.bounds.journal.capacityBytes = segments * 64 << 10
        }
        let journal = try #require(store.core.journal)
        var files: [(file: FileReference, bytes: [UInt8])] = []
        var striped = 0
        for index in 0..<60 as Range<UInt64> {
            let file = try await store.service.make("f\(index)")
            let bytes = pattern(2000 + 50 * Int(index), seed: index)
            let verifier = try await store.service.write(bytes, to: file).verifier
            #expect(try await store.service.commit(file).verifier == verifier)
            files.append((file, bytes))
            if try await store.journaledBytes(of: file) == 0 { striped += 1 }
        }
        #expect(segments == 2 ? striped == 60 : striped > 20 && striped < 60, "\(striped)")
        #expect(!journal.hasRoom(forPayloadBytes: 1))
        let groups = try await store.blockGroups()
        #expect(groups.count >= striped && groups.allSatisfy(\.isSealed))
        try await store.core.checkNamespace()
        await store.crash(seed: 1)
        for missing in [[0, 3], [1, 2], [3, 4]] {
            try await store.open(without: Set(missing))
            for (file, bytes) in files { #expect(try await store.service.bytes(of: file) == bytes) }
            await store.close()
        }
        try await store.open()
        // There is room again.
        try await store.stripeEverything()
        try await eventually("it has room") {
            await store.service.tick()
            return try #require(store.core.journal).hasRoom(forPayloadBytes: 1) || segments == 2
        }
        try await finish(store)
    }

    // MARK: What can't be striped

    enum Trouble: CaseIterable {
        case noRoom, failedVolumes
    }

    private func inject(_ trouble: Trouble, into store: SimulatedStore) {
        switch trouble {
        case .noRoom:
            for path in store.paths { store.disk.inject(Fault(path + "/blocks/", .write, code: ENOSPC)) }
        case .failedVolumes:
            // Three are left; the journal is not on these.
            for path in ["/v1", "/v2"] { store.disk.inject(Fault(path + "/blocks/", .write, code: EIO)) }
        }
    }

    @Test("what can't be striped stays in the journal, and nobody is told of an error", arguments: Trouble.allCases)
    func failingPacks(trouble: Trouble) async throws {
        let store = try await openStore()
        let service = store.service
        var files: [FileReference] = []
        var verifiers: Set<WriteVerifier> = []
        for index in 0..<30 as Range<UInt64> {
            let file = try await service.make("f\(index)")
            verifiers.insert(try await service.write(pattern(1000, seed: index), to: file).verifier)
            verifiers.insert(try await service.commit(file).verifier)
            files.append(file)
        }
        inject(trouble, into: store)
        let failures = Int(service.writeBack.usage.failedPacks)
        await eventually("packs fail, again and again") {
            store.clock.advance(seconds: 6)
            await service.tick()
            return service.writeBack.usage.failedPacks >= failures + 3
        }
        // Each for itself, too.
        for file in files.prefix(5) { service.writeBack.settleJournaled([try await store.context(of: file)]) }
        for (index, file) in files.enumerated() {
            #expect(try await service.bytes(of: file) == pattern(1000, seed: UInt64(index)))
            verifiers.insert(try await service.commit(file).verifier)
            #expect(try await store.journaledBytes(of: file) == 1000)
        }
        #expect(verifiers.count == 1)
        let status = await service.status()
        #expect(status.counters.writeBackErrors == 0 && status.counters.verifierChanges == 0)
        if trouble == .noRoom {
            #expect(status.health == .green, "\(status.reasons)")
            // The journal has room.
            let late = try await service.make("late")
            try await service.write(pattern(1000, seed: 99), to: late, .fileSync)
            #expect(try await service.bytes(of: late) == pattern(1000, seed: 99))
        }
        try await store.core.checkNamespace()
        // The end, without a word of loss.
        #expect(await store.close() == 0)
        store.disk.removeFaults()
        try await store.open()
        #expect(store.core.recovered.count >= 30)
        for (index, file) in files.enumerated() {
            #expect(try await store.service.bytes(of: file) == pattern(1000, seed: UInt64(index)))
        }
        await store.crash(seed: 1)
        try await store.open(without: [0, 3])
        for (index, file) in files.enumerated() {
            #expect(try await store.service.bytes(of: file) == pattern(1000, seed: UInt64(index)))
        }
        await store.close()
        try await store.open()
        try await store.stripeEverything()
        for (index, file) in files.enumerated() {
            #expect(try await store.service.bytes(of: file) == pattern(1000, seed: UInt64(index)))
        }
        try await finish(store)
    }

    /// Flips bits of these bytes on all volumes that have them in the journal. Returns how many these are.
    private func damageJournal(of store: SimulatedStore, _ bytes: [UInt8]) throws -> Int {
        var replicas = 0
        for path in store.paths where try store.disk.status(path + "/journal") != nil {
            for name in try store.disk.list(path + "/journal") where name.hasSuffix(".segment") {
                guard let content = store.disk.content(of: "\(path)/journal/\(name)") else { continue }
                let places = content.indices.dropLast(bytes.count).filter { content[$0...].starts(with: bytes) }
                for place in places { store.disk.flipBits("\(path)/journal/\(name)", at: place) }
                replicas += places.isEmpty ? 0 : 1
            }
        }
        return replicas
    }

    @Test("a file whose journaled bytes are damaged on all replicas is named, and keeps nobody else in the journal")
    func unreadableFile() async throws {
        let store = try await openStore()
        var files: [FileReference] = []
        for index in 0..<30 as Range<UInt64> {
            let file = try await store.service.make("f\(index)")
            try await store.service.write(pattern(1000, seed: index), to: file, .fileSync)
            files.append(file)
        }
        await store.crash(seed: 1)
        let lines = RecordedLines()
        store.log = lines.logger
        // The start still reads them.
        try await store.open()
        #expect(try damageJournal(of: store, pattern(1000, seed: 3)) == 3)
        await eventually("all others are striped") {
            store.clock.advance(seconds: 6)
            await store.service.tick()
            // Also those that make no full stripe.
            store.service.writeBack.settleJournaled(store.core.nodes.all.compactMap(\.context))
            return store.core.recovered.count == 0 && store.service.writeBack.usage.openFiles == 1
        }
        for (index, file) in files.enumerated() {
            if index == 3 {
                await #expect(throws: FileError.inputOutput) { try await store.service.bytes(of: file) }
            } else {
                #expect(try await store.service.bytes(of: file) == pattern(1000, seed: UInt64(index)))
            }
        }
        #expect(
            lines.lines.contains { $0.contains("file=\(files[3].id.rawValue)") && $0.contains("cannot be read back") })
        // It goes with what it keeps.
        try await store.service.remove("f3")
        try await eventually("nothing is kept in the journal") {
            store.clock.advance(seconds: 6)
            await store.service.tick()
            return try #require(store.core.journal).usage.segments <= 1
        }
        try await finish(store)
    }

    @Test("a busy file's journaled bytes outlast a drain that fails with bytes that nobody was promised")
    func failingDrain() async throws {
        let store = try await openStore()
        let service = store.service
        let file = try await service.make("f")
        let promised = pattern(3000, seed: 1)
        try await service.write(promised, to: file, .fileSync)
        inject(.noRoom, into: store)
        // Full stripes, over some of what is in the journal.
        let verifier = try await service.write(pattern(30_000, seed: 2), to: file, at: 1000).verifier
        await #expect(throws: FileError.noSpace) { try await service.commit(file) }
        let attributes = try await service.attributes(of: file)
        #expect(attributes.size == 3000 && attributes.usedBytes == 3000)
        #expect(try await service.bytes(of: file) == promised)
        #expect(try await store.journaledBytes(of: file) == 3000)
        #expect(try await service.commit(file).verifier != verifier)
        // A client would send it again.
        store.disk.removeFaults()
        try await service.write(pattern(30_000, seed: 2), to: file, at: 1000, .fileSync)
        let content = promised[..<1000] + pattern(30_000, seed: 2)
        #expect(try await service.bytes(of: file) == Array(content))
        await store.crash(seed: 1)
        try await store.open(without: [0, 4])
        #expect(try await store.service.bytes(of: file) == Array(content))
        await store.close()
        try await store.open()
        try await finish(store)
    }
}
