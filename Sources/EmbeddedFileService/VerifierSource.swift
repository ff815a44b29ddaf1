// The write verifier (RFC 1813 §3.3.7): clients send again what was not committed when it changes, so it
// must change at each start and whenever an acknowledged unstable byte was lost, and never otherwise.
//
// 64 random bits per start: two gateways or two starts agree with a chance of 2^-64, which a boot time in
// seconds can't promise. The sequentially consistent accesses pair with each other: a COMMIT that answers
// after a loss was noted sees the new value.

internal import FileService
internal import Synchronization

/// Holds the current write verifier.
final class VerifierSource: Sendable {
    private let value: Atomic<UInt64>
    private let changeCount = Atomic<UInt64>(0)
    private let isFinal = Atomic(false)

    init(using generator: inout some RandomNumberGenerator) {
        value = Atomic(generator.next())
    }

    var current: WriteVerifier {
        WriteVerifier(rawValue: value.load(ordering: .sequentiallyConsistent))
    }

    /// Bytes were lost.
    func change() {
        if !isFinal.load(ordering: .sequentiallyConsistent) { increment() }
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
