// Operations that meet: truncate, remove and rename while a drain or a read is under way, several readers and writers.

import FaultInjection
import FileService
import Journal
import Model
import Platform
import Synchronization
import Testing
import WriteBack

@testable import EmbeddedFileService
@testable import Namespace

/// A value that several tasks use.
private final class Shared<Value: Sendable>: Sendable {
    private let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }

    func withLock<Result: Sendable>(_ body: (inout Value) -> Result) -> Result {
        value.withLock { value in body(&value) }
    }
}

@Suite("Operations that meet", .timeLimit(.minutes(10)))
struct ConcurrencyTests {
    private let store: SimulatedStore

    init() async throws {
        store = try SimulatedStore()
        store.bounds.journal.patience = SimulatedStore.endlessPatience
        try await store.open()
    }

    private var service: EmbeddedFileService { store.service }

    /// Holds the next such call on blocks of a volume.
    private func hold(_ operation: FileOperation, volume: Int = 0) -> Gate {
        let gate = Gate()
        store.disk.before(operation, under: "/v\(volume)/blocks/") { gate.pass() }
        return gate
    }

    /// Nothing is drained before a COMMIT asks for it.
    private func drainLate() async throws {
        await store.close()
        store.limits.drainChunkBytes = 1 << 20
        store.limits.maxPendingBytes = 8 << 20
        try await store.open()
    }

    @Test("a truncate while a drain is under way voids what it cuts off")
    func truncateWhileDraining() async throws {
        try await drainLate()
        let file = try await service.make("f")
        let bytes = pattern(30_000, seed: 1)
        try await service.write(bytes, to: file)
        let gate = hold(.write)
        let service = service
        async let committed = service.commit(file)
        await gate.waitForArrival()
        try await service.truncate(file, to: 10_000)
        try await service.truncate(file, to: 20_000)
        let expected = Array(bytes[..<10_000]) + Array(repeating: 0, count: 10_000)
        #expect(try await service.bytes(of: file) == expected)
        let late = pattern(100, seed: 2)
        try await service.write(late, to: file, at: 15_000)
        gate.open()
        _ = try await committed
        var after = expected
        after.replaceSubrange(15_000..<15_100, with: late)
        #expect(try await service.bytes(of: file) == after)
        try await service.commit(file)
        #expect(try await service.attributes(of: file).usedBytes == 10_100)
        try await store.stripe(file)
        #expect(try await service.attributes(of: file).usedBytes == 10_100)
        await store.crash(seed: 1)
        try await store.open()
        #expect(try await store.service.bytes(of: file) == after)
        try await store.endsWell()
    }

    @Test(
        "a truncate while a drain is under way cuts off what goes to the journal, too",
        arguments: [24_000, 25_000, 29_999])
    func truncateWhileJournaling(size: Int) async throws {
        try await drainLate()
        let file = try await service.make("f")
        let bytes = pattern(30_000, seed: 1)
        try await service.write(bytes, to: file)
        // Two stripes are striped, what is behind them goes to the journal afterwards.
        let gate = hold(.write)
        let service = service
        async let committed = service.commit(file)
        await gate.waitForArrival()
        try await service.truncate(file, to: UInt64(size))
        try await service.truncate(file, to: 30_000)
        gate.open()
        _ = try await committed
        let expected = Array(bytes[..<size]) + Array(repeating: 0, count: 30_000 - size)
        #expect(try await service.bytes(of: file) == expected)
        #expect(try await store.journaledBytes(of: file) == max(0, size - 2 * store.policy.stripeSizeBytes))
        for seed in 1...2 as ClosedRange<UInt64> {
            await store.crash(seed: seed)
            try await store.open()
            #expect(try await store.service.bytes(of: file) == expected)
        }
        try await store.stripe(file)
        #expect(try await store.service.bytes(of: file) == expected)
        #expect(try await store.service.attributes(of: file).usedBytes == UInt64(size))
        try await store.endsWell()
    }

