// Power cuts at any moment, with volumes lost or damaged on top: what was answered is there, what was not is there
// as a whole or not at all. And the same on a lying disk, to see that these tests can fail.

import FaultInjection
import FileService
import Glibc
import Journal
import Model
import Synchronization
import Testing
import WriteBack

@testable import EmbeddedFileService

@Suite("After a power cut", .serialized, .timeLimit(.minutes(10)))
struct CrashTests {
    @Test("what was answered is there, the rest whole or not at all", arguments: 0..<30 as Range<UInt64>)
    func crash(seed: UInt64) async throws {
        try await CrashRun(policy: "RS-3-2-4k", seed: seed).run(lossOfVolumes: false)
    }

    @Test("the same when up to m volumes are lost or damaged by it", arguments: 1000..<1025 as Range<UInt64>)
    func crashWithLoss(seed: UInt64) async throws {
        try await CrashRun(policy: "RS-3-2-4k", seed: seed).run(lossOfVolumes: true)
    }

    @Test("the same when a volume failed before it, and another is lost by it", arguments: 4000..<4025 as Range<UInt64>)
    func crashAfterFailure(seed: UInt64) async throws {
        try await CrashRun(policy: "RS-3-2-4k", seed: seed).run(lossOfVolumes: true, failureOfVolume: true)
    }

    @Test("the same with XOR-2-1 on four volumes", arguments: 2000..<2015 as Range<UInt64>)
    func xor(seed: UInt64) async throws {
        try await CrashRun(policy: "XOR-2-1-4k", volumes: 4, seed: seed).run(lossOfVolumes: true)
    }

    @Test("the same with RS-6-3", arguments: 3000..<3006 as Range<UInt64>)
    func wide(seed: UInt64) async throws {
        try await CrashRun(policy: "RS-6-3-4k", seed: seed).run(lossOfVolumes: true)
    }

    @Test("this test fails on a disk that ignores syncs")
    func lyingDisk() async throws {
        var failures = 0
        for seed in 0..<12 as Range<UInt64> {
            do {
                let run = try CrashRun(policy: "RS-3-2-4k", seed: seed)
                run.store.disk.ignoresSync = true
                try await run.run(lossOfVolumes: false)
            } catch {
                failures += 1
            }
        }
        // Only a cut before the first answer can lose nothing.
        #expect(failures >= 10)
    }
}

/// What a worker knows when the power goes.
private final class History: Sendable {
    struct Content {
        var answered = ExpectedDirectory()
        var underWay: ExpectedChange?
    }
    let content = Mutex(Content())
}

/// Workers, each in a directory of its own, until the power goes; twice, so that a start after a crash is crashed too.
private final class CrashRun {
    let store: SimulatedStore
    private let seed: UInt64
    private var random: SeededGenerator
    private static let workers = 3

    init(policy: String, volumes: Int? = nil, seed: UInt64) throws {
        store = try SimulatedStore(policy, volumes: volumes)
        // Two seconds go by at each tick, however long a sync takes, and who waits for memory.
        store.bounds.journal.patience = SimulatedStore.endlessPatience
        store.limits.maxStall = SimulatedStore.endlessPatience
        self.seed = seed
        random = SeededGenerator(seed: seed)
    }

    func run(lossOfVolumes: Bool, failureOfVolume: Bool = false) async throws {
        do {
            try await store.open()
            for worker in 0..<Self.workers { try await store.service.makeDirectory("w\(worker)") }
            var states = Array(repeating: ExpectedDirectory(), count: Self.workers)
            for round in 0..<2 {
                if failureOfVolume { failVolume() }
                let histories = try await workUntilPowerLoss(states)
                await store.crash(seed: random.next())
                let damaged = lossOfVolumes && round == 1
                let missing = damaged ? damageVolumes(atMost: store.policy.parityUnits - (failureOfVolume ? 1 : 0)) : []
                try await store.open(without: missing)
                states = try await compare(histories, round: round)
                // Again, from what is on the disks only; what was unstable is decided now.
                try await store.restart(without: missing)
                _ = try await compare(
                    states.map { state in
                        let history = History()
                        history.content.withLock { $0.answered = state }
                        return history
                    }, round: round)
                try await checkStore(isDamaged: damaged || failureOfVolume)
            }
            await store.close()
        } catch {
            await store.close()
            throw Violation("seed \(seed): \(error)")
        }
    }

