// The dump of a store: what is in it is read, drained and let go of like any pending byte, wherever it fails.

import FaultInjection
import FileService
import Glibc
import LockFree
import Model
import Platform
import Synchronization
import Testing

@testable import EmbeddedFileService
@testable import WriteBack

@Suite("The dump of a store", .timeLimit(.minutes(10)))
struct DumpTests {
    /// A store whose stripes (192 KiB) are longer than what is written here without a gap, so that nothing is drained
    /// before it must be. A quarter of `budget` is what one file may take; what is dumped takes 320 bytes for each write.
    func makeStore(volumes: Int? = nil, budget: Int = 256 << 10) throws -> SimulatedStore {
        let store = try SimulatedStore("RS-3-2-64k", volumes: volumes)
        store.limits.maxPendingBytes = budget
        store.limits.idleTime = .seconds(3600)
        return store
    }

    /// The memory that pending writes may take: the one that goes beyond the budget is taken, and waits then.
    func bound(_ store: SimulatedStore) -> Int { store.limits.maxPendingBytes + 4096 }

    func dumpLog(_ store: SimulatedStore) throws -> DumpLog { try #require(store.service.dump) }

    func dumpFiles(_ store: SimulatedStore) throws -> [String] {
        var directories = store.paths.map { $0 + "/dump" }
        if let directory = store.dumpDirectory {
            directories += try store.disk.list(directory).map { directory + "/" + $0 }
        }
        return try directories.flatMap { directory in
            try store.disk.status(directory) == nil ? [] : store.disk.list(directory).map { directory + "/" + $0 }
        }.filter { $0.hasSuffix(".dump") }
    }

    func context(_ store: SimulatedStore, _ file: FileReference) async throws -> OpenFileContext {
        try await store.core.node(of: file).regularContext()
    }

    /// How many pieces of the file are in the dump, and how many are pending in memory.
    func pieces(_ store: SimulatedStore, _ file: FileReference) async throws -> (dumped: Int, inMemory: Int) {
        let pending = try await context(store, file).snapshot(ByteRange(0, 1 << 40)).pending
        let inMemory = pending.count { $0.bytes.inMemory != nil }
        return (pending.count { $0.bytes.inMemory == nil && !$0.bytes.isJournaled }, inMemory)
    }

    /// Waits until so much of the file has been dumped that nobody asks for more.
    func settle(_ store: SimulatedStore, _ file: FileReference) async throws {
        let context = try await context(store, file)
        await eventually("memory is freed") {
            context.state.withLock { $0.heldByWrites < store.limits.maxFileBytes }
        }
    }

    /// 3,000 bytes every 9,000; on average far from a stripe. Returns what the file is to be.
    @discardableResult
    func scatter(
        _ count: Int, over content: [UInt8] = [], in file: FileReference, of store: SimulatedStore, seed: UInt64 = 1,
        after: (Int) async throws -> Void = { _ in }
    ) async throws -> [UInt8] {
        var content = content
        for index in 0..<count {
            let bytes = pattern(3000, seed: seed &+ UInt64(index) &* 1000)
            try await store.service.write(bytes, to: file, at: UInt64(9000 * index))
            content.write(bytes, at: 9000 * index)
            try await after(index)
        }
        return content
    }

    // MARK: Reading

    @Test("READ lays dumped bytes over stored ones and others over them, in order, without a flush", arguments: 0..<5)
    func overlays(seed: Int) async throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let store = try makeStore(budget: 512 << 10)
        try await store.open()
        let file = try await store.service.make("f")
        var content = pattern(600_000, seed: 99)
        try await store.service.write(content, to: file, .fileSync)
        let blockWrites = store.disk.callCount(.write, under: "/v0/blocks/")
        func write(_ bytes: [UInt8]) async throws {
            // A gap remains between any two parts of 100 kB.
            let offset = 100_000 * Int.random(in: 0..<7, using: &random) + Int.random(in: 0..<90_000, using: &random)
            content.write(bytes, at: offset)
            try await store.service.write(bytes, to: file, at: UInt64(offset))
        }
        for step in 0..<200 {
            try await write(random.bytes(Int.random(in: 700...6000, using: &random)))
            if step % 5 == 0 {
                let start = Int.random(in: 0..<content.count, using: &random)
                let count = Int.random(in: 1...60_000, using: &random)
                let found = try await store.service.bytes(of: file, from: UInt64(start), count: count)
                #expect(
                    found == Array(content[start..<min(content.count, start + count)]), "seed \(seed), step \(step)")
            }
        }
        try await settle(store, file)
        // So short that they stay in memory, on top of all that.
        for _ in 0..<20 { try await write(random.bytes(500)) }
        let (dumped, inMemory) = try await pieces(store, file)
        let usage = try dumpLog(store).usage
        #expect(dumped > 50 && inMemory > 10 && usage.segments > 3, "seed \(seed): \(dumped), \(inMemory), \(usage)")
        #expect(try await store.service.bytes(of: file) == content, "seed \(seed)")
        #expect(store.disk.callCount(.write, under: "/v0/blocks/") == blockWrites, "seed \(seed)")
        try await store.service.commit(file)
        #expect(try await store.service.bytes(of: file) == content, "seed \(seed)")
        await store.crash(seed: UInt64(seed))
        try await store.open(without: [1, 3])
        #expect(try await store.service.bytes(of: file) == content, "seed \(seed)")
        await store.close()
    }

    // MARK: A disk that fails under it

    enum Trouble: CaseIterable {
        case failsInItsDirectory, fullInItsDirectory, failsOnAllVolumes, fullOnAllVolumes
    }

    @Test(
        "where nothing can be dumped, bytes are drained out of order inside the budget, and that is told",
        arguments: Trouble.allCases)
    func withoutDump(trouble: Trouble) async throws {
        let store = try makeStore(budget: 128 << 10)
        let recorded = RecordedLines()
        store.log = recorded.logger
        if [.failsInItsDirectory, .fullInItsDirectory].contains(trouble) {
            try store.disk.createDirectory("/spare")
            try store.disk.syncDirectory("/")
            store.dumpDirectory = "/spare"
        }
        let told: String
        switch trouble {
        case .failsInItsDirectory:
            store.disk.inject(Fault("/spare/", .write, code: EIO))
            told = "pwrite /spare/"
        case .fullInItsDirectory:
            store.bounds.dump.minFreeBytes = 1 << 20
            store.disk.setCapacity(1 << 20, under: "/spare/")
            told = "/spare/"
        case .failsOnAllVolumes:
            for path in store.paths { store.disk.inject(Fault(path + "/dump/", .write, code: EIO)) }
            told = "pwrite /v0/dump/1.dump: Input/output error"
        case .fullOnAllVolumes:
            // Not by what is free, but by what a WRITE is told.
            for path in store.paths {
                store.disk.inject(Fault(path + "/dump/", .write, code: ENOSPC, writtenBytes: 100))
            }
            told = "pwrite /v0/dump/1.dump: No space left on device"
        }
        try await store.open()
        let file = try await store.service.make("f")
        let verifier = store.core.verifier.current
        // Nine times the budget.
        let content = try await scatter(400, in: file, of: store) { index in
            #expect(store.service.writeBack.usage.pendingBytes <= bound(store))
            if index % 100 == 0 { store.clock.advance(seconds: 15) }
        }
        #expect(store.disk.callCount(.write, under: "/v0/blocks/") > 10)
        let status = await store.service.status()
        #expect(status.counters.dumpedBytes == 0 && status.counters.failedDumps >= 3)
        #expect(status.dump?.segments == 0 && status.dump?.bytes == 0)
        // It may be that its rest has just ended.
        if let state = status.dump?.state, state != "ready" {
            #expect(state.contains("dump") || state.contains("/spare"))
        }
        #expect(recorded.count("pending bytes cannot be dumped and are drained out of order: \(told)") >= 1)
        #expect(recorded.count("pending bytes cannot be dumped") <= 2)
        #expect(try await store.service.bytes(of: file) == content)
        #expect(try await store.service.commit(file).verifier == verifier)
        // What is in the journal only may stay in memory.
        try await store.stripe(file)
        await eventually("all memory is given back") { store.service.writeBack.usage.pendingBytes == 0 }
        #expect(try dumpFiles(store).isEmpty)
        await store.crash(seed: 1)
        try await store.open(without: [0, 2])
        #expect(try await store.service.bytes(of: store.service.find("f")) == content)
        await store.close()
    }

    @Test("when the dump's volume fails, it goes on at another", arguments: [true, false])
    func anotherVolume(isOnlyTheDump: Bool) async throws {
        let store = try makeStore(volumes: 6)
        let recorded = RecordedLines()
        store.log = recorded.logger
        try await store.open()
        let file = try await store.service.make("f")
        let verifier = store.core.verifier.current
        var content = try await scatter(30, in: file, of: store)
        try await settle(store, file)
        let dump = try dumpLog(store)
        #expect(dump.usage.dumpedBytes > 0)
        #expect(try dumpFiles(store).allSatisfy { $0.hasPrefix("/v0/dump/") })
        if isOnlyTheDump {
            store.disk.inject(Fault("/v0/dump/", .write, code: EIO))
        } else {
            // Found by what is written to another file, and striped.
            store.disk.inject(Fault("/v0/blocks/", .write, code: EIO))
            let other = try await store.service.make("g")
            for round in 0..<6 {
                try await store.service.write(pattern(1000, seed: UInt64(round)), to: other, .fileSync)
                try await store.stripe(other)
            }
            #expect(await store.service.status().volumes[0].isHealthy == false)
        }
        let before = dump.usage
        // The turn that finds out has its file drained, later ones are dumped elsewhere.
        var written: [(FileReference, [UInt8])] = []
        for round in 0..<3 as Range<UInt64> {
            let next = try await store.service.make("h\(round)")
            written.append((next, try await scatter(60, in: next, of: store, seed: 7 + round)))
            try await settle(store, next)
        }
        #expect(dump.usage.dumpedBytes > before.dumpedBytes)
        #expect(dump.usage.failures == (isOnlyTheDump ? 1 : 0))
        #expect(recorded.count("pending bytes cannot be dumped") == (isOnlyTheDump ? 1 : 0))
        #expect(try dumpFiles(store).contains { $0.hasPrefix("/v1/dump/") })
        // What was dumped before is still there.
        #expect(try await pieces(store, file).dumped > 0)
        content = try await scatter(5, over: content, in: file, of: store, seed: 8)
        #expect(try await store.service.bytes(of: file) == content)
        for (file, content) in written { #expect(try await store.service.bytes(of: file) == content) }
        for (file, content) in written + [(file, content)] {
            #expect(try await store.service.commit(file).verifier == verifier)
            #expect(try await store.service.bytes(of: file) == content)
        }
        try await eventually("all segments are gone") {
            await store.service.tick()
            return try dump.usage.segments == 0 && dumpFiles(store).isEmpty
        }
        await store.close()
    }

    @Test("while the dump's disk hangs, other files are drained and committed, and that is told")
    func hangingDisk() async throws {
        let store = try makeStore(budget: 128 << 10)
        let recorded = RecordedLines()
        store.log = recorded.logger
        try await store.open()
        let (file, other) = (try await store.service.make("f"), try await store.service.make("g"))
        let gate = Gate()
        store.disk.before(.write, under: "/v0/dump/") { gate.pass() }
        let content = try await scatter(14, in: file, of: store)
        await gate.waitForArrival()
        store.clock.advance(seconds: 6)
        await store.service.tick()
        #expect(
            recorded.count("pending bytes cannot be dumped and are drained out of order: the disk has not answered")
                == 1)
        #expect(await store.service.status().dump?.state == "the disk has not answered for 6 s")
        let others = try await scatter(200, in: other, of: store, seed: 5) { _ in
            #expect(store.service.writeBack.usage.pendingBytes <= bound(store))
        }
        try await store.service.commit(other)
        #expect(try await store.service.bytes(of: other) == others)
        #expect(try dumpLog(store).usage.dumpedBytes == 0)
        // What is being dumped can be read.
        #expect(try await store.service.bytes(of: file) == content)
        // It was given up, so its file is drained like any other.
        try await store.service.commit(file)
        #expect(try await store.service.bytes(of: file) == content)
        #expect(try dumpLog(store).usage.failures > 0)
        gate.open()
        try await eventually("the disk answers, and what was given up leaves nothing") {
            let status = await store.service.status()
            return try status.dump?.state == "ready" && dumpLog(store).usage.segments == 0 && dumpFiles(store).isEmpty
        }
        await store.close()
    }

    // MARK: Draining from it

    @Test(
        "a drain whose volume fails is done again on others, from the dump",
        arguments: [FileOperation.open, .write, .sync])
    func drainAgain(operation: FileOperation) async throws {
        let store = try makeStore(volumes: 6, budget: 512 << 10)
        // All is striped.
        store.limits.maxJournaledBytes = 0
        try await store.open()
        let file = try await store.service.make("f")
        let content = try await scatter(100, in: file, of: store)
        try await settle(store, file)
        let dumped = try await pieces(store, file).dumped
        #expect(dumped > 50)
        let verifier = store.core.verifier.current
        let reads = store.disk.callCount(.read, under: "/v0/dump/")
        store.disk.inject(Fault("/v2/blocks/", operation, code: EIO))
        #expect(try await store.service.commit(file).verifier == verifier)
        #expect(await store.service.status().counters.rewrittenGroups >= 1)
        // At the first try, and at the second.
        #expect(store.disk.callCount(.read, under: "/v0/dump/") > reads + dumped)
        #expect(try await store.service.bytes(of: file) == content)
        await store.crash(seed: 1)
        try await store.open(without: [2, 0])
        #expect(try await store.service.bytes(of: file) == content)
        await store.close()
    }

    @Test("files that are lost with one disk change the verifier once, as soon as the first of them is missed")
    func oneIncident() async throws {
        let store = try makeStore(volumes: 6, budget: 256 << 10)
        try await store.open()
        var files: [FileReference] = []
        for index in 0..<5 { files.append(try await store.service.make("f\(index)")) }
        for (index, file) in files.enumerated() {
            try await scatter(40, in: file, of: store, seed: UInt64(index))
            try await settle(store, file)
        }
        var inDump = 0
        for file in files where try await pieces(store, file).dumped > 0 { inDump += 1 }
        #expect(inDump >= 3)
        let verifier = store.core.verifier.current
        store.clock.advance(seconds: 1)
        store.disk.inject(Fault("/v0/dump/", .read, code: EIO))
        await #expect(throws: FileError.busy) { try await store.service.bytes(of: files[0]) }
        await eventually("all that was in the dump is gone") {
            await store.service.tick()
            var left = 0
            // While a loss is being wound up the file can't be looked at.
            for file in files { left += (try? await pieces(store, file).dumped) ?? 1 }
            return left == 0
        }
        for file in files { #expect(try await store.service.commit(file).verifier != verifier) }
        #expect(await store.service.status().counters.verifierChanges == 1)
        #expect(await store.service.status().counters.writeBackErrors == UInt64(inDump))
        // What is written from here on is another matter.
        let after = store.core.verifier.current
        try await store.service.write([1], to: files[0], at: 0, .fileSync)
        #expect(try await store.service.commit(files[0]).verifier == after)
        await store.close()
    }

    enum Damage: CaseIterable {
        case flippedBit, truncated, unreadable, wholeVolume
    }

    @Test(
        "what the dump doesn't give back is never taken for something else, and its loss is told",
        arguments: Damage.allCases)
    func damaged(damage: Damage) async throws {
        let store = try makeStore(volumes: 6, budget: 512 << 10)
        let recorded = RecordedLines()
        store.log = recorded.logger
        try await store.open()
        let file = try await store.service.make("f")
        let base = pattern(900_000, seed: 3)
        try await store.service.write(base, to: file, .fileSync)
        let verifier = store.core.verifier.current
        let content = try await scatter(100, over: base, in: file, of: store)
        try await settle(store, file)
        #expect(try await pieces(store, file).dumped > 50)
        var (line, reads) = ("", 1)
        switch damage {
        case .flippedBit:
            store.disk.flipBits("/v0/dump/1.dump", at: 4000, mask: 0x10)
            line = "/v0/dump/1.dump: 3000 bytes at 3000 have another checksum than when they were written"
        case .truncated:
            store.disk.truncate("/v0/dump/1.dump", to: 4000)
            line = "/v0/dump/1.dump: of 3000 bytes at "
        case .unreadable:
            store.disk.inject(Fault("/v0/dump/", .read, code: EIO))
            line = "pread /v0/dump/"
        case .wholeVolume:
            // The blocks of other volumes are enough, those of the dump are nowhere else.
            store.disk.disappear("/v0/")
            line = "pread /v0/dump/"
        }
        await #expect(throws: FileError.busy) { try await store.service.bytes(of: file) }
        #expect(recorded.count("dumped bytes cannot be read back: \(line)") == 1)
        #expect(recorded.lines.contains("a read failed: what was dumped cannot be read back file=\(file.id.rawValue)"))
        #expect(await store.service.status().counters.failedDumpReads == UInt64(reads))
        // Where only some of it is damaged the rest can be read.
        if damage == .flippedBit {
            var found = 0
            for index in 0..<100 {
                let part = 9000 * index..<9000 * index + 9000
                do throws(FileError) {
                    let bytes = try await store.service.bytes(of: file, from: UInt64(part.lowerBound), count: 9000)
                    #expect(bytes == Array(content[part]))
                    found += 1
                } catch {
                    #expect(error == .busy)
                    reads += 1
                }
            }
            #expect(found == 99)
        }
        // Its verifier says that bytes are to be sent again; an error would be the end of them.
        #expect(try await store.service.commit(file).verifier != verifier)
        let status = await store.service.status()
        #expect(status.counters.verifierChanges == 1)
        #expect(status.counters.failedDumpReads >= UInt64(reads) + 1)
        let told = recorded.lines.filter { $0.hasPrefix("acknowledged unstable bytes were lost") }
        #expect(told.count == 1 && told[0].contains("file=\(file.id.rawValue)"))
        // Each byte is what it was before, or what was written.
        let found = try await store.service.bytes(of: file)
        #expect(found.count == base.count)
        #expect(found.indices.allSatisfy { found[$0] == base[$0] || found[$0] == content[$0] })
        // Sent again it is taken, and dumped elsewhere.
        let dumped = status.counters.dumpedBytes
        try await scatter(100, in: file, of: store)
        try await settle(store, file)
        #expect(try dumpLog(store).usage.dumpedBytes > dumped)
        try await store.service.commit(file)
        #expect(try await store.service.bytes(of: file) == content)
        await store.close()
    }
}

extension [UInt8] {
    /// What a WRITE does to a file.
    mutating func write(_ bytes: [UInt8], at offset: Int) {
        if count < offset + bytes.count { self += [UInt8](repeating: 0, count: offset + bytes.count - count) }
        replaceSubrange(offset..<offset + bytes.count, with: bytes)
    }
}