    @Test("LOOKUP, GETATTR and ACCESS of what is in memory don't wait for the journal")
    func lookingWhileCommitting() async throws {
        let file = try await service.make("f")
        try await service.write(pattern(100, seed: 1), to: file)
        let root = try await service.rootReference()
        let service = service
        // From now on it is known that there is none.
        await #expect(throws: FileError.notFound) {
            _ = try await service.lookUp(name("f2"), in: root, as: SimulatedStore.user)
        }
        let gate = Gate()
        store.disk.before(.sync, under: "/v3/journal/") { gate.pass() }
        async let made = service.make("g")
        await gate.waitForArrival()
        let entry = try await service.lookUp(name("f"), in: root, as: SimulatedStore.user)
        #expect(entry.file == file)
        #expect(entry.attributes.size == 100)
        await #expect(throws: FileError.notFound) {
            _ = try await service.lookUp(name("f2"), in: root, as: SimulatedStore.user)
        }
        #expect(try await service.attributes(of: root).linkCount == 2)
        #expect(try await service.access(to: root, rights: .lookup, as: SimulatedStore.user).granted == .lookup)
        await #expect(throws: FileError.notDirectory) {
            _ = try await service.lookUp(name("x"), in: file, as: SimulatedStore.user)
        }
        gate.open()
        let other = try await made
        #expect(try await service.lookUp(name("g"), in: root, as: SimulatedStore.user).file == other)
        try await service.remove("g")
        await #expect(throws: FileError.notFound) {
            _ = try await service.lookUp(name("g"), in: root, as: SimulatedStore.user)
        }
        await #expect(throws: FileError.stale) { _ = try await service.attributes(of: other) }
        try await store.endsWell()
    }

    @Test("what changes metadata doesn't wait for the mirrors")
    func changingWhileApplying() async throws {
        let file = try await service.make("f")
        let gate = Gate()
        store.disk.before(.sync, under: "/v0/metadata/") { gate.pass() }
        let namespace = store.core.namespace
        async let applied: Void = namespace.applyNow()
        await gate.waitForArrival()
        try await service.make("g")
        try await service.write(pattern(100, seed: 1), to: file, .fileSync)
        try await service.truncate(file, to: 50)
        try await service.remove("g")
        #expect(try await service.bytes(of: file) == Array(pattern(100, seed: 1)[..<50]))
        let root = try await service.rootReference()
        #expect(try await service.entries(of: root).map(\.name) == [name("f")])
        gate.open()
        try await applied
        try await store.endsWell()
    }

    @Test(
        "a SETATTR's attributes before and after have no WRITE between them, nor between guard and change (§2.6, §3.3.2)",
        arguments: [false, true])
    func setAttributesWhileWriting(truncates: Bool) async throws {
        let file = try await service.make("f")
        try await service.write(pattern(5000, seed: 1), to: file, .fileSync)
        let service = service
        let steps = Shared<[(before: Timestamp, after: Timestamp)]>([])
        let isDone = Shared(false)
        // Of one byte, so that little is pending.
        let writer = Task.detached {
            var count = 0
            while !isDone.withLock({ $0 }) {
                let change = try await service.write([UInt8(count & 255)], to: file, at: 0).change
                steps.withLock { $0.append((change.before.changeTime, change.after.changeTime)) }
                count += 1
                // Lets the other win the guard now and then.
                if count % 8 == 0 { try await Task.sleep(for: .microseconds(200)) }
            }
        }
        var update = AttributeUpdate(mode: 0o640)
        var refused = 0
        var accepted = 0
        for round in 0..<400 {
            if truncates { update.size = UInt64(round % 7) * 100 + 1 }
            let guardTime = round % 2 == 0 ? nil : try await service.attributes(of: file).changeTime
            do throws(FileError) {
                let change = try await service.setAttributes(
                    of: file, to: update, guardTime: guardTime, as: SimulatedStore.superuser)
                if let guardTime { #expect(change.before.changeTime == guardTime) }
                if let size = update.size { #expect(change.after.size == size) }
                steps.withLock { $0.append((change.before.changeTime, change.after.changeTime)) }
                accepted += 1
            } catch {
                #expect(error == .notSynchronized)
                refused += 1
            }
        }
        isDone.withLock { $0 = true }
        try await writer.value
        // Each change takes the change time on from where the one before left it.
        let all = steps.withLock { $0.sorted { $0.before < $1.before } }
        #expect(accepted >= 200 && accepted + refused == 400 && all.count > accepted)
        for (step, next) in zip(all, all.dropFirst()) {
            guard step.after > step.before, next.before == step.after else {
                Issue.record("\(step), then \(next)")
                break
            }
        }
        try await store.endsWell()
    }

    /// So long that it has a group of its own, which goes with it.
    private let longBytes = pattern(100_000, seed: 1)

    @Test("a file is removed while it is drained: who waits is told, and its blocks go")
    func removeWhileDraining() async throws {
        try await drainLate()
        let file = try await service.make("f")
        try await service.write(longBytes, to: file)
        let gate = hold(.write)
        let service = service
        async let committed = service.commit(file)
        await gate.waitForArrival()
        try await service.remove("f")
        await #expect(throws: FileError.stale) { try await service.write([1], to: file) }
        gate.open()
        do {
            _ = try await committed
            Issue.record("a COMMIT of a removed file succeeded")
        } catch {
            #expect(error as? FileError == .stale)
        }
        await eventually("the blocks are deleted") { store.allBlockFiles.isEmpty }
        #expect(await service.status().counters.pendingBytes == 0)
        try await store.endsWell()
    }

    @Test("blocks of a removed file stay until its reader is done")
    func removeWhileReading() async throws {
        let file = try await service.make("f")
        let bytes = longBytes
        try await service.write(bytes, to: file, .fileSync)
        let blocks = store.allBlockFiles
        let gate = hold(.read)
        let service = service
        async let read = service.bytes(of: file)
        await gate.waitForArrival()
        try await service.remove("f")
        // Gives deletions that should not be under way a chance.
        for index in 0..<20 { try await service.make("g\(index)") }
        #expect(store.allBlockFiles == blocks)
        gate.open()
        #expect(try await read == bytes)
        await eventually("the blocks are deleted") { store.allBlockFiles.isEmpty }
        await #expect(throws: FileError.stale) { try await service.bytes(of: file) }
        try await store.endsWell()
    }

    @Test("reads that race with a remove answer the whole file or stale")
    func readsRacingWithRemove() async throws {
        for round in 0..<30 as Range<UInt64> {
            let file = try await service.make("f")
            let bytes = pattern(20_000, seed: round)
            try await service.write(bytes, to: file)
            if round % 2 == 0 { try await service.commit(file) }
            let service = service
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        while !Task.isCancelled {
                            await Task.yield()
                            do throws(FileError) {
                                let found = try await service.bytes(of: file)
                                #expect(found == bytes)
                            } catch {
                                #expect(error == .stale)
                                return
                            }
                        }
                    }
                }
                group.addTask { try await service.remove("f") }
                try await group.waitForAll()
            }
        }
        #expect(await service.status().health == .green)
        try await store.endsWell()
    }

    @Test("a rename over a file that is being drained replaces it")
    func renameOverPending() async throws {
        try await drainLate()
        let (source, target) = (try await service.make("a"), try await service.make("b"))
        let bytes = pattern(30_000, seed: 1)
        try await service.write(bytes, to: source)
        try await service.write(pattern(40_000, seed: 2), to: target)
        let gate = hold(.write)
        let service = service
        async let committed = service.commit(target)
        await gate.waitForArrival()
        let root = try await service.rootReference()
        _ = try await service.rename(name("a"), in: root, to: name("b"), in: root, as: SimulatedStore.superuser)
        #expect(try await service.find("b") == source)
        #expect(try await service.bytes(of: source) == bytes)
        gate.open()
        do {
            _ = try await committed
            Issue.record("a COMMIT of a replaced file succeeded")
        } catch {
            #expect(error as? FileError == .stale)
        }
        await #expect(throws: FileError.stale) { try await service.attributes(of: target) }
        try await service.commit(source)
        await store.crash(seed: 2)
        try await store.open(without: [3])
        #expect(try await store.service.bytes(of: try await store.service.find("b")) == bytes)
        // Not in order: what is in the journal would be striped with one block less.
        await store.crash(seed: 3)
        try await store.open()
        try await store.endsWell()
    }

    @Test("each read sees every write that was acknowledged before it, none by half")
    func readersAndWriters() async throws {
        let file = try await service.make("f")
        let (writers, bytesEach) = (4, 3_000)
        let acknowledged = Shared(Array(repeating: UInt8(0), count: writers))
        try await service.write(Array(repeating: 0, count: writers * bytesEach), to: file, .fileSync)
        let service = service
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<writers {
                group.addTask {
                    for value in 1...120 as ClosedRange<UInt8> {
                        let stability: WriteStability = value % 16 == 0 ? .fileSync : .unstable
                        try await service.write(
                            Array(repeating: value, count: bytesEach), to: file, at: UInt64(writer * bytesEach),
                            stability)
                        acknowledged.withLock { $0[writer] = value }
                        if value % 25 == 0 { try await service.commit(file) }
                    }
                }
            }
            for reader in 0..<3 {
                group.addTask {
                    var random = SeededGenerator(seed: UInt64(reader))
                    while !Task.isCancelled {
                        // A read of what is in memory doesn't suspend, and there are few threads for all tasks.
                        await Task.yield()
                        let writer = Int.random(in: 0..<writers, using: &random)
                        let least = acknowledged.withLock { $0[writer] }
                        let found = try await service.bytes(
                            of: file, from: UInt64(writer * bytesEach), count: bytesEach)
                        let value = found.first ?? 0
                        #expect(found == Array(repeating: value, count: bytesEach), "a write is seen by half")
                        #expect(value >= least, "an acknowledged write is not seen")
                        if acknowledged.withLock({ $0.allSatisfy { $0 == 120 } }) { return }
                    }
                }
            }
            try await group.waitForAll()
        }
        try await service.commit(file)
        await store.crash(seed: 3)
        try await store.open()
        #expect(Set(try await store.service.bytes(of: file)) == [120])
        try await store.endsWell()
    }

    @Test("a read sees all of a truncate or nothing")
    func readsRacingWithTruncates() async throws {
        let file = try await service.make("f")
        let bytes = Array(repeating: UInt8(7), count: 20_000)
        let service = service
        let isDone = Shared(false)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for round in 0..<60 {
                    try await service.write(bytes, to: file)
                    if round % 2 == 0 { try await service.commit(file) }
                    try await service.truncate(file, to: 5_000)
                    // Down and up: what is above the cut reads as zeros, never as old bytes.
                    try await service.truncate(file, to: 0)
                }
                isDone.withLock { $0 = true }
            }
            for _ in 0..<3 {
                group.addTask {
                    while !isDone.withLock({ $0 }), !Task.isCancelled {
                        await Task.yield()
                        let found = try await service.bytes(of: file)
                        #expect([0, 5_000, 20_000].contains(found.count))
                        #expect(found.allSatisfy { $0 == 7 }, "zeros in a file that never had any")
                    }
                }
            }
            try await group.waitForAll()
        }
        try await store.endsWell()
    }

    @Test("two writers of one file, each its own pieces")
    func twoWriters() async throws {
        let file = try await service.make("f")
        let (pieces, count) = (200, 1_000)
        let service = service
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<2 {
                group.addTask {
                    var random = SeededGenerator(seed: UInt64(writer))
                    for piece in Array(0..<pieces).filter({ $0 % 2 == writer }).shuffled(using: &random) {
                        try await service.write(
                            pattern(count, seed: UInt64(piece)), to: file, at: UInt64(piece * count))
                    }
                    try await service.commit(file)
                }
            }
            try await group.waitForAll()
        }
        let expected = (0..<pieces).flatMap { pattern(count, seed: UInt64($0)) }
        await store.crash(seed: 4)
        try await store.open()
        #expect(try await store.service.bytes(of: file) == expected)
        try await store.endsWell()
    }

    @Test("writers that fill the memory wait and get on")
    func budget() async throws {
        let service = service
        var files: [FileReference] = []
        for index in 0..<20 { files.append(try await service.make("f\(index)")) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, file) in files.enumerated() {
                group.addTask {
                    // Out of order and with gaps, so that nothing is drained for being a full stripe.
                    for piece in (0..<20).reversed() {
                        try await service.write(
                            pattern(1_500, seed: UInt64(index * 100 + piece)), to: file, at: UInt64(piece * 3_000))
                    }
                }
            }
            try await group.waitForAll()
        }
        let status = await service.status()
        #expect(status.counters.stalledWrites > 0)
        #expect(status.counters.pendingBytes <= UInt64(store.limits.maxPendingBytes))
        try await store.restart()
        for (index, file) in files.enumerated() {
            let found = try await store.service.bytes(of: file)
            for piece in 0..<20 {
                #expect(
                    Array(found[(piece * 3_000)..<(piece * 3_000 + 1_500)])
                        == pattern(1_500, seed: UInt64(index * 100 + piece)))
            }
        }
        try await store.endsWell()
    }
}
