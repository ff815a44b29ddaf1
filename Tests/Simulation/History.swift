// One history: a store is formatted, served to several callers at once, and cut off; volumes fail, vanish and come back with
// what they had; after each start everything that was promised is there.
//
// Of the volumes, at most m are bad ones: what befalls a volume alone befalls those. All that is promised must survive
// whatever happens to them, in all starts together, since nothing rebuilds the blocks that they lack. The journal and the
// mirrors are copied to other volumes: in some histories other volumes become the bad ones, when that has been done.

import FaultInjection
import FileService
import Glibc
import Journal
import Logging
import Model
import Platform
import WriteBack

@testable import EmbeddedFileService

struct Shape: Sendable {
    let policy: String
    let volumes: Int

    static let all = [
        Shape(policy: "RS-3-2-4k", volumes: 5), Shape(policy: "RS-3-2-4k", volumes: 6),
        Shape(policy: "XOR-2-1-4k", volumes: 3), Shape(policy: "XOR-2-1-4k", volumes: 4),
        Shape(policy: "RS-6-3-4k", volumes: 9), Shape(policy: "RS-6-3-4k", volumes: 10),
    ]

    /// The larger ones take longer.
    static func random(using random: inout SeededGenerator) -> Int {
        [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5].randomElement(using: &random)!
    }
}

/// Formatted disks by shape, each made once.
final class FormattedDisks: @unchecked Sendable {
    static let shared = FormattedDisks()
    private var disks: [Int: SimulatedFileSystem] = [:]

    /// A copy. Formats, as a history of its own, if it must.
    func copy(_ shape: Int) -> SimulatedFileSystem {
        if disks[shape] == nil {
            seedMachine(UInt64(shape))
            let paths = (0..<Shape.all[shape].volumes).map { "/v\($0)" }
            let disk = SimulatedFileSystem(directories: paths)
            Simulator.shared.callsPerTurn = 0
            Simulator.shared.interruptionsPerTurn = 0
            Simulator.shared.run(seed: UInt64(shape)) {
                do {
                    var random = SeededGenerator(seed: UInt64(shape))
                    try EmbeddedFileService.format(
                        volumes: paths, policy: ErasureCodingPolicy(Shape.all[shape].policy), fileSystem: disk,
                        clock: SimulatedClock(), random: &random)
                } catch {
                    fatalError("a store can't be formatted: \(error)")
                }
            }
            disks[shape] = disk
        }
        // All is durable after format, so a power cut leaves an equal disk.
        return disks[shape]!.crash(seed: 0)
    }
}

final class History: @unchecked Sendable {
    private let world: World
    private var random: SeededGenerator
    private let policy: ErasureCodingPolicy
    private let paths: [String]
    private let trouble: Trouble
    /// The bad volumes become others now and then.
    private let wanders: Bool
    private let writesData: Bool
    /// More volumes vanish than may while callers are at work.
    private var losesTooMany = false
    private var limits = WriteBackLimits()
    private var bounds = StoreBounds()
    private var names: [NameCaller] = []
    private var verifiers: Set<WriteVerifier> = []

    static let log: Logger = {
        var log = Logger(label: "simulation")
        log.logLevel = getenv("SLUICE_TEST_LOG") == nil ? .critical : .info
        return log
    }()

