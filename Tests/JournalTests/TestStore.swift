// A store as the journal sees it: volumes on a simulated disk, superblocks, and what was answered.

import FaultInjection
import Glibc
import Journal
import Model
import Platform
import Synchronization
import Testing

final class TestClock: SystemClock, @unchecked Sendable {
    private let time = Mutex(Duration.zero)
    override func elapsed() -> Duration { time.withLock { $0 } }
    func advance(seconds: Int64) { time.withLock { $0 += .seconds(seconds) } }
}

/// One entry, as it was appended.
struct TestEntry: Hashable {
    struct Part: Hashable {
        let file: UInt64
        let offset: UInt64
        let bytes: [UInt8]
    }
    let record: [UInt8]
    let parts: [Part]

    static func random(_ random: inout SeededGenerator, maxBytes: Int) -> TestEntry {
        let record = random.bytes(Int.random(in: 0...200, using: &random))
        let parts = (0..<max(0, Int.random(in: -2...2, using: &random))).map { _ in
            Part(
                file: UInt64.random(in: 2...5, using: &random), offset: random.next() >> 20,
                bytes: random.bytes(Int.random(in: 1...maxBytes, using: &random)))
        }
        return TestEntry(record: record, parts: parts)
    }

    func entry(_ number: UInt64) -> JournalEntry {
        JournalEntry(
            number: LogNumber(rawValue: number), record: record,
            payloads: parts.map {
                // In two buffers, as they come from a network.
                var bytes = Payload(bytes: $0.bytes.prefix($0.bytes.count / 2))
                bytes.append(Payload(bytes: $0.bytes.dropFirst($0.bytes.count / 2)))
                return JournalPayload(
                    file: FileID(rawValue: $0.file), offset: $0.offset, sequence: WriteSequence(rawValue: number),
                    bytes: bytes)
            })
    }
}

final class TestStore: @unchecked Sendable {
    struct State {
        var generation: JournalGeneration
        var failures: [VolumeID: [IOError]] = [:]
        var unusable: Set<VolumeID> = []
        var beganGenerations = 0
        var refusesGenerations = false
        var pressures = 0
        var journalFailures: [JournalError] = []
        /// By number, all that were appended and may be there.
        var appended: [UInt64: TestEntry] = [:]
        var answered: UInt64 = 0
        var claims: [UInt64: [JournaledBytes]] = [:]
    }

    static let storeID = StoreID(rawValue: UniqueID(high: 1, low: 2))

    var disk: SimulatedFileSystem
    let state: Mutex<State>
    let ids: [VolumeID]
    let replicaCount: Int
    let clock = TestClock()
    var bounds = JournalBounds()
    var journal: IntentJournal?
    var lastAppended: UInt64 = 0
    /// Volumes that are not there at the next start.
    var away: Set<Int> = []
    /// Recovered by the last start.
    var recovered: [UInt64: TestEntry] = [:]
    var keepsClaims = false

    init(volumes: Int = 4, replicas: Int = 2, segmentBytes: Int = 64 << 10) {
        ids = (0..<volumes).map { VolumeID(rawValue: UniqueID(high: 7, low: UInt64($0))) }
        replicaCount = replicas
        disk = SimulatedFileSystem(directories: (0..<volumes).map { "/v\($0)" })
        bounds.segmentBytes = segmentBytes
        bounds.capacityBytes = 16 * segmentBytes
        bounds.minFreeBytes = 0
        state = Mutex(
            State(
                generation: JournalGeneration(
                    epoch: Epoch(rawValue: 1), volumes: [], firstNumber: LogNumber(rawValue: 1))))
    }

    func directory(_ index: Int) -> String { "/v\(index)/journal" }

    var volumes: [JournalVolume] {
        ids.indices.filter { !away.contains($0) }.map { index in
            let id = ids[index]
            return JournalVolume(
                id: id, directory: directory(index),
                isUsable: { [self] in state.withLock { !$0.unusable.contains(id) } },
                onFailure: { [self] error in
                    state.withLock {
                        $0.failures[id, default: []].append(error)
                        $0.unusable.insert(id)
                    }
                })
        }
    }

    var generation: JournalGeneration { state.withLock { $0.generation } }
    var failedVolumes: [Int] { state.withLock { s in ids.indices.filter { s.failures[ids[$0]] != nil } } }

    /// Whether an entry that was answered at some time is still needed.
    var needed: UInt64 = 0

    @discardableResult
    func recover(level: Bool = true) throws -> RecoveredJournal {
        state.withLock {
            $0.unusable = []
            $0.failures = [:]
        }
        var found: [(UInt64, RecoveredEntry)] = []
        let result = try IntentJournal.recover(
            volumes, generation: generation, storeID: Self.storeID, fileSystem: disk
        ) { found.append(($0.number.rawValue, $0)) }
        recovered = [:]
        for (number, entry) in found {
            recovered[number] = TestEntry(
                record: entry.record,
                parts: entry.payloads.map {
                    TestEntry.Part(file: $0.file.rawValue, offset: $0.offset, bytes: [])
                })
        }
        #expect(found.map(\.0) == found.map(\.0).sorted(), "in order")
        if let first = found.first?.0, let last = found.last?.0 {
            #expect(found.count == Int(last - first + 1), "without gaps")
            #expect(result.firstNumber?.rawValue == first)
            #expect(result.lastNumber.rawValue == last)
        }
        if keepsClaims { state.withLock { s in for (number, entry) in found { s.claims[number] = entry.payloads } } }
        if level { try IntentJournal.level(result) }
        return result
    }

