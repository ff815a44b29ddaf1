// Random histories against a model: bodies of all kinds, kept and dropped, while batches are applied, mirrors fail and
// are added, rows are damaged, and the log becomes durable late or never. After a crash the namespace is the model as of
// the last record that the log has, and every answered body is among them.

import FaultInjection
import Glibc
import Model
import Synchronization
import Testing

@testable import Namespace

@Suite("Random histories", .timeLimit(.minutes(10)))
struct ModelTests {
    struct Violation: Error, CustomStringConvertible { let description: String }

    /// Which mirrors a start would believe.
    private final class Recorded: Sendable {
        let volumes: Mutex<[VolumeID]>
        let disk: Mutex<SimulatedFileSystem>
        init(_ volumes: [VolumeID], _ disk: SimulatedFileSystem) {
            self.volumes = Mutex(volumes)
            self.disk = Mutex(disk)
        }
        func record(_ mirrors: [VolumeID]) -> Bool {
            guard disk.withLock({ $0.hasPower }) else { return false }
            volumes.withLock { $0 = mirrors }
            return true
        }
    }

    /// One store's life.
    private final class History {
        var random: SeededGenerator
        var fixture: Fixture
        let recorded: Recorded
        var namespace: Namespace
        var epoch: UInt64 = 1
        var model = NamespaceModel()
        /// After each record that a body has left.
        var models: [(number: LogNumber, model: NamespaceModel)] = []
        /// Bodies with the last record that they saw or made.
        var tasks: [(number: LogNumber, task: Task<Bool, Never>)] = []
        var cookie: UInt64 = 2
        /// Those that a record that isn't lost has taken, with its number.
        var fileIDs: [FileID: LogNumber] = [:]
        var groupIDs: Set<BlockGroupID> = []
        /// A row of it was damaged and perhaps never read.
        var damaged: VolumeID?
        var last = LogNumber(rawValue: 1)

        init(seed: UInt64) throws {
            random = SeededGenerator(seed: seed)
            fixture = try Fixture(mirrors: 3, logForgets: seed % 4 != 0)
            recorded = Recorded(fixture.mirrors.map(\.volume), fixture.disk)
            models = [(LogNumber(rawValue: 1), model)]
            namespace = try Self.open(fixture, recorded, epoch, &random)
        }

        static func open(
            _ fixture: Fixture, _ recorded: Recorded, _ epoch: UInt64, _ random: inout SeededGenerator
        ) throws -> Namespace {
            var bounds = Backlog.Bounds()
            bounds.records = .random(in: 1...40, using: &random)
            bounds.batchRecords = .random(in: 1...30, using: &random)
            bounds.batchBytes = .random(in: 1...20_000, using: &random)
            let volumes = recorded.volumes.withLock { $0 }
            return try fixture.open(
                fixture.mirrors.filter { volumes.contains($0.volume) }, epoch: epoch,
                cacheLimit: [2, 1000].randomElement(using: &random)!, bounds: bounds,
                onMirrorFailure: { _, remaining in recorded.record(remaining) })
        }

