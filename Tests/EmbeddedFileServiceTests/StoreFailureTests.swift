// A store that can't go on: what clients are told, and who else.

import FaultInjection
import FileService
import Glibc
import Synchronization
import Testing

@testable import EmbeddedFileService
@testable import Namespace

@Suite("The write verifier")
struct VerifierSourceTests {
    @Test("one change is enough for all that arrived before it, and none for what arrived since or at the same moment")
    func incidents() {
        var random = SystemRandomNumberGenerator()
        let verifier = VerifierSource(using: &random)
        let clock = TestClock()
        clock.advance(seconds: 10)
        let first = verifier.current
        verifier.change(forBytesUntil: .seconds(9), clock)
        let second = verifier.current
        #expect(second != first)
        verifier.change(forBytesUntil: .seconds(8), clock)
        clock.advance(seconds: 10)
        verifier.change(forBytesUntil: .seconds(9), clock)
        #expect(verifier.current == second && verifier.changes == 1)
        verifier.change(forBytesUntil: .seconds(10), clock)
        #expect(verifier.current != second && verifier.changes == 2)
        verifier.change(forBytesUntil: .seconds(19), clock)
        #expect(verifier.changes == 2)
        verifier.change(forBytesUntil: .seconds(21), clock)
        #expect(verifier.changes == 3)
    }
}

