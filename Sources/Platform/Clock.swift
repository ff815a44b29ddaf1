// Time as a parameter, so that tests decide what time it is.

internal import Glibc
public import Model

/// The machine's clocks; tests override both methods.
open class SystemClock: @unchecked Sendable {
    public init() {}

    /// Wall-clock time, for the times of files.
    open func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(seconds: Int64(time.tv_sec), nanoseconds: UInt32(time.tv_nsec))
    }

    /// Monotonic time since some fixed moment, for timeouts.
    open func elapsed() -> Duration {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}