        /// A body in its place; doesn't wait for its answer.
        func body() async throws {
            var after = model
            var mutations: [Mutation] = []
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                let more = try after.change(&cookie, &random)
                for mutation in more { after.apply(mutation) }
                mutations += more
            }
            let isKept = Int.random(in: 0..<5, using: &random) > 0
            let takesIDs = Int.random(in: 0..<8, using: &random) == 0
            let seed: UInt64 = random.next()
            struct Outcome {
                var number = LogNumber(rawValue: 0), problem: String?, file: FileID?, group: BlockGroupID?
            }
            let namespace = namespace
            let box = Box<Outcome>()
            let before = model
            let task = Task { [mutations, after] () -> Bool in
                do {
                    try await namespace.perform { transaction throws(TestFailure) in
                        var random = SeededGenerator(seed: seed)
                        var outcome = Outcome()
                        do throws(NamespaceError) {
                            outcome.problem = try before.contradiction(to: &transaction, all: false, &random)
                            for mutation in mutations { try transaction.mutate(mutation) }
                            if outcome.problem == nil {
                                outcome.problem = try after.contradiction(to: &transaction, all: false, &random)
                            }
                            if takesIDs {
                                outcome.file = transaction.newFileID()
                                outcome.group = try transaction.newGroupID()
                            }
                        } catch {
                            if error != .outOfGroupIDs { outcome.problem = "\(error)" }
                        }
                        outcome.number = transaction.state.lastNumber
                        // What takes ids may make a record by that.
                        if isKept, !mutations.isEmpty || takesIDs { outcome.number = outcome.number.next }
                        box.set(outcome)
                        if !isKept { throw .refused }
                    }
                    return true
                } catch {
                    box.setIfNone(Outcome(problem: "not run: \(error)"))
                    return error as? TestFailure == .refused
                }
            }
            while box.value == nil { await Task.yield() }
            guard let outcome = box.value else { return }
            if let problem = outcome.problem { throw Violation(description: problem) }
            if let file = outcome.file, isKept, fileIDs.updateValue(outcome.number, forKey: file) != nil {
                throw Violation(description: "\(file) came twice")
            }
            if let group = outcome.group, !groupIDs.insert(group).inserted {
                throw Violation(description: "\(group) came twice")
            }
            if isKept {
                model = after
                if !mutations.isEmpty { models.append((outcome.number, model)) }
            }
            let seen = takesIDs ? LogNumber(rawValue: outcome.number.rawValue - 1) : outcome.number
            tasks.append((seen, task))
        }

        func disturb() async throws {
            switch Int.random(in: 0..<14, using: &random) {
            case 0: fixture.log.setMode(.held)
            case 1: fixture.log.setMode(.atOnce)
            case 2: fixture.log.setMode(.onThread)
            case 3: fixture.log.makeDurable(.random(in: 0...3, using: &random))
            case 4, 5, 6: try await namespace.applyNow()
            case 7: namespace.tick()
            case 8:
                fixture.disk.removeFaults()
                // One that is whole must be left.
                guard try await wholeMirrors() > 1 else { return }
                let operation = [FileOperation.write, .sync, .read].randomElement(using: &random)!
                fixture.disk.inject(
                    Fault("/v\(Int.random(in: 0..<3, using: &random))/", operation, code: EIO, count: 1))
            case 9:
                fixture.disk.removeFaults()
                let volumes = try await namespace.mirrorVolumes()
                guard let location = fixture.mirrors.first(where: { !volumes.contains($0.volume) }) else { return }
                if location.volume == damaged { damaged = nil }
                try await namespace.addMirror(location) { [recorded] in recorded.record($0) }
            case 10:
                fixture.disk.removeFaults()
                let volumes = try await namespace.mirrorVolumes()
                if try await wholeMirrors() > 1 {
                    try await namespace.dropMirror(on: volumes.randomElement(using: &random)!)
                }
            default: break
            }
        }

        private func wholeMirrors() async throws -> Int {
            try await namespace.mirrorVolumes().count { $0 != damaged }
        }

        /// Loses power, or closes properly, and opens again.
        func restart() async throws {
            let isCrash = Int.random(in: 0..<4, using: &random) > 0
            if isCrash {
                // In the midst of applying, perhaps.
                if Bool.random(using: &random) {
                    fixture.disk.losePower(afterCalls: .random(in: 0...60, using: &random))
                    try? await namespace.applyNow()
                }
                let seed: UInt64 = random.next()
                fixture.crash(seed: seed, keeping: .random(in: 0...5, using: &random))
                await namespace.close()
            } else {
                fixture.log.setMode(.atOnce)
                fixture.disk.removeFaults()
                await namespace.close()
                if fixture.log.forgets, !fixture.log.records.isEmpty {
                    throw Violation(description: "something is left to be applied after closing")
                }
            }
            let last = fixture.log.lastNumber
            for (number, task) in tasks where await task.value && number > last {
                throw Violation(description: "record \(number) was answered, the log ends at \(last)")
            }
            tasks = []
            models.removeAll { $0.number > last }
            fileIDs = fileIDs.filter { $0.value <= last }
            model = models[models.count - 1].model
            models = [(models[models.count - 1].number, model)]
            try damageRow()
            epoch += 1
            recorded.disk.withLock { $0 = fixture.disk }
            namespace = try Self.open(fixture, recorded, epoch, &random)
            try await compare()
        }