@Suite("A store that has failed for good", .timeLimit(.minutes(10)))
struct StoreFailureTests {
    @Test("is told once, with the first reason, to all who wait and whoever comes later; its verifier changes once")
    func once() async {
        let failure = StoreFailure(log: SimulatedStore.quiet)
        let before = failure.verifier.current
        #expect(!failure.hasOccurred && failure.reason == nil)
        let waiters = (0..<3).map { _ in Task { await failure.wait() } }
        let clock = TestClock()
        failure.verifier.change(forBytesUntil: clock.elapsed(), clock)
        #expect(failure.verifier.current != before && failure.verifier.changes == 1)
        failure.occur("first")
        failure.occur("second")
        let after = failure.verifier.current
        // Bytes that are lost on the way down.
        failure.verifier.change(forBytesUntil: clock.elapsed(), clock)
        #expect(failure.verifier.current == after && after != before && failure.verifier.changes == 2)
        for waiter in waiters { #expect(await waiter.value == "first") }
        #expect(await failure.wait() == "first")
        #expect(failure.hasOccurred && failure.reason == "first")
    }

    @Test("who stops waiting is let go, before and after he began")
    func cancelled() async {
        let failure = StoreFailure(log: SimulatedStore.quiet)
        for isEarly in [true, false] {
            let started = Flag()
            let waiter = Task {
                if isEarly { while !Task.isCancelled { await Task.yield() } }
                started.set()
                return await failure.wait()
            }
            if !isEarly { while !started.isSet { await Task.yield() } }
            waiter.cancel()
            #expect(await waiter.value == nil)
        }
        failure.occur("later")
    }

    private final class Flag: Sendable {
        private let value = Atomic(false)
        var isSet: Bool { value.load(ordering: .sequentiallyConsistent) }
        func set() { value.store(true, ordering: .sequentiallyConsistent) }
    }

    enum Cause: CaseIterable {
        /// No mirror can be synced.
        case mirrors
        /// One mirror fails, and too few superblocks can be written to leave it out.
        case superblocks
        /// Too few volumes take writes of the journal.
        case journal
        /// A replica of the journal fails, and too few superblocks can be written to begin another generation.
        case generation

        /// Whether what comes next can't be answered. Otherwise the journal has it, and it is noticed later.
        var isNoticedAtOnce: Bool { self == .journal || self == .generation }

        func strike(_ disk: SimulatedFileSystem) {
            switch self {
            case .mirrors: for volume in 0..<5 { disk.inject(Fault("/v\(volume)/metadata/", .sync, code: EIO)) }
            case .superblocks:
                disk.inject(Fault("/v1/metadata/", .sync, code: EIO))
                for volume in 2..<5 { disk.inject(Fault("/v\(volume)/superblock", code: EIO)) }
            case .journal: for volume in 2..<5 { disk.inject(Fault("/v\(volume)/journal/", .sync, code: EIO)) }
            case .generation:
                disk.inject(Fault("/v3/journal/", .sync, code: EIO))
                for volume in 0..<2 { disk.inject(Fault("/v\(volume)/superblock", code: EIO)) }
            }
        }
    }

    @Test("WRITE and COMMIT fail, the verifier changes once, those who serve it are told", arguments: Cause.allCases)
    func refused(cause: Cause) async throws {
        let store = try SimulatedStore()
        try await store.open()
        let files = [try await store.service.make("a"), try await store.service.make("b")]
        let clean = try await store.service.make("clean")
        // With a rest that is in the journal.
        let bytes = pattern(20_000, seed: 1)
        for file in files + [clean] { try await store.service.write(bytes, to: file, .fileSync) }
        let service = store.service
        let told = Task { await service.waitForFailure() }
        var verifier = try await store.service.commit(clean).verifier
        let journaled = await store.service.status().counters.pendingBytes
        for file in files {
            let written = try await store.service.write(pattern(5000, seed: 2), to: file, at: 40_000)
            #expect(written.verifier == verifier)
        }
        #expect(store.service.failure == nil)
        cause.strike(store.disk)
        if cause.isNoticedAtOnce {
            await #expect(throws: FileError.inputOutput) { try await store.service.make("c") }
        } else {
            try await store.service.make("c")
            await #expect(throws: NamespaceError.self) { try await store.core.namespace.applyNow() }
        }
        #expect(store.service.failure != nil)
        #expect(await told.value == store.service.failure)
        #expect(store.core.verifier.current != verifier)
        verifier = store.core.verifier.current
        for file in files + [clean] {
            await #expect(throws: FileError.inputOutput) { try await store.service.write([1], to: file) }
            await #expect(throws: FileError.inputOutput) { try await store.service.write([1], to: file, .fileSync) }
            await #expect(throws: FileError.inputOutput) { try await store.service.commit(file) }
            await #expect(throws: FileError.inputOutput) { try await store.service.commit(file) }
        }
        await #expect(throws: FileError.inputOutput) { try await store.service.make("d") }
        await store.service.tick()
        // Two files have lost bytes: that is one incident.
        #expect(store.core.verifier.current == verifier && store.core.verifier.changes == 1)
        let pending = await store.service.status().counters.pendingBytes
        #expect(journaled > 0 && pending <= journaled)
        #expect(await store.service.close() >= 0)
        store.disk.removeFaults()
        await store.crash(seed: 1)
        try await store.open()
        for file in files + [clean] { #expect(try await store.service.bytes(of: file) == bytes) }
        if !cause.isNoticedAtOnce { _ = try await store.service.find("c") }
        await #expect(throws: FileError.notFound) { try await store.service.find("d") }
        #expect(try await store.service.commit(clean).verifier != verifier)
        await store.close()
    }

    @Test(
        "a WRITE that met the failure under way has either the old verifier or an error",
        arguments: [Cause.mirrors, .journal])
    func race(cause: Cause) async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("a")
        let before = try await store.service.commit(file).verifier
        let service = store.service
        let writers = (0..<4).map { number in
            Task {
                var verifiers: Set<WriteVerifier> = []
                for index in 0..<1_000_000 {
                    let offset = UInt64(number * 1000 + index % 1000)
                    guard let written = try? await service.write([1], to: file, at: offset) else { break }
                    verifiers.insert(written.verifier)
                }
                return verifiers
            }
        }
        cause.strike(store.disk)
        if cause.isNoticedAtOnce {
            await #expect(throws: FileError.inputOutput) { try await service.make("b") }
        } else {
            try await service.make("b")
            await #expect(throws: NamespaceError.self) { try await store.core.namespace.applyNow() }
        }
        for writer in writers { #expect(await writer.value.isSubset(of: [before])) }
        #expect(store.core.verifier.current != before)
        await store.close()
    }
}
