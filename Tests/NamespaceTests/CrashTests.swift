// Power cuts at any call of the mirrors' disks, while batches are applied at any time: what was answered is there, what
// was not is there as a whole or not at all, whatever the log kept of it. And the same on a lying disk, to see that
// these tests can fail.

import FaultInjection
import Model
import Synchronization
import Testing

@testable import Namespace

@Suite("After a power cut")
struct CrashTests {
    private struct Violation: Error, CustomStringConvertible { let description: String }

    /// What is known of the operations when the power goes.
    private final class History: Sendable {
        struct Content {
            var answered: [String: FileID] = [:]
            var answeredRemovals: Set<String> = []
            var begun: Set<String> = []
        }
        let content = Mutex(Content())
    }

    /// Runs operations from several tasks until the power goes, crashes, reopens on any mirror, and compares.
    private func run(seed: UInt64, isLying: Bool) async throws {
        var random = SeededGenerator(seed: seed)
        var fixture = try Fixture()
        fixture.disk.ignoresSync = isLying
        let disk = fixture.disk
        // Going on with fewer mirrors must be written down durably; without power it can't be.
        let namespace = try fixture.open(onMirrorFailure: { _, remaining in disk.hasPower && !remaining.isEmpty })
        fixture.log.setMode(.onThread)
        let appliesEvery = Int.random(in: 1...8, using: &random)
        let entries = Int.random(in: 0...200, using: &random)
        fixture.log.fail(afterEntries: entries)
        let history = History()
        let calls = Int.random(in: 0...400, using: &random)
        fixture.disk.losePower(afterCalls: calls)
        await withTaskGroup { group in
            for worker in 0..<4 {
                group.addTask {
                    for step in 0..<40 {
                        let text = "\(worker)-\(step)"
                        history.content.withLock { _ = $0.begun.insert(text) }
                        guard let id = try? await namespace.create(Fixture.name(text), size: UInt64(step)) else {
                            return
                        }
                        history.content.withLock { $0.answered[text] = id }
                        if step % appliesEvery == 0 { try? await namespace.applyNow() }
                        guard step % 3 == 2 else { continue }
                        let old = "\(worker)-\(step - 1)"
                        history.content.withLock { _ = $0.begun.insert("-" + old) }
                        guard (try? await namespace.remove(Fixture.name(old))) != nil else { return }
                        history.content.withLock { _ = $0.answeredRemovals.insert(old) }
                    }
                }
            }
        }
        fixture.crash(seed: seed, keeping: Int.random(in: 0...3, using: &random))
        await namespace.close()
        let content = history.content.withLock { $0 }

        // Each mirror is whole by itself, and with what the log kept has all that was answered.
        for index in 0..<2 {
            guard case .verified = fixture.inspect(index) else {
                throw Violation(description: "mirror \(index) is \(fixture.inspect(index))")
            }
            let log = fixture.log.copy()
            try await compare(try fixture.open([fixture.mirrors[index]], log: log, epoch: 2), content, at: index)
        }
        guard case .verified(let first) = fixture.inspect(0), fixture.inspect(0) == fixture.inspect(1) else {
            throw Violation(description: "the mirrors differ: \(fixture.inspect(0)), \(fixture.inspect(1))")
        }
        fixture.log = SimulatedLog(after: first.logNumber)
        try await compare(try fixture.open(epoch: 3), content, at: 2)
        guard fixture.inspect(0) == fixture.inspect(1) else {
            throw Violation(description: "the mirrors differ after both were opened")
        }
    }

    private func compare(_ namespace: Namespace, _ history: History.Content, at stage: Int) async throws {
        let (entries, inodes, root, counts) = try await namespace.perform { transaction throws(NamespaceError) in
            let entries = try transaction.entries(.root, after: 0, limit: .max)
            var inodes: [FileID: Inode] = [:]
            for entry in entries { inodes[entry.child] = try transaction.inode(entry.child) }
            return (entries, inodes, try transaction.inode(.root), transaction.counts)
        }
        await namespace.close()
        let found = Dictionary(uniqueKeysWithValues: entries.map { ($0.name.description, $0.child) })
        for (name, id) in history.answered where !history.begun.contains("-" + name) {
            guard found[name] == id else { throw Violation(description: "\(name) was answered and is lost (\(stage))") }
        }
        for name in history.answeredRemovals where found[name] != nil {
            throw Violation(description: "\(name) was removed and is there (\(stage))")
        }
        for (name, id) in found {
            guard history.begun.contains(name) else { throw Violation(description: "\(name) was never made") }
            guard let inode = inodes[id], name.hasSuffix("-\(inode.size)") else {
                throw Violation(description: "\(name) is there by half (\(stage))")
            }
        }
        guard root?.entryCount == UInt64(found.count), counts.files == UInt64(found.count) else {
            throw Violation(description: "the counters don't match the entries (\(stage))")
        }
    }

    @Test("what was answered is there, the rest as a whole or not at all", arguments: 0..<150 as Range<UInt64>)
    func crash(seed: UInt64) async throws {
        try await run(seed: seed, isLying: false)
    }

    @Test("this test fails on a disk that ignores syncs")
    func lyingDisk() async throws {
        var failures = 0
        for seed in 0..<20 as Range<UInt64> {
            do { try await run(seed: seed, isLying: true) } catch { failures += 1 }
        }
        // Only a cut before the first answer can lose nothing.
        #expect(failures > 10)
    }
}