    private func workUntilPowerLoss(_ states: [ExpectedDirectory]) async throws -> [History] {
        let histories = states.map { state in
            let history = History()
            history.content.withLock { $0.answered = state }
            return history
        }
        let service = store.service
        let clock = store.clock
        let disk = store.disk
        store.disk.losePower(afterCalls: Int.random(in: 0...1500, using: &random))
        let seeds = histories.map { _ in random.next() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (worker, history) in histories.enumerated() {
                group.addTask {
                    // The power may be gone before the first step.
                    guard let directory = try? await service.find("w\(worker)") else { return }
                    var steps = Worker(service: service, directory: directory, history: history, seed: seeds[worker])
                    for _ in 0..<400 {
                        do {
                            try await steps.next()
                        } catch let error as FileError {
                            guard !disk.hasPower else { throw Violation("\(error) although nothing forced it") }
                            return
                        }
                    }
                }
            }
            group.addTask {
                for _ in 0..<50 {
                    clock.advance(seconds: 2)
                    await service.tick()
                }
            }
            try await group.waitForAll()
        }
        return histories
    }

    /// Some volume's disk begins to fail some time later.
    private func failVolume() {
        let volume = Int.random(in: store.paths.indices, using: &random)
        let operation = [FileOperation.write, .sync, .open, nil].randomElement(using: &random) ?? nil
        let calls = Int.random(in: 0...60, using: &random)
        store.disk.inject(Fault("/v\(volume)/", operation, code: EIO, afterCalls: calls))
    }

    /// Returns the volumes that are gone wholly.
    private func damageVolumes(atMost limit: Int) -> Set<Int> {
        let count = Int.random(in: 1...limit, using: &random)
        var missing: Set<Int> = []
        for index in Array(store.paths.indices).shuffled(using: &random).prefix(count) {
            if Bool.random(using: &random) {
                missing.insert(index)
            } else {
                let damage = SimulatedStore.Damage.allCases.randomElement(using: &random) ?? .emptied
                store.damageBlocks(of: index, damage, using: &random)
            }
        }
        return missing
    }

    /// Returns what the store turned out to hold.
    private func compare(_ histories: [History], round: Int) async throws -> [ExpectedDirectory] {
        var states: [ExpectedDirectory] = []
        for (worker, history) in histories.enumerated() {
            let directory = try await store.service.find("w\(worker)")
            var found: [FileName: FoundFile] = [:]
            for entry in try await store.service.entries(of: directory) {
                guard let file = entry.entry?.file else { throw Violation("an entry without attributes") }
                let content: FoundFile.Content =
                    if entry.entry?.attributes.type == .symbolicLink {
                        .target(try await store.service.readLink(file, as: SimulatedStore.superuser).target)
                    } else {
                        .bytes(try await store.service.bytes(of: file))
                    }
                found[entry.name] = FoundFile(id: file.id, content: content)
            }
            let content = history.content.withLock { $0 }
            let outcomes = content.answered.outcomes(of: content.underWay)
            let objections = outcomes.map { $0.objection(to: found) }
            guard objections.contains(nil) else {
                throw Violation(
                    "round \(round), worker \(worker): \(objections.compactMap { $0 }.joined(separator: " | ")); "
                        + "under way: \(content.underWay.map { "\($0)".prefix(60) } ?? "nothing")")
            }
            var state = ExpectedDirectory()
            var firstNames: [FileID: FileName] = [:]
            for (name, file) in found {
                if let first = firstNames[file.id] {
                    state.apply(.link(first, as: name))
                    continue
                }
                firstNames[file.id] = name
                switch file.content {
                case .target(let target): state.apply(.symbolicLink(name, target))
                case .bytes(let bytes):
                    state.apply(.create(name, size: 0))
                    state.apply(.write(name, offset: 0, bytes: bytes, isStable: true))
                }
            }
            states.append(state)
        }
        return states
    }

    private func checkStore(isDamaged: Bool) async throws {
        try await store.core.checkNamespace()
        let orphans = try await store.orphans()
        guard orphans.isEmpty else { throw Violation("orphans: \(orphans)") }
        let status = await store.service.status()
        guard isDamaged ? status.health != .red : status.health == .green else {
            throw Violation("health is \(status.health): \(status.reasons)")
        }
    }
}

/// Does one operation after another and writes down what was answered.
private struct Worker {
    let service: EmbeddedFileService
    let directory: FileReference
    let history: History
    var random: SeededGenerator
    /// Of the unstable writes of each file that no COMMIT covered yet.
    private var verifiers: [FileReference: Set<WriteVerifier>] = [:]
    private var references: [FileName: FileReference] = [:]