    /// Begins the next epoch, as a start does, and goes on.
    func start() throws {
        let result = try recover()
        try go(on: result)
    }

    func go(on result: RecoveredJournal, preferring: [Int]? = nil) throws {
        let volumes = volumes
        let chosen = IntentJournal.chooseReplicas(
            volumes, preferred: preferring?.map { ids[$0] } ?? generation.volumes, avoided: [], count: replicaCount)
        let next = state.withLock { s in
            s.generation = JournalGeneration(
                epoch: s.generation.epoch.next, volumes: chosen, firstNumber: result.lastNumber.next)
            s.appended = s.appended.filter { $0.key <= result.lastNumber.rawValue }
            return s.generation
        }
        lastAppended = result.lastNumber.rawValue
        let disk = disk
        journal = try IntentJournal(
            continuing: result, generation: next, volumes: volumes, replicaCount: replicaCount, storeID: Self.storeID,
            fileSystem: disk, clock: clock, bounds: bounds,
            beginGeneration: { [self] replicas, first in
                state.withLock { s in
                    guard disk.hasPower, !s.refusesGenerations else { return nil }
                    s.beganGenerations += 1
                    s.generation = JournalGeneration(
                        epoch: s.generation.epoch.next, volumes: replicas, firstNumber: first)
                    return s.generation
                }
            },
            onPressure: { [self] in state.withLock { $0.pressures += 1 } },
            onFailure: { [self] error in state.withLock { $0.journalFailures.append(error) } })
    }

    // MARK: Appending

    /// Appends, doesn't wait.
    func post(_ entry: TestEntry, _ completion: @escaping @Sendable (JournalError?) -> Void = { _ in }) {
        lastAppended += 1
        let number = lastAppended
        state.withLock { $0.appended[number] = entry }
        journal!.append(entry.entry(number)) { [self] result in
            switch result {
            case .success(let claims):
                state.withLock { s in
                    if s.answered >= number { Issue.record("\(number) is answered after \(s.answered)") }
                    s.answered = max(s.answered, number)
                    if keepsClaims { s.claims[number] = claims }
                }
                completion(nil)
            case .failure(let error): completion(error)
            }
        }
    }

    @discardableResult
    func append(_ entry: TestEntry) async -> JournalError? {
        await withCheckedContinuation { continuation in post(entry) { continuation.resume(returning: $0) } }
    }

    @discardableResult
    func append(_ text: String, bytes: Int = 0) async -> JournalError? {
        await append(Self.entry(text, bytes: bytes))
    }

    static func entry(_ text: String, bytes: Int = 0) -> TestEntry {
        TestEntry(
            record: Array(text.utf8),
            parts: bytes == 0
                ? [] : [TestEntry.Part(file: 2, offset: 0, bytes: Array(repeating: text.utf8.first ?? 0, count: bytes))]
        )
    }

    func barrier() async -> JournalError? {
        await withCheckedContinuation { continuation in
            journal!.barrier { continuation.resume(returning: $0) }
        }
    }

    func close() async {
        state.withLock { $0.claims = [:] }
        await journal?.close()
        journal = nil
    }

    /// The machine goes down and comes up again; the journal is not started.
    func crash(seed: UInt64 = 0) async {
        let next = disk.crash(seed: seed)
        await close()
        disk = next
    }

    /// All that was answered is there, and nothing that was never appended.
    func checkRecovered(from first: UInt64 = 1, _ note: String = "") {
        let (appended, answered) = state.withLock { ($0.appended, $0.answered) }
        if answered >= first {
            for number in first...answered where recovered[number] == nil {
                Issue.record("\(note): \(number), which was answered, is gone")
                return
            }
        }
        for (number, entry) in recovered {
            let expected = appended[number]
            if entry.record != expected?.record
                || entry.parts.map(\.file) != expected?.parts.map(\.file)
                || entry.parts.map(\.offset) != expected?.parts.map(\.offset)
            {
                Issue.record("\(note): \(number) is not what was appended")
                return
            }
        }
    }

    /// All bytes that are claimed are what was appended.
    func checkClaims(_ note: String = "") async throws {
        let (claims, appended) = state.withLock { ($0.claims, $0.appended) }
        for (number, parts) in claims {
            for (index, part) in parts.enumerated() {
                let bytes = try await part.load().bytes
                if bytes != appended[number]?.parts[index].bytes { Issue.record("\(note): bytes of \(number)") }
            }
        }
    }

    /// Until the next segment's slots are made, so that nothing but groups is written.
    func waitForSpares() async throws {
        let names = generation.volumes.compactMap(ids.firstIndex).map(directory)
        try await eventually("spare slots") {
            try names.allSatisfy { try disk.list($0).filter { $0.hasSuffix(".segment") }.count >= 2 }
        }
    }

    var segmentFiles: [String] {
        get throws {
            try ids.indices.flatMap { index in
                try disk.status(directory(index)) == nil
                    ? [] : disk.list(directory(index)).sorted().map { directory(index) + "/" + $0 }
            }
        }
    }
}

/// Lets other threads work until something is so, which it must be within a time: long, as all tests run at once.
func eventually(_ text: String, _ condition: () throws -> Bool) async throws {
    let clock = ContinuousClock()
    let end = clock.now + .seconds(300)
    while try !condition() {
        guard clock.now < end else {
            Issue.record("never: \(text)")
            return
        }
        await Task.yield()
    }
}
