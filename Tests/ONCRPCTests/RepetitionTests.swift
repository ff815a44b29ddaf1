// Calls that a client sends again, over real sockets. Procedure 100 must not be repeated, procedure 1 may.

import NIOCore
import ONCRPC
import Platform
import Synchronization
import Testing

@Suite("calls sent again", .serialized)
struct RepetitionTests {
    private static func change(_ xid: UInt32, _ arguments: [UInt8] = [], credential: [UInt8] = noAuthenticator)
        -> [UInt8]
    {
        fragment(callMessage(xid: xid, procedure: 100, credential: credential, arguments: arguments))
    }

    /// Counts how often each call was carried out, and answers with the number of all calls so far.
    private final class Program: Sendable {
        let log = EventLog<UInt32>()
        let gate = Gate()
        private let count = Atomic<UInt32>(0)

        @Sendable func handle(_ call: RPCCall) async -> RPCOutcome {
            log.append(call.xid)
            let number = count.add(1, ordering: .relaxed).newValue
            if call.xid >= 1000 { await gate.pass() }
            return .success(RPCReplyBody(ByteBuffer(bytes: words(number))))
        }
    }

    @Test("a copy gets the first one's reply, on the same connection and on others, whatever the credential")
    func replay() async throws {
        let program = Program()
        try await withServer(program.handle) { server in
            let first = try TestClient(port: server.port)
            let reply = acceptedReply(xid: 5, status: 0, words(1))
            try first.send(Self.change(5))
            #expect(try first.receive() == reply)
            try first.send(Self.change(5))
            #expect(try first.receive() == reply)
            first.close()
            let second = try TestClient(port: server.port)
            let credential = systemAuthenticator(uid: 1, gid: 1, groups: [])
            try second.send(Self.change(5, credential: credential))
            #expect(try second.receive() == reply)
            // Other arguments, or another xid, are another call.
            try second.send(Self.change(5, words(1)))
            #expect(try second.receive() == acceptedReply(xid: 5, status: 0, words(2)))
            try second.send(Self.change(6))
            #expect(try second.receive() == acceptedReply(xid: 6, status: 0, words(3)))
            #expect(program.log.entries == [5, 5, 6])
            #expect(server.counters.replays == 2)
            #expect(server.counters.duplicateRequestEntries == 3)
        }
    }

    @Test("what may be repeated is carried out each time and isn't kept")
    func idempotent() async throws {
        let program = Program()
        try await withServer(program.handle) { server in
            let client = try TestClient(port: server.port)
            for number: UInt32 in 1...3 {
                try client.send(fragment(callMessage(xid: 5, procedure: 1)))
                #expect(try client.receive() == acceptedReply(xid: 5, status: 0, words(number)))
            }
            #expect(server.counters.duplicateRequestEntries == 0)
        }
    }