    private static let names = (0..<4).map { name("f\($0)") }

    init(service: EmbeddedFileService, directory: FileReference, history: History, seed: UInt64) {
        self.service = service
        self.directory = directory
        self.history = history
        random = SeededGenerator(seed: seed)
    }

    /// Throws a `FileError` when the power is gone.
    mutating func next() async throws {
        let name = Self.names.randomElement(using: &random) ?? Self.names[0]
        let other = Self.names.randomElement(using: &random) ?? name
        let (content, isFree) = history.content.withLock { ($0.answered[name], $0.answered[other] == nil) }
        let change: ExpectedChange
        switch content {
        case .file(let file):
            let size = file.live.count
            switch Int.random(in: 0..<22, using: &random) {
            case 0..<10:
                let offset = Bool.random(using: &random) ? size : Int.random(in: 0...size + 5000, using: &random)
                let largest = [10, 5000, 20_000].randomElement(using: &random) ?? 1
                guard offset < 60_000 else { return }
                change = .write(
                    name, offset: offset,
                    bytes: pattern(Int.random(in: 1...largest, using: &random), seed: random.next()),
                    isStable: Int.random(in: 0..<4, using: &random) == 0)
            case 10..<15: change = .commit(name)
            case 15, 16: change = .truncate(name, size: Int.random(in: 0...size + 5000, using: &random))
            case 17: change = .remove(name)
            case 18, 19: change = .rename(name, to: other)
            default: change = isFree ? .link(name, as: other) : .remove(name)
            }
        case .symbolicLink:
            switch Int.random(in: 0..<3, using: &random) {
            case 0: change = .rename(name, to: other)
            case 1: change = isFree ? .link(name, as: other) : .remove(name)
            default: change = .remove(name)
            }
        case nil:
            switch Int.random(in: 0..<6, using: &random) {
            case 0: change = .symbolicLink(name, try LinkTarget(pattern(100, seed: random.next()).map { $0 | 1 }))
            case 1, 2: change = .create(name, size: Int.random(in: 0...5000, using: &random))
            default: change = .create(name, size: 0)
            }
        }
        history.content.withLock { $0.underWay = change }
        try await carryOut(change)
        history.content.withLock { content in
            content.answered.apply(change)
            content.underWay = nil
        }
    }

    private mutating func carryOut(_ change: ExpectedChange) async throws {
        let user = SimulatedStore.superuser
        switch change {
        case .create(let name, let size):
            let file = try await service.create(
                name, in: directory, mode: .guarded(AttributeUpdate(size: UInt64(size))), as: user
            ).entry.file
            references[name] = file
            verifiers[file] = []
        case .write(let name, let offset, let bytes, let isStable):
            let file = try await reference(name)
            let result = try await service.write(
                bytes, to: file, at: UInt64(offset), isStable ? .fileSync : .unstable)
            verifiers[file, default: []].insert(result.verifier)
            // A client would send again what was lost.
            if isStable, verifiers[file] != [result.verifier] { throw FileError.inputOutput }
        case .commit(let name):
            let file = try await reference(name)
            let result = try await service.commit(file)
            if verifiers[file, default: []].contains(where: { $0 != result.verifier }) { throw FileError.inputOutput }
            verifiers[file] = []
        case .truncate(let name, let size): try await service.truncate(reference(name), to: UInt64(size))
        case .remove(let name):
            _ = try await service.remove(name, from: directory, as: user)
            references[name] = nil
        case .rename(let name, let newName):
            _ = try await service.rename(name, in: directory, to: newName, in: directory, as: user)
            // Two names of one file: nothing happened.
            guard references[name] != references[newName] || references[name] == nil else { return }
            references[newName] = references.removeValue(forKey: name)
        case .link(let name, let newName):
            let file = try await reference(name)
            _ = try await service.link(file, as: newName, in: directory, by: user)
            references[newName] = file
        case .symbolicLink(let name, let target):
            _ = try await service.makeSymbolicLink(
                name, in: directory, to: target, attributes: AttributeUpdate(), as: user)
        }
    }

    private mutating func reference(_ name: FileName) async throws -> FileReference {
        if let known = references[name] { return known }
        let found = try await service.lookUp(name, in: directory, as: SimulatedStore.superuser).file
        references[name] = found
        return found
    }
}
