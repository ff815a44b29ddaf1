// Many callers at once, while batches are applied, mirrors fail and others are added.

import FaultInjection
import Glibc
import Model
import Synchronization
import Testing

@testable import Namespace

@Suite("A storm over the namespace", .timeLimit(.minutes(10)))
struct StormTests {
    @Test("each caller finds what it did, and the mirrors are equal in the end", arguments: 0..<12 as Range<UInt64>)
    func storm(seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let fixture = try Fixture(mirrors: 4)
        var bounds = Backlog.Bounds()
        bounds.records = .random(in: 1...20, using: &random)
        bounds.batchRecords = .random(in: 1...50, using: &random)
        bounds.waitingRecords = .random(in: 5...200, using: &random)
        let told = Mutex<[VolumeID]>([])
        let failures = Mutex(0)
        let namespace = try fixture.open(
            Array(fixture.mirrors[..<3]), cacheLimit: 8, bounds: bounds,
            onMirrorFailure: { _, remaining in
                told.withLock { $0 = remaining }
                return true
            }, onFailure: { _ in failures.withLock { $0 += 1 } })
        fixture.log.setMode(.onThread)
        let isDone = Flag()
        let disturbing = Task { [random] in
            var random = random
            while !isDone.isSet {
                switch Int.random(in: 0..<5, using: &random) {
                case 0: namespace.tick()
                case 1: try await namespace.applyNow()
                case 2:
                    fixture.disk.removeFaults()
                    guard try await namespace.mirrorVolumes().count == 3 else { break }
                    let operation = [FileOperation.write, .sync, .read].randomElement(using: &random)!
                    fixture.disk.inject(
                        Fault("/v\(Int.random(in: 0..<4, using: &random))/", operation, code: EIO, count: 1))
                case 3:
                    fixture.disk.removeFaults()
                    let volumes = try await namespace.mirrorVolumes()
                    guard volumes.count < 3,
                        let location = fixture.mirrors.first(where: { !volumes.contains($0.volume) })
                    else { break }
                    try await namespace.addMirror(location) { mirrors in
                        told.withLock { $0 = mirrors }
                        return true
                    }
                default: _ = namespace.glance(at: .root)
                }
                await Task.yield()
            }
        }
        let seeds: [UInt64] = (0..<8).map { _ in random.next() }
        let found = try await withThrowingTaskGroup(of: Set<String>.self) { group in
            for (worker, seed) in seeds.enumerated() {
                group.addTask { try await Self.work(worker, seed, namespace) }
            }
            return try await group.reduce(into: Set<String>()) { $0.formUnion($1) }
        }
        isDone.set()
        try await disturbing.value
        fixture.disk.removeFaults()
        #expect(try await Set(namespace.names()) == found)
        let volumes = try await namespace.mirrorVolumes()
        if !told.withLock({ $0.isEmpty }) { #expect(told.withLock { $0 } == volumes) }
        await namespace.close()
        #expect(failures.withLock { $0 } == 0)
        #expect(fixture.log.records.isEmpty)
        let dumps = try fixture.mirrors.filter { volumes.contains($0.volume) }.map { location in
            let mirror = try Mirror(location, fixture.disk)
            defer { mirror.close() }
            try mirror.verify()
            return try mirror.dump()
        }
        #expect(Set(dumps).count == 1)
    }

    /// Makes and removes names of its own, and returns those that are left.
    private static func work(_ worker: Int, _ seed: UInt64, _ namespace: Namespace) async throws -> Set<String> {
        var random = SeededGenerator(seed: seed)
        var own: [String: FileID] = [:]
        for step in 0..<60 {
            let text = "\(worker)-\(Int.random(in: 0..<20, using: &random))"
            let name = Fixture.name(text)
            let old = own[text]
            let found = try await namespace.child(name)
            guard found == old else {
                Issue.record("step \(step): \(text) is \(String(describing: found)), not \(String(describing: old))")
                break
            }
            if old != nil {
                try await namespace.remove(name)
                own[text] = nil
            } else {
                own[text] = try await namespace.create(name)
            }
            guard step % 10 == 0 else { continue }
            let mine = try await namespace.names().filter { $0.hasPrefix("\(worker)-") }
            #expect(Set(mine) == Set(own.keys) && mine.count == own.count)
        }
        return Set(own.keys)
    }
}
