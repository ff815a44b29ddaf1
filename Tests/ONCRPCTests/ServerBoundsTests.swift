// Bounds over all connections, over real sockets: their number, their memory, their patience.

import NIOCore
import Platform
import Synchronization
import Testing

@testable import ONCRPC

@Suite("bounds over all connections", .serialized)
struct ServerBoundsTests {
    private static let empty = RPCOutcome.success(RPCReplyBody(ByteBuffer()))

    private func call(_ xid: UInt32, procedure: UInt32 = 1, bytes: Int = 0) -> [UInt8] {
        fragment(callMessage(xid: xid, procedure: procedure, arguments: [UInt8](repeating: 1, count: bytes)))
    }

    private func ask(_ client: TestClient, _ xid: UInt32) throws {
        try client.send(call(xid))
        #expect(try client.receive() == acceptedReply(xid: xid, status: 0))
    }

    @Test("above the maximum the connection that has been idle longest is closed; busy ones stay; else the new one")
    func connections() async throws {
        var bounds = RPCBounds()
        bounds.maxConnections = 3
        let gate = Gate()
        try await withServer(bounds: bounds) { call in
            if call.procedure == 2 { await gate.pass() }
            return Self.empty
        } test: { server in
            let clients = try (0..<3).map { _ in try TestClient(port: server.port) }
            for client in clients + [clients[0]] {
                try ask(client, 1)
                await eventually("it isn't idle") { server.counters.bytesInUse == 0 }
            }
            // Now clients[1] has been idle longest.
            let fourth = try TestClient(port: server.port)
            try ask(fourth, 1)
            #expect(server.counters.connectionsEvicted == 1)
            #expect(try clients[1].isAtEnd())
            for client in [clients[0], clients[2], fourth] { try client.send(call(9, procedure: 2)) }
            await eventually("calls don't start") { server.counters.callsInFlight == 3 }
            let fifth = try TestClient(port: server.port)
            #expect(try fifth.isAtEnd())
            #expect(server.counters.connectionsRefused == 1)
            gate.open()
            for client in [clients[0], clients[2], fourth] {
                #expect(try client.receive() == acceptedReply(xid: 9, status: 0))
            }
        }
    }

    @Test("connections of one address that take no replies, as many as there may be, keep nobody else out")
    func busyConnections() async throws {
        var bounds = RPCBounds()
        bounds.maxConnections = 8
        // However slow the machine is, they are busy, not stalled: a stalled one is replaced.
        bounds.stallTimeout = .seconds(3600)
        bounds.contendedStallTimeout = .seconds(3600)
        let reply = RPCReplyBody(ByteBuffer(repeating: 3, count: 1 << 20))
        try await withServer(bounds: bounds) { call in
            call.procedure == 2 ? .success(reply) : Self.empty
        } test: { server in
            let hostile = try (0..<8).map { _ in
                try TestClient(port: server.port, from: 2, receiveBufferBytes: 4 << 10)
            }
            for client in hostile {
                let before = server.counters.calls
                for xid: UInt32 in 0..<16 { try client.send(call(xid, procedure: 2)) }
                await eventually("its calls don't start") { server.counters.calls >= before + 4 }
            }
            let first = try TestClient(port: server.port)
            try ask(first, 1)
            #expect(server.counters.connectionsEvicted == 1)
            // It comes again and again, which costs nobody else anything.
            for number in 1...30 {
                let another = try TestClient(port: server.port, from: 2)
                await eventually("it is let in") { server.counters.connectionsRefused == number }
                another.close()
            }
            let others = try (3...5).map { try TestClient(port: server.port, from: $0) }
            for client in others + [first] { try ask(client, 2) }
        }
    }