    private init(seed: UInt64, trace: Trace) throws {
        random = SeededGenerator(seed: seed)
        let shape = Shape.random(using: &random)
        let disk = FormattedDisks.shared.copy(shape)
        seedMachine(random.next())
        policy = try ErasureCodingPolicy(Shape.all[shape].policy)
        paths = (0..<Shape.all[shape].volumes).map { "/v\($0)" }
        let isShortOfSpace = Int.random(in: 0..<5, using: &random) == 0
        let badCount = isShortOfSpace ? 0 : Int.random(in: 0...policy.parityUnits, using: &random)
        let bad = Array(paths.indices.shuffled(using: &random).prefix(badCount))
        let kind = Int.random(in: 0..<4, using: &random)
        wanders = badCount > 0 && kind == 0
        writesData = !wanders || Bool.random(using: &random)
        world = World(disk: disk, seed: random.next(), trace: trace)
        trouble = Trouble(
            world, paths, bad: bad, isShortOfSpace: isShortOfSpace, flipsBits: kind == 1, seed: random.next())
        // Small, so that few calls make drains, stalls, dumps and several groups.
        limits.drainChunkBytes = 24 << 10
        limits.maxDrainBytes = 48 << 10
        limits.maxPendingBytes = [24 << 10, 128 << 10, 1 << 20].randomElement(using: &random)!
        limits.concurrentDrains = Int.random(in: 1...4, using: &random)
        limits.idleTime = .seconds(5)
        limits.maxOpenContexts = [2, 16_384].randomElement(using: &random)!
        if Bool.random(using: &random) {
            bounds.maxCachedNodes = 3
            bounds.maxGroupBytes = 24 << 10
        }
        bounds.dump.minFreeBytes = 0
        bounds.dump.segmentBytes = 32 << 10
        // Of seven groups at most, or of two.
        bounds.journal.segmentBytes = Bool.random(using: &random) ? 32 << 10 : 12 << 10
        bounds.journal.capacityBytes = Bool.random(using: &random) ? 256 << 10 : 1 << 20
        bounds.journal.minFreeBytes = 0
        Simulator.shared.callsPerTurn = [0, 64, 8].randomElement(using: &random)!
        Simulator.shared.interruptionsPerTurn = [0, 8, 2].randomElement(using: &random)!
        world.note(
            "\(Shape.all[shape].policy) on \(paths.count) volumes, bad: \(bad)\(isShortOfSpace ? ", short of space" : "")"
                + (wanders ? ", others later" : "")
        )
    }

    /// Returns what was wrong; nil when nothing was.
    static func run(seed: UInt64, trace: Trace) -> String? {
        let result = Result<History, any Error> { try History(seed: seed, trace: trace) }
        switch result {
        case .failure(let error): return "\(error)"
        case .success(let history):
            nonisolated(unsafe) var wrong: String?
            Simulator.shared.run(seed: history.random.next()) {
                do {
                    try await history.run()
                } catch {
                    wrong = "\(error)"
                }
                await history.close()
            }
            return wrong
        }
    }

    private func run() async throws {
        let starts = pick(2..<5)
        for start in 0..<starts {
            try await self.start(isFirst: start == 0)
            if start == 0 { try await makeRoots() }
            try await work()
            if wanders, await hasBecomeRedundant() {
                trouble.chooseOthers(count: trouble.bad.count, policy: policy)
            } else if pick(0..<4) == 0, world.hasPower {
                await close()
            }
            if world.opened == nil, world.hasPower {
                for file in world.sortedFiles { world.noteReverts(of: file) }
                restore(world.disk)
            } else {
                await crash()
            }
        }
        try await finish()
    }