        /// Makes a row of one of the mirrors unbelievable.
        private func damageRow() throws {
            let volumes = recorded.volumes.withLock { $0 }
            guard damaged == nil, volumes.count > 1, Bool.random(using: &random),
                let location = fixture.mirrors.filter({ volumes.contains($0.volume) }).randomElement(using: &random)
            else { return }
            let mirror = try Mirror(location, fixture.disk)
            defer { mirror.close() }
            let table = ["inode", "entry", "extent", "block_group"].randomElement(using: &random)!
            try mirror.begin()
            try mirror.connection.execute("UPDATE \(table) SET crc = crc + 1")
            try mirror.connection.execute("COMMIT")
            damaged = location.volume
        }

        func compare() async throws {
            let (model, seed) = (model, random.next() as UInt64)
            let problem = try await namespace.read { transaction throws(NamespaceError) in
                var random = SeededGenerator(seed: seed)
                return try model.contradiction(to: &transaction, all: true, &random)
            }
            if let problem { throw Violation(description: problem) }
        }

        func end() async throws {
            fixture.disk.removeFaults()
            fixture.log.setMode(.atOnce)
            try await compare()
            for (_, task) in tasks { if await !task.value { throw Violation(description: "refused") } }
            let volumes = try await namespace.mirrorVolumes().filter { $0 != damaged }
            try await namespace.applyNow()
            let isForgotten = try await namespace.read { transaction throws(NamespaceError) in
                transaction.state.overlay.isEmpty
            }
            if !isForgotten { throw Violation(description: "what all mirrors have is still in memory") }
            await namespace.close()
            var dumps: [[String]] = []
            for location in fixture.mirrors where volumes.contains(location.volume) {
                guard case .verified(let position) = Namespace.inspect(location, fileSystem: fixture.disk) else {
                    throw Violation(description: "\(location.path) is not whole")
                }
                guard position.logNumber == fixture.log.lastNumber else {
                    throw Violation(description: "\(location.path) is at \(position.logNumber)")
                }
                let mirror = try Mirror(location, fixture.disk)
                defer { mirror.close() }
                dumps.append(try mirror.dump())
            }
            if Set(dumps).count > 1 { throw Violation(description: "the mirrors differ") }
        }
    }

    /// Lets a body, which may outlive its caller's frame, say how it ended.
    private final class Box<Value>: @unchecked Sendable {
        private let lock = PlainLock()
        private var content: Value?
        var value: Value? { lock.withLock { content } }
        func set(_ value: Value) { lock.withLock { content = value } }
        func setIfNone(_ value: Value) { lock.withLock { if content == nil { content = value } } }
    }

    @Test("are the model's, before and after crashes", arguments: 0..<60 as Range<UInt64>)
    func history(seed: UInt64) async throws {
        let history = try History(seed: seed)
        for _ in 0..<history.random.choose(2, 5) {
            for _ in 0..<history.random.choose(5, 50) {
                try await history.body()
                if Bool.random(using: &history.random) { try await history.disturb() }
            }
            try await history.restart()
        }
        try await history.end()
    }
}

extension SeededGenerator {
    fileprivate mutating func choose(_ low: Int, _ high: Int) -> Int { .random(in: low...high, using: &self) }
}