    @Test("of the address with the most connections the one that has stalled is closed, not the youngest")
    func stalledMakesRoom() async throws {
        var bounds = RPCBounds()
        bounds.maxConnections = 2
        bounds.contendedStallTimeout = .milliseconds(20)
        let gate = Gate()
        let reply = RPCReplyBody(ByteBuffer(repeating: 3, count: 1 << 20))
        try await withServer(bounds: bounds) { call in
            if call.procedure == 2 { await gate.pass() }
            return call.procedure == 3 ? .success(reply) : Self.empty
        } test: { server in
            let stalled = try TestClient(port: server.port, from: 2, receiveBufferBytes: 4 << 10)
            for xid: UInt32 in 0..<16 { try stalled.send(call(xid, procedure: 3)) }
            await eventually("nothing is sent") { server.counters.calls >= 4 }
            let youngest = try TestClient(port: server.port, from: 2)
            try youngest.send(call(1, procedure: 2))
            await eventually("its call doesn't start") { server.counters.callsInFlight == 1 }
            // Something else that stalls, and for longer than any look takes; then it is closed for it.
            let start = ContinuousClock.now
            while ContinuousClock.now - start < .seconds(1) { await Task.yield() }
            try ask(TestClient(port: server.port), 1)
            gate.open()
            #expect(try youngest.receive() == acceptedReply(xid: 1, status: 0))
            #expect(server.counters.connectionsEvicted == 1)
        }
    }

    @Test("a record that arrives slowly isn't lost to connections that others open meanwhile")
    func slowRecord() async throws {
        var bounds = RPCBounds()
        bounds.maxConnections = 4
        try await withServer(bounds: bounds) { _ in
            Self.empty
        } test: { server in
            let slow = try TestClient(port: server.port, from: 3)
            let record = call(1, bytes: 500_000)
            try slow.send(Array(record[..<1000]))
            await eventually("it hasn't begun") { server.counters.bytesInUse > 0 }
            var others: [TestClient] = []
            for _ in 0..<20 {
                others.append(try TestClient(port: server.port, from: 2))
                try ask(others[others.count - 1], 1)
            }
            #expect(server.counters.connectionsEvicted == 17)
            try slow.send(Array(record[1000...]))
            #expect(try slow.receive() == acceptedReply(xid: 1, status: 0))
        }
    }

    @Test("bytes of a record that arrive make its connection the last to be closed for another one")
    func renewal() async throws {
        var bounds = RPCBounds()
        bounds.maxConnections = 2
        try await withServer(bounds: bounds) { _ in
            Self.empty
        } test: { server in
            let slow = try TestClient(port: server.port)
            let record = call(1, bytes: 500_000)
            try slow.send(Array(record[..<2]))
            await eventually("it isn't let in") { server.counters.connectionsOpen == 1 }
            let idle = try TestClient(port: server.port)
            try ask(idle, 1)
            await eventually("it isn't idle") { server.counters.bytesInUse == 0 }
            try slow.send(Array(record[2..<1000]))
            await eventually("they don't arrive") { server.counters.bytesInUse > 1 << 20 }
            try ask(TestClient(port: server.port), 1)
            #expect(try idle.isAtEnd())
            try slow.send(Array(record[1000...]))
            #expect(try slow.receive() == acceptedReply(xid: 1, status: 0))
        }
    }

