// The cache as a state machine: verdicts, bounds, and a comparison with a simple model.

import FaultInjection
import NIOCore
import Platform
import Testing

@testable import ONCRPC

@Suite("duplicate request cache")
struct DuplicateRequestCacheTests {
    private static func key(_ xid: Int, client: UInt8 = 1) -> DuplicateRequestCache.Key {
        guard let address = try? SocketAddress(ipAddress: "10.0.0.\(client)", port: Int(xid & 0xfff)),
            let client = ClientAddress(address)
        else { preconditionFailure("a bad address") }
        return DuplicateRequestCache.Key(
            client: client, xid: UInt32(xid), program: 100_003, version: 3, procedure: 7, argumentsCount: 100,
            argumentsChecksum: 5)
    }

    private static func body(_ value: Int) -> RPCReplyBody { RPCReplyBody(ByteBuffer(bytes: words(UInt32(value)))) }

    private static func connection(_ number: UInt64) -> ConnectionNumber { ConnectionNumber(rawValue: number) }

    /// A verdict in a form that can be compared.
    private static func text(_ verdict: DuplicateRequestCache.Verdict) -> String {
        switch verdict {
        case .start: "start"
        case .drop: "drop"
        case .await(let gaveUp): "await, gave up \(gaveUp.rawValue)"
        case .replay(let body, let gaveUp):
            "replay \(body.header.getInteger(at: 0, as: UInt32.self) ?? 0), gave up \(gaveUp?.rawValue ?? 0)"
        case .leftOver: "left over"
        }
    }

    @Test("a copy of a call in progress is dropped on its connection and taken over by a younger one")
    func inProgress() {
        var cache = DuplicateRequestCache(DuplicateRequestBounds())
        let key = Self.key(1)
        #expect(Self.text(cache.begin(key, on: Self.connection(2), atSeconds: 0)) == "start")
        #expect(Self.text(cache.begin(key, on: Self.connection(2), atSeconds: 0)) == "drop")
        #expect(Self.text(cache.begin(key, on: Self.connection(3), atSeconds: 0)) == "await, gave up 2")
        #expect(Self.text(cache.begin(key, on: Self.connection(2), atSeconds: 0)) == "left over")
        #expect(Self.text(cache.begin(key, on: Self.connection(5), atSeconds: 0)) == "await, gave up 3")
        #expect(cache.end(key, reply: Self.body(7), atSeconds: 0) == Self.connection(5))
    }

    @Test("a copy of a finished call gets its reply; one that an older connection still held gets none")
    func finished() {
        var cache = DuplicateRequestCache(DuplicateRequestBounds())
        let key = Self.key(1)
        _ = cache.begin(key, on: Self.connection(2), atSeconds: 0)
        #expect(cache.end(key, reply: Self.body(7), atSeconds: 0) == Self.connection(2))
        #expect(Self.text(cache.begin(key, on: Self.connection(2), atSeconds: 0)) == "replay 7, gave up 0")
        #expect(Self.text(cache.begin(key, on: Self.connection(1), atSeconds: 0)) == "left over")
        #expect(Self.text(cache.begin(key, on: Self.connection(4), atSeconds: 0)) == "replay 7, gave up 2")
        #expect(Self.text(cache.begin(key, on: Self.connection(2), atSeconds: 0)) == "left over")
    }

    @Test("a call whose reply is not kept is carried out again")
    func notKept() {
        var cache = DuplicateRequestCache(DuplicateRequestBounds())
        let key = Self.key(1)
        _ = cache.begin(key, on: Self.connection(1), atSeconds: 0)
        #expect(cache.end(key, reply: nil, atSeconds: 0) == Self.connection(1))
        #expect(cache.count == 0)
        #expect(cache.finishedBytes == 0)
        #expect(Self.text(cache.begin(key, on: Self.connection(1), atSeconds: 0)) == "start")
    }

