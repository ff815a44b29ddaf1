// Mirrors that hang.

import FaultInjection
import Model
import Platform
import Synchronization
import Testing

@testable import Namespace

extension MirrorFaultTests {
    private final class TestClock: SystemClock, @unchecked Sendable {
        private let time = Mutex(Duration.zero)
        override func elapsed() -> Duration { time.withLock { $0 } }
        func advance(seconds: Int64) { time.withLock { $0 += .seconds(seconds) } }
    }

    @Test("one that hangs for too long is given up, and the others go on without it", arguments: [0, 1, 2])
    func hanging(index: Int) async throws {
        let fixture = try Fixture(mirrors: 3)
        let volumes = fixture.mirrors.map(\.volume)
        let reports = Reports()
        let clock = TestClock()
        let namespace = try fixture.open(
            fixture.mirrors, clock: clock, onMirrorFailure: reports.fail, onFailure: { _ in reports.end() })
        try await namespace.create(Fixture.name("a"))
        try await namespace.applyNow()
        try await namespace.create(Fixture.name("b"))
        let gate = Gate()
        fixture.disk.before(.sync, under: "/v\(index)/") { gate.pass() }
        let applied = fixture.log.appliedNumber
        let applying = Task { try await namespace.applyNow() }
        await gate.waitForArrival()
        clock.advance(seconds: 60)
        for _ in 0..<100 {
            namespace.tick()
            await Task.yield()
        }
        // The log keeps what it lacks.
        #expect(reports.failed.isEmpty && fixture.log.appliedNumber == applied)
        clock.advance(seconds: 1)
        let hasApplied = Flag()
        let waiting = Task {
            try await applying.value
            hasApplied.set()
        }
        while !hasApplied.isSet {
            namespace.tick()
            await Task.yield()
        }
        try await waiting.value
        #expect(reports.failed == [volumes[index]] && reports.ends == 0)
        #expect(fixture.log.appliedNumber == fixture.log.lastNumber)
        // Also while it hangs on.
        try await namespace.create(Fixture.name("c"))
        try await namespace.applyNow()
        #expect(fixture.log.appliedNumber == fixture.log.lastNumber)
        let open = fixture.disk.openFileCount
        gate.open()
        while fixture.disk.openFileCount == open { await Task.yield() }
        await namespace.close()
        while fixture.disk.openFileCount > 0 { await Task.yield() }
        let again = try fixture.open(fixture.mirrors.filter { $0.volume != volumes[index] }, epoch: 2)
        #expect(try await again.names() == ["a", "b", "c"])
        await again.close()
    }
}
