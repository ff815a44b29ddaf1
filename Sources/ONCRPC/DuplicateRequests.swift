// The duplicate request cache of a server, shared by its connections on all event loops.
//
// Lock order: `cache` is taken alone, for a few dictionary operations; checksums are made before. One lock
// serves all: it is taken twice per call that changes something, READ and GETATTR don't touch it.

internal import ErasureCoding
internal import NIOCore
internal import Synchronization

/// Recognises calls that were sent again. May be used from any thread.
final class DuplicateRequests: Sendable {
    private let cache: Mutex<DuplicateRequestCache>

    private static var seconds: Int { Int(NIODeadline.now().uptimeNanoseconds / 1_000_000_000) }

    init(_ bounds: DuplicateRequestBounds) { cache = Mutex(DuplicateRequestCache(bounds)) }

    func begin(_ key: DuplicateRequestCache.Key, on connection: ConnectionNumber) -> DuplicateRequestCache.Verdict {
        cache.withLock { $0.begin(key, on: connection, atSeconds: Self.seconds) }
    }

    func end(_ key: DuplicateRequestCache.Key, reply: RPCReplyBody?) -> ConnectionNumber {
        cache.withLock { $0.end(key, reply: reply, atSeconds: Self.seconds) }
    }

    func addCounters(to counters: inout RPCCounters) {
        (counters.duplicateRequestEntries, counters.duplicateRequestEvictions) = cache.withLock {
            ($0.count, $0.evictions)
        }
    }
}

extension DuplicateRequestCache.Key {
    /// Reads all arguments: 1 MiB took 45 µs (CRC32C by ISA-L).
    init(_ call: RPCCall, from client: ClientAddress) {
        self.init(
            client: client, xid: call.xid, program: call.program, version: call.version, procedure: call.procedure,
            argumentsCount: call.argumentsCount, argumentsChecksum: call.argumentsChecksum)
    }
}

extension RPCCall {
    /// CRC32C of the arguments, payload included.
    fileprivate var argumentsChecksum: UInt32 {
        var checksum = CRC32C()
        forEachArgumentsPiece { checksum.update($0) }
        return checksum.value
    }
}
