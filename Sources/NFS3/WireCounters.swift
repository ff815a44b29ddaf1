// How often each procedure was called and how calls ended. Counted with relaxed atomics: a snapshot may
// show a call whose outcome isn't counted yet, never the reverse of a count.

internal import Synchronization

/// Counters of the NFS and MOUNT programs. Thread-safe.
public final class WireCounters: Sendable {
    /// The counters at one moment; entries that are 0 are left out.
    public struct Snapshot: Equatable, Sendable {
        public var calls: [NFSProcedure: UInt64] = [:]
        public var mountCalls: [MountProcedure: UInt64] = [:]
        /// Replies of NFS that weren't NFS3_OK.
        public var errors: [NFSStatus: UInt64] = [:]
        /// Replies of MNT that weren't MNT3_OK.
        public var mountErrors: [MountStatus: UInt64] = [:]
        /// Calls of either program whose arguments could not be decoded.
        public var garbageArguments: UInt64 = 0
    }

    private let calls = CounterTable<NFSProcedure>()
    private let mountCalls = CounterTable<MountProcedure>()
    private let errors = CounterTable<NFSStatus>()
    private let mountErrors = CounterTable<MountStatus>()
    private let garbageArguments = Atomic<UInt64>(0)

    init() {}

    public func snapshot() -> Snapshot {
        Snapshot(
            calls: calls.snapshot(), mountCalls: mountCalls.snapshot(), errors: errors.snapshot(),
            mountErrors: mountErrors.snapshot(), garbageArguments: garbageArguments.load(ordering: .relaxed))
    }

    func count(_ procedure: NFSProcedure) { calls.increment(procedure) }
    func count(_ procedure: MountProcedure) { mountCalls.increment(procedure) }
    func count(_ error: NFSStatus) { errors.increment(error) }
    func count(_ error: MountStatus) { mountErrors.increment(error) }
    func countGarbageArguments() { garbageArguments.add(1, ordering: .relaxed) }
}

/// A counter for each case of an enumeration.
private final class CounterTable<Key: CaseIterable & Hashable & Sendable>: Sendable {
    private final class Counter: Sendable {
        let value = Atomic<UInt64>(0)
    }

    private let counters: [Key: Counter]

    init() {
        counters = Dictionary(uniqueKeysWithValues: Key.allCases.map { ($0, Counter()) })
    }

    func increment(_ key: Key) {
        guard let counter = counters[key] else { preconditionFailure("\(key) is not one of all cases") }
        counter.value.add(1, ordering: .relaxed)
    }

    func snapshot() -> [Key: UInt64] {
        counters.mapValues { $0.value.load(ordering: .relaxed) }.filter { $0.value > 0 }
    }
}