    @Test("what differs in anything of the key but the port is another call")
    func keys() {
        let first = Self.key(1)
        var cache = DuplicateRequestCache(DuplicateRequestBounds())
        _ = cache.begin(first, on: Self.connection(1), atSeconds: 0)
        typealias Key = DuplicateRequestCache.Key
        let others = [
            Self.key(1, client: 2), Self.key(2),
            Key(
                client: first.client, xid: 1, program: 9, version: 3, procedure: 7, argumentsCount: 100,
                argumentsChecksum: 5),
            Key(
                client: first.client, xid: 1, program: 100_003, version: 4, procedure: 7, argumentsCount: 100,
                argumentsChecksum: 5),
            Key(
                client: first.client, xid: 1, program: 100_003, version: 3, procedure: 8, argumentsCount: 100,
                argumentsChecksum: 5),
            Key(
                client: first.client, xid: 1, program: 100_003, version: 3, procedure: 7, argumentsCount: 99,
                argumentsChecksum: 5),
            Key(
                client: first.client, xid: 1, program: 100_003, version: 3, procedure: 7, argumentsCount: 100,
                argumentsChecksum: 6),
        ]
        for other in others { #expect(Self.text(cache.begin(other, on: Self.connection(1), atSeconds: 0)) == "start") }
    }

    @Test("addresses: the port doesn't count, families do, and a mapped IPv4 address is that address")
    func addresses() throws {
        func client(_ address: String, _ port: Int) throws -> ClientAddress? {
            ClientAddress(try SocketAddress(ipAddress: address, port: port))
        }
        #expect(try client("10.1.2.3", 1) == client("10.1.2.3", 2))
        #expect(try client("10.1.2.3", 1) == client("::ffff:10.1.2.3", 1))
        #expect(try client("10.1.2.3", 1) != client("10.1.2.4", 1))
        #expect(try client("fe80::1", 1) != client("fe80::2", 1))
        #expect(try client("fe80::1", 1) != client("fe81::1", 1))
        #expect(ClientAddress(try SocketAddress(unixDomainSocketPath: "/x")) == nil)
    }

    @Test("a client that does much forgets its own calls, not another's")
    func share() {
        var bounds = DuplicateRequestBounds()
        bounds.maxEntriesPerClient = 10
        bounds.maxEntries = 100
        var cache = DuplicateRequestCache(bounds)
        let quiet = Self.key(1, client: 2)
        _ = cache.begin(quiet, on: Self.connection(1), atSeconds: 0)
        _ = cache.end(quiet, reply: Self.body(99), atSeconds: 0)
        for xid in 0..<1000 {
            _ = cache.begin(Self.key(xid), on: Self.connection(2), atSeconds: 0)
            _ = cache.end(Self.key(xid), reply: Self.body(xid), atSeconds: 0)
        }
        #expect(cache.count == 11)
        #expect(cache.evictions == 990)
        #expect(Self.text(cache.begin(quiet, on: Self.connection(1), atSeconds: 0)) == "replay 99, gave up 0")
        #expect(Self.text(cache.begin(Self.key(990), on: Self.connection(2), atSeconds: 0)) == "replay 990, gave up 0")
        #expect(Self.text(cache.begin(Self.key(989), on: Self.connection(2), atSeconds: 0)) == "start")
    }

    @Test("a flood by other clients, each within its share, pushes out their calls and not those of who has fewer")
    func flood() {
        var bounds = DuplicateRequestBounds()
        bounds.maxEntriesPerClient = 40
        bounds.maxEntries = 100
        var cache = DuplicateRequestCache(bounds)
        func call(_ xid: Int, client: UInt8) {
            _ = cache.begin(Self.key(xid, client: client), on: Self.connection(1), atSeconds: 0)
            _ = cache.end(Self.key(xid, client: client), reply: Self.body(xid), atSeconds: 0)
        }
        // With the five below a sixth is 16.
        for xid in 0..<16 { call(xid, client: 1) }
        for xid in 0..<10_000 { call(xid, client: UInt8(2 + xid % 5)) }
        #expect(cache.finished == 100)
        for xid in 0..<16 {
            let verdict = cache.begin(Self.key(xid, client: 1), on: Self.connection(1), atSeconds: 0)
            #expect(Self.text(verdict) == "replay \(xid), gave up 0")
        }
    }

    @Test("calls in progress, however many, push out no finished ones")
    func inProgressPushesOutNothing() {
        var bounds = DuplicateRequestBounds()
        bounds.maxEntries = 4
        var cache = DuplicateRequestCache(bounds)
        for xid in 0..<4 {
            _ = cache.begin(Self.key(xid), on: Self.connection(1), atSeconds: 0)
            _ = cache.end(Self.key(xid), reply: Self.body(xid), atSeconds: 0)
        }
        for xid in 0..<100 { _ = cache.begin(Self.key(xid, client: 2), on: Self.connection(2), atSeconds: 0) }
        // Refused.
        for xid in 0..<100 { _ = cache.end(Self.key(xid, client: 2), reply: nil, atSeconds: 0) }
        #expect(cache.evictions == 0)
        #expect(cache.count == 4)
    }

    @Test("replies are charged with their buffers, and bytes are bounded")
    func bytes() {
        var bounds = DuplicateRequestBounds()
        bounds.maxBytes = 100_000
        var cache = DuplicateRequestCache(bounds)
        for xid in 0..<500 {
            let client = UInt8(xid % 50)
            _ = cache.begin(Self.key(xid, client: client), on: Self.connection(1), atSeconds: 0)
            _ = cache.end(
                Self.key(xid, client: client), reply: RPCReplyBody(ByteBuffer(repeating: 0, count: 4096)), atSeconds: 0)
            #expect(cache.finishedBytes <= 100_000)
        }
        #expect(cache.count == 100_000 / (4096 + DuplicateRequestCache.entryBytes))
    }

    @Test("what has finished long ago is forgotten: a program whose xids begin anew isn't given old replies")
    func age() {
        var bounds = DuplicateRequestBounds()
        bounds.maxAgeSeconds = 600
        var cache = DuplicateRequestCache(bounds)
        let (running, old) = (Self.key(0), Self.key(1))
        _ = cache.begin(running, on: Self.connection(1), atSeconds: 0)
        for xid in 1...100 {
            _ = cache.begin(Self.key(xid), on: Self.connection(1), atSeconds: 0)
            _ = cache.end(Self.key(xid), reply: Self.body(xid), atSeconds: xid)
        }
        #expect(Self.text(cache.begin(old, on: Self.connection(2), atSeconds: 600)) == "replay 1, gave up 1")
        #expect(Self.text(cache.begin(old, on: Self.connection(3), atSeconds: 601)) == "start")
        // However many older ones are still there.
        #expect(Self.text(cache.begin(Self.key(90), on: Self.connection(2), atSeconds: 690)) == "start")
        #expect(Self.text(cache.begin(Self.key(91), on: Self.connection(1), atSeconds: 690)) == "replay 91, gave up 0")
        #expect(cache.evictions == 90)
        // In progress: never too old.
        #expect(Self.text(cache.begin(running, on: Self.connection(1), atSeconds: 10_000)) == "drop")
        #expect(cache.end(running, reply: Self.body(7), atSeconds: 10_000) == Self.connection(1))
        #expect(Self.text(cache.begin(running, on: Self.connection(1), atSeconds: 10_599)) == "replay 7, gave up 0")
    }

    @Test("calls in progress are never forgotten, whatever the bounds")
    func inProgressStays() {
        var bounds = DuplicateRequestBounds()
        bounds.maxEntries = 4
        bounds.maxEntriesPerClient = 2
        var cache = DuplicateRequestCache(bounds)
        for xid in 0..<20 { _ = cache.begin(Self.key(xid), on: Self.connection(1), atSeconds: 0) }
        for xid in 0..<20 {
            #expect(Self.text(cache.begin(Self.key(xid), on: Self.connection(1), atSeconds: 0)) == "drop")
        }
        for xid in 0..<20 {
            #expect(cache.end(Self.key(xid), reply: Self.body(xid), atSeconds: 0) == Self.connection(1))
        }
        #expect(cache.count == 2)
    }

    @Test("the key has all bytes of the arguments, and costs little beside a WRITE of 1 MiB")
    func checksum() throws {
        let client = Self.key(1).client
        func key(_ bytes: [UInt8], pieces: Int) -> DuplicateRequestCache.Key {
            var payload = Payload()
            let size = bytes.count / pieces
            for piece in 0..<pieces { payload.append(ByteBuffer(bytes: bytes[piece * size..<(piece + 1) * size])) }
            let call = RPCCall(program: testProgram, version: 3, procedure: 100, arguments: payload)
            let clock = ContinuousClock()
            var best = Duration.seconds(1)
            for _ in 0..<10 {
                best = min(best, clock.measure { _ = DuplicateRequestCache.Key(call, from: client) })
            }
            print("checksum of \(bytes.count) bytes in \(pieces) pieces: \(best)")
            #expect(best < .milliseconds(2))
            return DuplicateRequestCache.Key(call, from: client)
        }
        var bytes = [UInt8](repeating: 7, count: 1 << 20)
        let first = key(bytes, pieces: 1)
        #expect(key(bytes, pieces: 4) == first)
        bytes[bytes.count - 1] = 8
        #expect(key(bytes, pieces: 4) != first)
    }

    @Test("against a model: a list of calls that is searched from its start")
    func model() {
        struct Call {
            let xid: Int
            let client: UInt8
            var connection: UInt64
            var reply: Int?
            var isFinished = false
            var order = 0
        }
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        var bounds = DuplicateRequestBounds()
        bounds.maxEntries = 12
        bounds.maxEntriesPerClient = 5
        var cache = DuplicateRequestCache(bounds)
        var calls: [Call] = []
        var finishes = 0
        func evict(_ client: UInt8) {
            func finished(_ client: UInt8) -> [Int] {
                calls.indices.filter { calls[$0].isFinished && calls[$0].client == client }
                    .sorted { calls[$0].order < calls[$1].order }
            }
            while finished(client).count > 5 { calls.remove(at: finished(client)[0]) }
            while calls.filter(\.isFinished).count > 12 {
                // Of the clients with most calls the one that has the oldest call.
                let all = (1...4).map(finished)
                let oldest = all.filter { $0.count == all.map(\.count).max() }.map { $0[0] }
                calls.remove(at: oldest.min { calls[$0].order < calls[$1].order } ?? 0)
            }
        }
        for step in 0..<20_000 {
            let xid = Int.random(in: 0..<8, using: &generator)
            let client = UInt8.random(in: 1...4, using: &generator)
            let connection = UInt64.random(in: 1...4, using: &generator)
            let index = calls.firstIndex { $0.xid == xid && $0.client == client }
            if let index, !calls[index].isFinished, Bool.random(using: &generator) {
                let isKept = Int.random(in: 0..<4, using: &generator) > 0
                #expect(
                    cache.end(Self.key(xid, client: client), reply: isKept ? Self.body(step) : nil, atSeconds: 0)
                        .rawValue
                        == calls[index].connection, "seed \(seed) step \(step)")
                if isKept {
                    finishes += 1
                    calls[index].isFinished = true
                    calls[index].reply = step
                    calls[index].order = finishes
                    evict(client)
                } else {
                    calls.remove(at: index)
                }
            } else {
                let verdict = Self.text(
                    cache.begin(Self.key(xid, client: client), on: Self.connection(connection), atSeconds: 0))
                var expected = "start"
                if let index {
                    let previous = calls[index].connection
                    if connection < previous {
                        expected = "left over"
                    } else {
                        calls[index].connection = connection
                        if let reply = calls[index].reply {
                            expected = "replay \(reply), gave up \(connection == previous ? 0 : previous)"
                        } else {
                            expected = connection == previous ? "drop" : "await, gave up \(previous)"
                        }
                    }
                } else {
                    calls.append(Call(xid: xid, client: client, connection: connection))
                }
                #expect(verdict == expected, "seed \(seed) step \(step)")
            }
            #expect(cache.count == calls.count, "seed \(seed) step \(step)")
            #expect(cache.finished == calls.filter(\.isFinished).count, "seed \(seed) step \(step)")
        }
    }
}
