// The write verifier (RFC 1813 §3.3.7): clients send again what was not committed when it changes, so it
// must change at each start and whenever an acknowledged unstable byte was lost, and never otherwise.
//
// 64 random bits per start: two gateways or two starts agree with a chance of 2^-64, which a boot time in
// seconds can't promise.
//
// It changes once per incident (a disk that takes many files' bytes with it): a change covers all bytes that arrived before
// it, as their WRITEs were answered with the verifier that was. So bytes that are found to be lost later need no other, if
// nothing of their file arrived since; clients of other files don't have to send everything again for each of them.
//
// The sequentially consistent accesses pair with each other: a COMMIT that answers
// after a loss was noted sees the new value.

internal import FileService
internal import Platform
internal import Synchronization

/// Holds the current write verifier.
final class VerifierSource: Sendable {
    private let value: Atomic<UInt64>
    private let changeCount = Atomic<UInt64>(0)
    private let isFinal = Atomic(false)
    /// When it changed last; asked for before it did.
    private let lastChange = Mutex<Duration?>(nil)

    init(using generator: inout some RandomNumberGenerator) {
        value = Atomic(generator.next())
    }

    var current: WriteVerifier {
        WriteVerifier(rawValue: value.load(ordering: .sequentiallyConsistent))
    }

    /// Bytes were lost, the last of which arrived at `arrival`: after the verifier was asked for with which their WRITE is
    /// answered.
    func change(forBytesUntil arrival: Duration, _ clock: SystemClock) {
        lastChange.withLock { last in
            // Arrived before a moment that was before the change: the verifier was the old one.
            if let last, arrival < last { return }
            if isFinal.load(ordering: .sequentiallyConsistent) { return }
            last = clock.elapsed()
            increment()
        }
    }

    /// All bytes that aren't durable are lost, and no other ones are accepted: this change covers every later one.
    func changeForGood() {
        if !isFinal.exchange(true, ordering: .sequentiallyConsistent) { increment() }
    }

    private func increment() {
        value.wrappingAdd(1, ordering: .sequentiallyConsistent)
        changeCount.wrappingAdd(1, ordering: .relaxed)
    }

    var changes: UInt64 { changeCount.load(ordering: .relaxed) }
}
