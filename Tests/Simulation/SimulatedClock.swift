// Time as the simulation has it: it passes when a history says so, and a little with every look at it.

import Model
import Platform

final class SimulatedClock: SystemClock, @unchecked Sendable {
    private var passed = Duration.zero

    /// Looks, and no time passes by it.
    var time: Duration { passed }

    override func now() -> Timestamp {
        passed += .microseconds(1)
        let (seconds, attoseconds) = passed.components
        return Timestamp(seconds: 1_000_000 + seconds, nanoseconds: UInt32(attoseconds / 1_000_000_000))
    }

    override func elapsed() -> Duration {
        passed += .microseconds(1)
        return passed
    }

    func advance(by duration: Duration) { passed += duration }
}