    @Test("a copy of a call in progress is not answered twice on its connection")
    func inProgress() async throws {
        let program = Program()
        try await withServer(program.handle) { server in
            let client = try TestClient(port: server.port)
            try client.send(Self.change(1000) + Self.change(1000) + Self.change(1000))
            await eventually("copies aren't seen") { server.counters.duplicatesInProgress == 2 }
            program.gate.open()
            try client.send(Self.change(7))
            #expect(
                try client.receive(2) == [
                    acceptedReply(xid: 1000, status: 0, words(1)), acceptedReply(xid: 7, status: 0, words(2)),
                ])
            #expect(program.log.entries == [1000, 7])
        }
    }

    @Test("the answer to a call in progress goes to the youngest connection that asked; the others are closed")
    func takeOver() async throws {
        let program = Program()
        try await withServer(program.handle) { server in
            var clients: [TestClient] = []
            for index in 0..<4 {
                // A call that is answered: the next connection is younger.
                clients.append(try TestClient(port: server.port))
                try clients[index].send(Self.change(UInt32(index)))
                _ = try clients[index].receive()
            }
            for (index, client) in clients.enumerated() {
                try client.send(Self.change(1000))
                await eventually("the call isn't seen") {
                    server.counters.duplicatesInProgress == index && server.counters.callsInFlight == 1
                }
            }
            program.gate.open()
            #expect(try clients[3].receive() == acceptedReply(xid: 1000, status: 0, words(5)))
            for client in clients[..<3] { #expect(try client.isAtEnd()) }
            await eventually("the others stay open") { server.counters.connectionsOpen == 1 }
            #expect(program.log.entries == [0, 1, 2, 3, 1000])
            #expect(server.counters.connectionsGivenUp == 3)
        }
    }

    @Test("a reply that asks to try again or refuses the caller, GARBAGE_ARGS and SYSTEM_ERR are not kept")
    func notKept() async throws {
        let count = Atomic<UInt32>(0)
        try await withServer { call in
            let number = count.add(1, ordering: .relaxed).newValue
            switch call.xid {
            case 1: return .garbageArguments
            case 2: return .systemError
            default:
                var body = RPCReplyBody(ByteBuffer(bytes: words(number)))
                body.asksToTryAgain = call.xid == 3
                body.isRefusal = call.xid == 4
                return .success(body)
            }
        } test: { server in
            let client = try TestClient(port: server.port)
            for xid: UInt32 in [1, 2, 3, 4, 1, 2, 3, 4] {
                try client.send(Self.change(xid))
                _ = try client.receive()
            }
            #expect(count.load(ordering: .relaxed) == 8)
            #expect(server.counters.duplicateRequestEntries == 0)
        }
    }

    @Test("refused calls of many strangers push out no client's calls")
    func strangers() async throws {
        var bounds = RPCBounds()
        bounds.duplicateRequests.maxEntries = 10
        try await withServer(bounds: bounds) { call in
            var body = RPCReplyBody(ByteBuffer(bytes: words(call.xid)))
            body.isRefusal = call.xid >= 1000
            return .success(body)
        } test: { server in
            let client = try TestClient(port: server.port)
            for xid: UInt32 in 1...10 {
                try client.send(Self.change(xid))
                _ = try client.receive()
            }
            for source: UInt32 in 2...20 {
                let stranger = try TestClient(port: server.port, from: source)
                for xid: UInt32 in 1000...1019 { try stranger.send(Self.change(xid)) }
                #expect(try stranger.receive(20).count == 20)
            }
            #expect(server.counters.duplicateRequestEntries == 10)
            #expect(server.counters.duplicateRequestEvictions == 0)
            for xid: UInt32 in 1...10 {
                try client.send(Self.change(xid))
                #expect(try client.receive() == acceptedReply(xid: xid, status: 0, words(xid)))
            }
            #expect(server.counters.replays == 10)
        }
    }

    /// A file of one cell that WRITEs set; procedure 1 waits, so that the connection has no more room.
    private final class Cell: Sendable {
        let gate = Gate()
        let writes = EventLog<UInt8>()

        @Sendable func handle(_ call: RPCCall) async -> RPCOutcome {
            if call.procedure == 1 {
                await gate.pass()
            } else if let byte = try? call.payload(0..<1).bytes.first {
                writes.append(byte)
            }
            return .success(RPCReplyBody(ByteBuffer()))
        }
    }

    enum End: CaseIterable { case none, finish, reset }

    @Test("a WRITE left in an old connection never lands on newer bytes", arguments: End.allCases, [0, 3])
    func leftOverWrite(end: End, behind fillers: Int) async throws {
        var bounds = RPCBounds()
        bounds.maxCallsInFlight = 1
        let cell = Cell()
        try await withServer(bounds: bounds, cell.handle) { server in
            let old = try TestClient(port: server.port)
            // The connection is paused by a call in flight. A stays unparsed in it, or, behind 2 MiB, in the socket.
            let filler = fragment(callMessage(xid: 2, procedure: 2, arguments: [UInt8](repeating: 0, count: 700_000)))
            var bytes = fragment(callMessage(xid: 1, procedure: 1))
            for _ in 0..<fillers { bytes += filler }
            try old.send(bytes + Self.change(10, [65, 0, 0, 0]))
            await eventually("the old connection isn't paused") { server.counters.readingPauses > 0 }
            switch end {
            case .none: break
            case .finish: old.close()
            case .reset:
                old.reset()
                await eventually("the reset isn't seen") { server.counters.connectionsOpen == 0 }
            }
            let new = try TestClient(port: server.port)
            try new.send(Self.change(10, [65, 0, 0, 0]))
            #expect(try new.receive() == acceptedReply(xid: 10, status: 0))
            try new.send(Self.change(11, [66, 0, 0, 0]))
            #expect(try new.receive() == acceptedReply(xid: 11, status: 0))
            cell.gate.open()
            await eventually("the old connection stays") { server.counters.connectionsOpen == 1 }
            #expect(cell.writes.entries.filter { $0 != 0 } == [65, 66])
            switch end {
            case .none: #expect(server.counters.leftOverCalls == 1)
            case .finish: break  // The FIN may still be behind bytes that the server doesn't take.
            case .reset: #expect(cell.writes.entries == [65, 66], "nothing is started after a reset")
            }
            // The new connection goes on.
            try new.send(Self.change(12, [67, 0, 0, 0]))
            #expect(try new.receive() == acceptedReply(xid: 12, status: 0))
        }
    }

    @Test("from a connection whose client has resent a call on another nothing more is started")
    func replaced() async throws {
        var bounds = RPCBounds()
        bounds.maxCallsInFlight = 1
        let program = Program()
        try await withServer(bounds: bounds, program.handle) { server in
            let old = try TestClient(port: server.port)
            try old.send(Self.change(1000) + Self.change(20) + Self.change(21))
            await eventually("the call doesn't start") { server.counters.callsInFlight == 1 }
            let new = try TestClient(port: server.port)
            try new.send(Self.change(1000))
            await eventually("the copy isn't seen") { server.counters.duplicatesInProgress == 1 }
            program.gate.open()
            #expect(try new.receive() == acceptedReply(xid: 1000, status: 0, words(1)))
            #expect(try old.isAtEnd())
            #expect(program.log.entries == [1000])
        }
    }

    @Test("calls that end on one thread while copies come on others are carried out once and answered")
    func stress() async throws {
        let program = Program()
        program.gate.open()
        try await withServer(program.handle) { server in
            for xid: UInt32 in 1000..<1300 {
                let clients = try (0..<3).map { _ in try TestClient(port: server.port) }
                for client in clients { try client.send(Self.change(xid)) }
                let answers = clients.map { client in
                    do { return try client.receive() } catch { return nil }
                }
                #expect(answers.contains { $0 != nil })
                #expect(Set(answers.compactMap { $0 }).count == 1)
            }
            #expect(program.log.entries == Array(1000..<1300))
        }
    }
}
