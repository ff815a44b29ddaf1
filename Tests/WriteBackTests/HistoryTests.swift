// Thousands of random histories of one file against the model of `HistoryModel`.
//
//   SLUICE_HISTORIES=100000   so many, instead of what is quick
//   SLUICE_HISTORY=4711       only this one, step by step

import CLinux
import FaultInjection
import Glibc
import Testing

@Suite("Histories", .timeLimit(.minutes(600)))
struct HistoryTests {
    private static func number(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }

    private static let threadCount: UInt64 = 4

    private final class Findings: @unchecked Sendable {
        private let lock = PlainLock()
        private var texts: [String] = []
        func add(_ text: String) { lock.withLock { texts.append(text) } }
        var all: [String] { lock.withLock { texts } }
    }

    @Test("random histories with drains and dumps that fail are those of a plain array of bytes")
    func histories() async {
        let findings = Findings()
        let one = Self.number("SLUICE_HISTORY")
        let count = Self.number("SLUICE_HISTORIES") ?? 6000
        await withTaskGroup(of: Void.self) { tasks in
            for index in 0..<(one == nil ? Self.threadCount : 1) {
                let seeds =
                    one.map { $0..<$0 + 1 } ?? count * index / Self.threadCount..<count * (index + 1) / Self.threadCount
                tasks.addTask { await Self.run(seeds, isTold: one != nil, findings) }
            }
        }
        for finding in findings.all { Issue.record("\(finding)") }
    }

    private static func run(_ seeds: Range<UInt64>, isTold: Bool, _ findings: Findings) async {
        await withCheckedContinuation { continuation in
            let thread = ThreadGroup()
            thread.start {
                ThreadExecutor.run {
                    for seed in seeds where findings.all.count < 10 {
                        // So that the report of a crash says it.
                        pthread_setname_np(pthread_self(), "seed \(seed)")
                        do throws(HistoryFailure) {
                            try await History(seed: seed, isTold: isTold).run()
                        } catch {
                            findings.add("SLUICE_HISTORY=\(seed): \(error.text)")
                        }
                    }
                }
                continuation.resume()
            }
        }
    }
}