    @Test("a connection whose call waits for the budget isn't idle")
    func waitingIsBusy() async throws {
        var bounds = RPCBounds()
        bounds.maxBytes = 1  // one record and one reply for newcomers, and as much for calls
        bounds.maxConnections = 4
        let gate = Gate()
        try await withServer(bounds: bounds) { call in
            if call.procedure == 2 { await gate.pass() }
            return Self.empty
        } test: { server in
            let holders = try (2...3).map { try TestClient(port: server.port, from: $0) }
            for (index, holder) in holders.enumerated() {
                try holder.send(call(1, procedure: 2, bytes: 1_000_000))
                await eventually("its call doesn't start") { server.counters.callsInFlight == index + 1 }
            }
            let waiting = try TestClient(port: server.port, from: 4)
            try waiting.send(call(1, bytes: 500_000))
            await eventually("its call doesn't wait") { server.counters.connectionsWaiting == 1 }
            let idle = try TestClient(port: server.port, from: 4)
            try ask(idle, 1)
            try ask(TestClient(port: server.port, from: 4), 1)
            #expect(try idle.isAtEnd())
            gate.open()
            #expect(try waiting.receive() == acceptedReply(xid: 1, status: 0))
            for holder in holders { #expect(try holder.receive() == acceptedReply(xid: 1, status: 0)) }
        }
    }

    @Test("a client that stops inside a record or a mark is closed; an idle one stays")
    func stalledRecord() async throws {
        var bounds = RPCBounds()
        bounds.stallTimeout = .milliseconds(50)
        try await withServer(bounds: bounds) { _ in
            Self.empty
        } test: { server in
            let idle = try TestClient(port: server.port)
            try ask(idle, 1)
            for start in [
                words(0x8000_0100), [0x80], words(0x8000_0100) + [1, 2, 3], words(4, 5), words(0x8010_0000, 1),
            ] {
                let client = try TestClient(port: server.port)
                try client.send(start)
                #expect(try client.isAtEnd())
            }
            #expect(server.counters.stalledRecords == 5)
            try ask(idle, 2)
            await eventually("reservations of closed connections stay") { server.counters.bytesInUse == 0 }
        }
    }

    @Test("a client that doesn't take its replies is closed, and what it held is free again")
    func stalledReplies() async throws {
        var bounds = RPCBounds()
        bounds.stallTimeout = .milliseconds(100)
        let reply = RPCReplyBody(
            ByteBuffer(bytes: words(1 << 20)), payload: Payload(ByteBuffer(repeating: 3, count: 1 << 20)))
        try await withServer(bounds: bounds) { _ in
            .success(reply)
        } test: { server in
            let client = try TestClient(port: server.port, receiveBufferBytes: 64 << 10)
            for xid: UInt32 in 0..<40 { try client.send(call(xid)) }
            await eventually("it stays") { server.counters.stalledReplies == 1 && server.counters.connectionsOpen == 0 }
            await eventually("its bytes stay") { server.counters.bytesInUse == 0 }
        }
    }

    @Test("a handler that takes longer than the timeout is no stall")
    func slowHandler() async throws {
        var bounds = RPCBounds()
        bounds.stallTimeout = .milliseconds(20)
        bounds.maxCallsInFlight = 1
        let gate = Gate()
        try await withServer(bounds: bounds) { call in
            if call.xid == 1 { await gate.pass() }
            return Self.empty
        } test: { server in
            let client = try TestClient(port: server.port)
            // The second record is only half there, but nobody waits for the rest: there is no room.
            let second = call(2)
            try client.send(call(1) + second[..<10])
            let other = try TestClient(port: server.port)
            for _ in 0..<3 {
                // Each of these takes one to two timeouts.
                let stalled = try TestClient(port: server.port)
                try stalled.send([0x80])
                #expect(try await blocking { try stalled.isAtEnd() })
            }
            try ask(other, 3)
            gate.open()
            #expect(try client.receive() == acceptedReply(xid: 1, status: 0))
            try client.send(Array(second[10...]))
            _ = try? client.receive()
        }
    }

    @Test("the bytes of all calls are bounded, whatever the number of connections; small calls go on meanwhile")
    func budget() async throws {
        var bounds = RPCBounds()
        bounds.maxBytes = 10 << 20
        let gate = Gate()
        let started = Atomic<Int>(0)
        try await withServer(bounds: bounds) { call in
            if call.procedure == 2 {
                started.add(1, ordering: .relaxed)
                await gate.pass()
            }
            return Self.empty
        } test: { server in
            let clients = try (0..<10).map { _ in try TestClient(port: server.port) }
            let sending = clients.map { client in
                Task { try await blocking { try client.send(self.call(7, procedure: 2, bytes: 1_000_000)) } }
            }
            // 2.06 MiB are for newcomers, one at a time, 7.94 MiB for their calls, of 1.001 MB each. Three calls start: a
            // fourth would have the address hold more than half.
            await eventually("calls don't start") { started.load(ordering: .relaxed) == 3 }
            await eventually("nobody waits") { server.counters.budgetWaits >= 7 }
            #expect(server.counters.bytesInUse <= 10 << 20)
            let small = try TestClient(port: server.port)
            for xid: UInt32 in 1...20 { try ask(small, xid) }
            #expect(started.load(ordering: .relaxed) == 3)
            gate.open()
            for client in clients {
                let reply = try await blocking { try client.receive() }
                #expect(reply == acceptedReply(xid: 7, status: 0))
            }
            for task in sending { try await task.value }
            await eventually("bytes stay in use") { server.counters.bytesInUse == 0 }
        }
    }

    @Test("records in pieces of many connections get through a budget for one, and closed ones give back")
    func noDeadlock() async throws {
        var bounds = RPCBounds()
        bounds.maxBytes = 1  // raised to one record and one reply
        try await withServer(bounds: bounds) { _ in
            Self.empty
        } test: { server in
            let clients = try (0..<12).map { _ in try TestClient(port: server.port) }
            let tasks = clients.enumerated().map { index, client in
                Task {
                    try await blocking {
                        let message = callMessage(
                            xid: UInt32(index), procedure: 100, arguments: [UInt8](repeating: 1, count: 300_000))
                        for round in 0..<3 {
                            var bytes: [UInt8] = []
                            for start in stride(from: 0, to: message.count, by: 8000) {
                                let end = min(start + 8000, message.count)
                                bytes += fragment(Array(message[start..<end]), isLast: end == message.count)
                            }
                            if index % 4 == 3, round == 2 {
                                try client.send(Array(bytes[..<100_000]))
                                return client.close()
                            }
                            try client.send(bytes)
                            #expect(try client.receive() == acceptedReply(xid: UInt32(index), status: 0))
                        }
                    }
                }
            }
            for task in tasks { try await task.value }
            await eventually("bytes stay in use") { server.counters.bytesInUse == 0 }
        }
    }

    /// The beginning of a record of 1 MiB and no more.
    private let halfOpen = words(0x8010_0000) + [UInt8](repeating: 1, count: 100)

    @Test("half-open records of one address keep nobody else waiting, nor a connection of theirs that has finished one")
    func halfOpenRecords() async throws {
        try await withServer { _ in
            Self.empty
        } test: { server in
            let proven = try TestClient(port: server.port, from: 2)
            try proven.send(call(1, bytes: 500_000))
            #expect(try proven.receive() == acceptedReply(xid: 1, status: 0))
            let hostile = try (0..<40).map { _ in try TestClient(port: server.port, from: 2) }
            for client in hostile { try client.send(halfOpen) }
            await eventually("nobody waits") { server.counters.budgetWaits >= 30 }
            #expect(server.counters.bytesInUse <= 16 << 20, "half of the newcomers' 32 MiB")
            for source: UInt32 in 3...5 {
                let witness = try TestClient(port: server.port, from: source)
                try witness.send(call(2, bytes: 500_000))
                #expect(try witness.receive() == acceptedReply(xid: 2, status: 0))
            }
            try proven.send(call(3, bytes: 500_000))
            #expect(try proven.receive() == acceptedReply(xid: 3, status: 0))
            #expect(server.counters.stalledRecords == 0)
        }
    }

    @Test("while somebody waits, who stops or trickles inside a record is closed after a short time; alone he stays")
    func contendedRecord() async throws {
        var bounds = RPCBounds()
        bounds.maxBytes = 1  // one record and one reply
        bounds.contendedStallTimeout = .milliseconds(400)
        try await withServer(bounds: bounds) { _ in
            Self.empty
        } test: { server in
            let trickler = try TestClient(port: server.port)
            try trickler.send(halfOpen)
            let start = ContinuousClock.now
            while ContinuousClock.now - start < .seconds(1) { try trickler.trickle() }
            #expect(server.counters.stalledRecords == 0)
            let waiting = try TestClient(port: server.port, from: 2)
            let trickling = Task {
                try await blocking { while true { try trickler.trickle() } }
            }
            try waiting.send(call(1, bytes: 500_000))
            #expect(try await blocking { try waiting.receive() } == acceptedReply(xid: 1, status: 0))
            #expect(server.counters.stalledRecords == 1)
            await #expect(throws: TestClient.Failure.self) { try await trickling.value }
        }
    }

    @Test("connections that wait for the budget and are closed leave its line, and keep nobody waiting")
    func closedWaiters() async throws {
        var bounds = RPCBounds()
        bounds.maxBytes = 1  // one record and one reply
        // A thousand connections take their time on a busy machine; who holds the memory must not be closed meanwhile.
        bounds.stallTimeout = .seconds(3600)
        bounds.contendedStallTimeout = .seconds(3600)
        try await withServer(bounds: bounds) { _ in
            Self.empty
        } test: { server in
            let holder = try TestClient(port: server.port, from: 2)
            try holder.send(halfOpen)
            await eventually("it holds nothing") { server.counters.bytesInUse > 1 << 20 }
            for number in 1...1000 {
                let client = try TestClient(port: server.port, from: 3)
                try client.send(words(0x8010_0000))
                await eventually("it doesn't wait") { server.counters.budgetWaits == number }
                if number.isMultiple(of: 2) { client.reset() } else { client.close() }
            }
            await eventually("closed connections are in line") { server.counters.connectionsWaiting == 0 }
            await eventually("they stay open") { server.counters.connectionsOpen == 1 }
            let live = try TestClient(port: server.port, from: 3)
            try live.send(call(1, bytes: 500_000))
            await eventually("it doesn't wait") { server.counters.connectionsWaiting == 1 }
            holder.close()
            #expect(try live.receive() == acceptedReply(xid: 1, status: 0))
            await eventually("bytes stay in use") { server.counters.bytesInUse == 0 }
        }
    }

    @Test("readers that take nothing get a part of their address's share, and are closed while somebody waits")
    func slowReaders() async throws {
        var bounds = RPCBounds()
        bounds.maxBytes = 48 << 20
        bounds.contendedStallTimeout = .milliseconds(400)
        let reply = RPCReplyBody(
            ByteBuffer(bytes: words(1 << 20)), payload: Payload(ByteBuffer(repeating: 3, count: 1 << 20)))
        try await withServer(bounds: bounds) { call in
            call.procedure == 2 ? .success(reply) : Self.empty
        } test: { server in
            let readers = try (0..<8).map { _ in
                try TestClient(port: server.port, from: 2, receiveBufferBytes: 64 << 10)
            }
            for reader in readers { for xid: UInt32 in 0..<64 { try reader.send(call(xid, procedure: 2)) } }
            for xid: UInt32 in 0..<5 {
                let witness = try TestClient(port: server.port, from: 3)
                try witness.send(call(xid, bytes: 500_000) + call(xid, procedure: 2))
                #expect(try witness.receive(2).count == 2)
            }
            // Those that are left, with 4 MiB each, no longer wait.
            await eventually("they stay") { server.counters.stalledReplies >= 3 }
            #expect(server.counters.bytesInUse <= 48 << 20)
        }
    }

    @Test("what was executed before a bad record is answered")
    func answersBeforeBadRecord() async throws {
        let gate = Gate()
        try await withServer { call in
            if call.procedure == 2 { await gate.pass() }
            return Self.empty
        } test: { server in
            for bad in [words(0xffff_ffff), fragment([1, 2, 3])] {
                let client = try TestClient(port: server.port)
                try client.send(call(1) + call(2, procedure: 2) + bad + call(3))
                #expect(try client.receive() == acceptedReply(xid: 1, status: 0))
                await eventually("the bad one isn't seen") {
                    server.counters.badRecords + server.counters.badMessages > 0
                }
                gate.open()
                #expect(try client.receive() == acceptedReply(xid: 2, status: 0))
                #expect(try client.isAtEnd())
            }
        }
    }

    @Test("much input that waits makes reads small")
    func unparsedInput() async throws {
        let unparsed = UnparsedInput()
        let buffers = ReceiveBuffers(unparsed, maxUnparsedBytes: 1000)
        #expect(buffers.nextBufferSize() == 64 << 10)
        unparsed.change(by: 1000)
        #expect(buffers.nextBufferSize() == ReceiveBuffers.smallBytes)
        #expect(buffers.buffer(allocator: ByteBufferAllocator()).capacity == ReceiveBuffers.smallBytes)
        unparsed.change(by: -1)
        #expect(buffers.nextBufferSize() == 64 << 10)
    }

    @Test("input that waits for room is counted, and no longer when it is used or forgotten")
    func unparsedInputIsCounted() async throws {
        var bounds = RPCBounds()
        bounds.maxCallsInFlight = 1
        let gate = Gate()
        try await withServer(bounds: bounds) { call in
            await gate.pass()
            return Self.empty
        } test: { server in
            let clients = try (0..<3).map { _ in try TestClient(port: server.port) }
            for client in clients { try client.send((0..<100).flatMap { call($0) }) }
            await eventually("it isn't counted") { server.counters.unparsedBytes >= 3 * 4400 }
            clients[0].reset()
            gate.open()
            for client in clients[1...] { #expect(try client.receive(100).count == 100) }
            await eventually("it is still counted") { server.counters.unparsedBytes == 0 }
        }
    }

    @Test("bad records of one client are counted each and close only their connections")
    func flood() async throws {
        try await withServer { _ in
            Self.empty
        } test: { server in
            for _ in 0..<50 {
                let client = try TestClient(port: server.port)
                try client.send(words(0xffff_ffff))
                #expect(try client.isAtEnd())
            }
            #expect(server.counters.badRecords == 50)
            let client = try TestClient(port: server.port)
            try ask(client, 1)
            await eventually("bytes stay in use") { server.counters.bytesInUse == 0 }
        }
    }
}