    private func pick(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

    // MARK: Starts

    private func observe(_ disk: SimulatedFileSystem) {
        let trace = world.trace
        disk.countsCalls = false
        disk.ignoresSync = world.trace.disksLie
        disk.observe(
            before: { operation in
                switch operation {
                // Each start makes thousands of them.
                case .list, .status, .space, .size: break
                default: Simulator.shared.beforeCall()
                }
            }, after: { trace.add($0) })
    }

    private func open(without missing: Set<Int>) async throws(StoreRefusal) {
        observe(world.disk)
        world.note("start without \(missing.sorted())")
        world.serve(
            try await EmbeddedFileService.open(
                volumes: paths.indices.filter { !missing.contains($0) }.map { paths[$0] }, fileSystem: world.disk,
                clock: world.clock, log: Self.log, limits: limits, bounds: bounds))
    }

    private func start(isFirst: Bool) async throws {
        world.mayFail = false
        if !isFirst {
            if pick(0..<4) == 0 { try await startWithoutQuorum() }
            while pick(0..<3) == 0 { await startInterrupted() }
        }
        let missing = isFirst ? [] : Set(trouble.bad.filter { _ in pick(0..<3) == 0 })
        if !missing.isEmpty || !trouble.ruined.isEmpty { world.mayFail = true }
        if !isFirst, pick(0..<4) == 0 { trouble.inject(mayHang: false) }
        do throws(StoreRefusal) {
            try await open(without: missing)
        } catch {
            throw Wrong("a start without \(missing.sorted()) was refused: \(error)")
        }
        guard verifiers.insert(world.service.core.verifier.current).inserted else {
            throw Wrong("a start took a verifier that was there before")
        }
        if !isFirst { try await compare() }
    }

    /// More volumes are away than may be.
    private func startWithoutQuorum() async throws {
        let missing = Set(paths.indices.shuffled(using: &random).prefix(policy.parityUnits + 1))
        do throws(StoreRefusal) {
            try await open(without: missing)
        } catch {
            world.note("refused: \(error)")
            return
        }
        throw Wrong("the store was served without \(missing.sorted())")
    }

    /// The power goes while it is opened, or just after; and bad volumes fail meanwhile.
    private func startInterrupted() async {
        if pick(0..<2) == 0 { trouble.inject(mayHang: false) }
        if pick(0..<2) == 0 {
            trouble.losePowerInEpoch(within: 2 * paths.count)
        } else {
            world.disk.losePower(afterCalls: pick(0..<250))
        }
        do throws(StoreRefusal) {
            try await open(without: Set(trouble.bad.filter { _ in pick(0..<3) == 0 }))
        } catch {
            world.note("interrupted: \(error)")
        }
        await crash()
    }

    /// The power goes, and comes back; or only the process ends. What volumes lack they lack from now on; those that had
    /// vanished are there again.
    private func crash() async {
        let isPowerCut = pick(0..<4) > 0
        world.note(isPowerCut ? "power cut" : "killed")
        for file in world.sortedFiles { world.noteReverts(of: file) }
        let disk = isPowerCut ? world.disk.crash(seed: random.next()) : world.disk.outlive()
        await close()
        restore(disk)
    }

    private func close() async {
        guard let service = world.opened else { return }
        _ = await service.close()
        verifiers.insert(service.core.verifier.current)
        world.serve(nil)
    }

    private func restore(_ disk: SimulatedFileSystem) {
        disk.removeFaults()
        disk.removeHooks()
        disk.losePower(afterCalls: .max)
        for path in paths {
            disk.reappear(path + "/")
            disk.setCapacity(nil, under: path + "/")
        }
        world.disk = disk
        trouble.flipBits(isUsed: false)
    }

    private func makeRoots() async throws {
        let root = try await world.service.root().file
        for client in 0..<pick(1..<3) {
            let directory = try await world.service.makeDirectory(
                name("c\(client)"), in: root, attributes: AttributeUpdate(), as: World.user)
            names.append(NameCaller(world: world, rootName: "c\(client)", root: directory.entry.file))
        }
    }

    // MARK: Work

    /// Callers at work, until they have made all their calls, or the power goes.
    private func work() async throws {
        trouble.inject(mayHang: true)
        if pick(0..<3) > 0 { world.disk.losePower(afterCalls: pick(0..<1200)) }
        if pick(0..<8) == 0 { trouble.losePowerInEpoch(within: 4 * paths.count) }
        losesTooMany = pick(0..<12) == 0
        let calls = pick(5..<30)
        let names = names
        let world = world
        var callers: [@Sendable () async -> Void] = names.map { caller in { await caller.run(calls: calls) } }
        if writesData {
            // Little comes into block groups if it is little.
            let maxFileBytes = wanders ? 3000 : 72_000
            for _ in 0..<pick(1..<5) {
                callers.append { await DataCaller(world: world, calls: calls, maxFileBytes: maxFileBytes).run() }
            }
        }
        world.busyCallers = callers.count
        await withTaskGroup(of: Void.self) { group in
            for caller in callers {
                group.addTask {
                    await caller()
                    world.busyCallers -= 1
                }
            }
            group.addTask { await self.keepTime() }
        }
        if let wrong = world.wrong { throw wrong }
    }

    /// Time passes while callers are at work.
    private func keepTime() async {
        await withTaskGroup(of: Void.self) { group in
            // Waits for volumes that hang.
            nonisolated(unsafe) var isLooking = false
            // Seldom and a lot at a time, or often.
            let (steps, milliseconds) = pick(0..<2) == 0 ? (60, 4000) : (10, 100)
            while world.busyCallers > 0 {
                for _ in 0..<pick(steps / 10..<steps) { await yieldToOthers() }
                world.clock.advance(by: .milliseconds(pick(1..<milliseconds)))
                world.service.settleIdleFiles()
                if pick(0..<3) == 0, !isLooking {
                    isLooking = true
                    group.addTask { [world] in
                        await world.service.checkVolumes()
                        isLooking = false
                    }
                }
                if pick(0..<(trouble.isShortOfSpace ? 5 : 40)) == 0 { trouble.changeRoom() }
                if pick(0..<40) == 0, world.hasPower { trouble.flipBits(isUsed: true) }
                if losesTooMany, pick(0..<20) == 0 {
                    losesTooMany = false
                    trouble.loseTooMany(parityUnits: policy.parityUnits)
                }
            }
            trouble.endHangs()
        }
    }

    /// Gives the store time to copy what volumes lack that have failed. When this returns true nothing depends on any m of
    /// them, and nothing else has happened since.
    private func hasBecomeRedundant() async -> Bool {
        for _ in 0..<30 {
            guard world.opened != nil, world.hasPower else { return false }
            if trouble.isRedundant(parityUnits: policy.parityUnits) { return true }
            world.clock.advance(by: .seconds(2))
            world.service.settleIdleFiles()
            await world.service.checkVolumes()
            for _ in 0..<100 { await yieldToOthers() }
        }
        return false
    }

    // MARK: Checks

    /// All that was promised is there; what is there is what there is from now on.
    private func compare() async throws {
        do {
            try await compareAll()
        } catch let error as FileError {
            throw Wrong("after a start: what is there can't be read: \(error)")
        }
    }

    private func compareAll() async throws {
        for caller in names { try await caller.compare() }
        for file in world.sortedFiles {
            var bytes: [UInt8] = []
            var attributes: FileAttributes
            repeat {
                let part = try await world.service.read(
                    file.reference, offset: UInt64(bytes.count), count: 1 << 20, as: World.user)
                attributes = part.attributes
                bytes += part.payload.bytes
                if part.payload.isEmpty { break }
            } while UInt64(bytes.count) < attributes.size
            if UInt64(bytes.count) != attributes.size { throw Wrong("file \(file.number) can't be read to its end") }
            if file.isNew {
                if !bytes.isEmpty { throw Wrong("file \(file.number) is new and has \(bytes.count) bytes") }
            } else {
                let objection =
                    file.objection(toSize: bytes.count, .disks) ?? file.objection(to: bytes, at: 0, .disks)
                    ?? file.objection(toMode: attributes.mode, .disks)
                    ?? file.objection(toTime: attributes.modificationTime, .disks)
                if let objection { throw Wrong("after a start: \(objection)") }
            }
            file.rebase(
                on: bytes, mode: attributes.mode, modificationTime: attributes.modificationTime, at: world.event())
        }
    }

    /// Whatever has befallen it, the store is sound at the end, and holds what it held.
    private func finish() async throws {
        for round in 0..<2 {
            do throws(StoreRefusal) {
                try await open(without: [])
            } catch {
                throw Wrong("the last start was refused: \(error)")
            }
            try await compare()
            try await world.service.core.checkNamespace()
            // A seal that was interrupted on a volume that was away when its group was sealed leaves that behind for good: some
            // bytes that nobody reads.
            var orphans: [String] = []
            for _ in 0..<100 {
                orphans = try await world.service.core.orphans(on: world.disk).filter { !$0.hasSuffix(".meta.new") }
                if orphans.isEmpty { break }
                // What the journal had is being packed: blocks come before the record that names them.
                for _ in 0..<1000 { await yieldToOthers() }
            }
            if !orphans.isEmpty { throw Wrong("nobody's blocks: \(orphans)") }
            let health = await world.service.status()
            if health.health == .red { throw Wrong("health is red: \(health.reasons)") }
            if round == 0 { await close() }
        }
    }
}
