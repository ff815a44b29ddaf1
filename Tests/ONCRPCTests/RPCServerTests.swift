// Order, bounds and ends of connections, over real sockets.

import FaultInjection
import NIOCore
import ONCRPC
import Platform
import Synchronization
import Testing
import XDR

@Suite("RPC server", .serialized)
struct RPCServerTests {
    private static let empty = RPCOutcome.success(RPCReplyBody(ByteBuffer()))

    private func calls(_ xids: some Sequence<Int>, arguments: [UInt8] = []) -> [UInt8] {
        xids.flatMap { fragment(callMessage(xid: UInt32($0), procedure: 1, arguments: arguments)) }
    }

    @Test("pipelined calls start in the order in which they arrived; replies come when they are ready")
    func order() async throws {
        let started = EventLog<UInt32>()
        let gate = Gate()
        try await withServer { call in
            started.append(call.xid)
            if call.xid % 2 == 0 { await gate.pass() }
            return Self.empty
        } test: { server in
            let client = try TestClient(port: server.port)
            var rest = calls(0..<200)[...]
            while !rest.isEmpty {
                let part = rest.prefix(Int.random(in: 1...2000))
                rest = rest.dropFirst(part.count)
                try client.send(Array(part))
            }
            for xid: UInt32 in 0..<100 { #expect(try client.receive() == acceptedReply(xid: 2 * xid + 1, status: 0)) }
            gate.open()
            #expect(try client.receive(100) == Set((0..<100).map { acceptedReply(xid: 2 * $0, status: 0) }))
            #expect(started.entries == Array(0..<200))
            #expect(server.counters.calls == 200)
        }
    }

    @Test("a large payload goes in and comes out unchanged, padded to a multiple of 4")
    func largePayload() async throws {
        try await withServer { call in
            do throws(XDRError) {
                let range = try call.decodeArguments { decoder throws(XDRError) in
                    try decoder.payloadRange(maxCount: 1 << 20)
                }
                let payload = try call.payload(range)
                return .success(RPCReplyBody(ByteBuffer(bytes: words(UInt32(payload.count))), payload: payload))
            } catch {
                return .garbageArguments
            }
        } test: { server in
            var generator = SeededGenerator(seed: 1)
            let client = try TestClient(port: server.port)
            for count in [0, 1, 2, 3, 4, 65_535, 65_536, 300_001, 1 << 20] {
                let payload = opaque(generator.bytes(count))
                try client.send(fragment(callMessage(xid: 1, procedure: 1, arguments: payload)))
                let isEqual = try client.receive() == acceptedReply(xid: 1, status: 0, payload)
                #expect(isEqual, "\(count) bytes")
            }
        }
    }

    @Test("at the bound on calls in flight reading stops; it resumes when calls end")
    func boundOnCalls() async throws {
        var bounds = RPCBounds()
        bounds.maxCallsInFlight = 4
        let gate = Gate()
        let started = EventLog<UInt32>()
        try await withServer(bounds: bounds) { call in
            started.append(call.xid)
            await gate.pass()
            return Self.empty
        } test: { server in
            let client = try TestClient(port: server.port)
            // 32 MiB, more than socket buffers hold (tcp_wmem and tcp_rmem allow 4 and 6 MiB).
            let argument = [UInt8](repeating: 1, count: 32 << 10)
            let bytes = calls(0..<1024, arguments: argument)
            let sent = try client.sendUntilBlocked(bytes, patienceMilliseconds: 300)
            #expect(sent < 16 << 20)
            #expect(server.counters.readingPauses > 0)
            #expect(started.entries == [0, 1, 2, 3])

            gate.open()
            async let rest: Void = blocking { try client.send(Array(bytes[sent...])) }
            #expect(try client.receive(1024) == Set((0..<1024).map { acceptedReply(xid: $0, status: 0) }))
            try await rest
            #expect(started.entries == Array(0..<1024))
        }
    }

    @Test("at the bound on bytes in flight no further call is started")
    func boundOnBytes() async throws {
        var bounds = RPCBounds()
        bounds.maxBytesInFlight = 250_000
        let gate = Gate()
        let started = EventLog<UInt32>()
        try await withServer(bounds: bounds) { call in
            started.append(call.xid)
            await gate.pass()
            return Self.empty
        } test: { server in
            let client = try TestClient(port: server.port)
            try client.send(calls(0..<10, arguments: [UInt8](repeating: 1, count: 100_000)))
            await eventually("reading goes on") { server.counters.readingPauses > 0 }
            #expect(started.entries == [0, 1, 2])
            gate.open()
            #expect(try client.receive(10) == Set((0..<10).map { acceptedReply(xid: $0, status: 0) }))
        }
    }

    @Test("a client that doesn't take its replies has no further calls started")
    func slowReader() async throws {
        var bounds = RPCBounds()
        bounds.maxUnsentReplyBytes = 1 << 20
        let started = Atomic<Int>(0)
        let reply = RPCReplyBody(
            ByteBuffer(bytes: words(1 << 20)), payload: Payload(ByteBuffer(repeating: 3, count: 1 << 20)))
        try await withServer(bounds: bounds) { _ in
            started.add(1, ordering: .relaxed)
            return .success(reply)
        } test: { server in
            let client = try TestClient(port: server.port, receiveBufferBytes: 64 << 10)
            try client.send(calls(0..<200))
            await eventually("reading goes on") { server.counters.readingPauses > 0 }
            for received in 0..<200 {
                // The bound, one call above it, and what the socket's buffers hold (up to 4 MiB here).
                #expect(started.load(ordering: .relaxed) - received <= 16)
                #expect(try client.receive()?.count == 28 + (1 << 20))
            }
            #expect(started.load(ordering: .relaxed) == 200)
        }
    }

    @Test("a client that has sent its last byte still gets the replies to its calls")
    func halfClose() async throws {
        let gate = Gate()
        try await withServer { _ in
            await gate.pass()
            return Self.empty
        } test: { server in
            let client = try TestClient(port: server.port)
            try client.send(calls(0..<3))
            client.closeOutput()
            await eventually("calls don't start") { server.counters.callsInFlight == 3 }
            gate.open()
            #expect(try client.receive(3) == Set((0..<3).map { acceptedReply(xid: $0, status: 0) }))
            #expect(try client.isAtEnd())
            await eventually("the connection stays open") { server.counters.connectionsOpen == 0 }
        }
    }

    @Test("calls of a connection that broke end unanswered, and those not started yet never start")
    func brokenConnection() async throws {
        var bounds = RPCBounds()
        bounds.maxCallsInFlight = 2
        let gate = Gate()
        let started = EventLog<UInt32>()
        try await withServer(bounds: bounds) { call in
            started.append(call.xid)
            await gate.pass()
            return Self.empty
        } test: { server in
            let client = try TestClient(port: server.port)
            try client.send(calls(0..<10))
            await eventually("calls don't start") { server.counters.callsInFlight == 2 }
            client.reset()
            await eventually("the connection stays open") { server.counters.connectionsOpen == 0 }
            gate.open()
            await eventually("calls don't end") { server.counters.callsInFlight == 0 }
        }
        #expect(started.entries == [0, 1])
    }

    @Test("shutdown lets calls in flight end and answers them, starts no others, and then closes")
    func shutdown() async throws {
        let gate = Gate()
        let started = EventLog<UInt32>()
        try await withServer { call in
            started.append(call.xid)
            await gate.pass()
            return Self.empty
        } test: { server in
            let client = try TestClient(port: server.port)
            let idle = try TestClient(port: server.port)
            try client.send(calls(0..<3))
            await eventually("calls don't start") { server.counters.callsInFlight == 3 }
            async let stopped: Void = server.shutdown()
            // The idle connection is told first that nothing more will come.
            #expect(try await blocking { try idle.isAtEnd() })
            #expect(throws: TestClient.Failure.self) { try TestClient(port: server.port) }
            // More than the read that was under way takes: closing with unread bytes would reset the connection.
            let more = calls(3..<6, arguments: [UInt8](repeating: 1, count: 700_000))
            try await blocking { try client.send(more) }
            gate.open()
            let replies = try await blocking { try client.receive(3) }
            #expect(replies == Set((0..<3).map { acceptedReply(xid: $0, status: 0) }))
            let end = try await blocking { try client.receive() }
            #expect(end == nil, "closed in order, not reset")
            client.close()
            idle.close()
            await stopped
            #expect(server.counters.connectionsOpen == 0)
        }
        #expect(started.entries == [0, 1, 2])
    }

    @Test("shutdown gives up on calls that don't end")
    func shutdownIsBounded() async throws {
        var bounds = RPCBounds()
        bounds.shutdownGrace = .milliseconds(100)
        let gate = Gate()
        try await withServer(bounds: bounds) { _ in
            await gate.pass()
            return Self.empty
        } test: { server in
            let client = try TestClient(port: server.port)
            try client.send(calls(0..<1))
            await eventually("the call doesn't start") { server.counters.callsInFlight == 1 }
            await server.shutdown()
            #expect(server.counters.callsInFlight == 1)
            #expect(try client.isAtEnd())
            gate.open()
            await eventually("the call doesn't end") { server.counters.callsInFlight == 0 }
        }
    }
}
