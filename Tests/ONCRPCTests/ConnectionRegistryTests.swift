// Which connection is closed for a new one, when there are too many.

import NIOCore
import Synchronization
import Testing

@testable import ONCRPC

@Suite("connection registry")
struct ConnectionRegistryTests {
    private final class Connection: RegisteredConnection {
        let number: UInt64
        let client: Int
        let idleness = ConnectionIdleness()
        let stalled = Atomic<Bool>(false)
        var isStalled: Bool { stalled.load(ordering: .relaxed) }

        init(_ number: UInt64, client: Int) {
            self.number = number
            self.client = client
        }

        func drain() {}
        func abort() {}
        func giveUp() {}
        func deliver(_: ReplyMessage, xid: UInt32) {}
    }

    /// A registry, and what it has let in and closed.
    private final class Fixture {
        let registry: ConnectionRegistry
        private(set) var connections: [Connection] = []
        private var lastNumber: UInt64 = 0

        init(maxConnections: Int) { registry = ConnectionRegistry(maxConnections: maxConnections) }

        func connections(of client: Int) -> [Connection] { connections.filter { $0.client == client } }

        /// The number of the connection that was closed for a new one, 0 for none; nil when the new one is refused.
        @discardableResult
        func connect(_ client: Int, isBusy: Bool = true) throws -> UInt64? {
            lastNumber += 1
            let connection = Connection(lastNumber, client: client)
            let address = try #require(
                ClientAddress(try SocketAddress(ipAddress: "10.0.\(client / 256).\(client % 256)", port: 700)))
            guard
                case .admitted(let evicted) = registry.add(
                    connection, ConnectionNumber(rawValue: lastNumber), of: address)
            else { return nil }
            if isBusy { #expect(connection.idleness.end()) }
            let closed = (evicted as? Connection)?.number
            connections.removeAll { $0.number == closed }
            connections.append(connection)
            return closed ?? 0
        }

        func close(_ number: UInt64) {
            connections.removeAll { $0.number == number }
            registry.remove(ConnectionNumber(rawValue: number))
        }
    }

    @Test("an address that has all connections, none of them idle, makes room for others: first who has stalled")
    func fullOfOne() throws {
        let test = Fixture(maxConnections: 6)
        for _ in 0..<6 { #expect(try test.connect(1) == 0) }
        #expect(try test.connect(1) == nil, "it has the most itself")
        test.connections[2].stalled.store(true, ordering: .relaxed)
        #expect(try test.connect(2) == 3, "it has stalled")
        #expect(try test.connect(3) == 6, "the youngest")
        #expect(try test.connect(2) == 5)
        #expect(try test.connect(3) == 4)
        #expect(test.connections.map(\.client).sorted() == [1, 1, 2, 2, 3, 3])
        #expect(try test.connect(3) == nil, "it would have three, more than anybody else")
        #expect(try test.connect(4) == 11, "the youngest of all who have two")
        #expect(try test.connect(5) == 10)
        #expect(try test.connect(6) == 2)
        #expect(test.connections.map(\.client).sorted() == [1, 2, 3, 4, 5, 6])
        #expect(try test.connect(7) == nil, "with one each nobody has more than it would have")
    }

    @Test("an idle connection of the address with the most is closed, never one of who has fewer")
    func idle() throws {
        let test = Fixture(maxConnections: 8)
        try test.connect(1, isBusy: false)
        try test.connect(2, isBusy: false)
        for _ in 0..<5 { try test.connect(3) }
        try test.connect(3, isBusy: false)
        #expect(try test.connect(4) == 8, "its only idle one")
        #expect(try test.connect(5) == 7, "its youngest")
        // Churn.
        for _ in 0..<100 { try test.connect(3, isBusy: false) }
        for client in [1, 2, 4, 5] { #expect(test.connections(of: client).count == 1) }
        #expect(test.connections(of: 3).count == 4)
    }

    @Test("of many addresses with one each the connection that has been idle longest is closed")
    func oneEach() throws {
        let test = Fixture(maxConnections: 4)
        for client in 1...4 { try test.connect(client, isBusy: false) }
        #expect(try test.connect(5, isBusy: false) == 1)
        // Bytes of a record arrive.
        test.connections(of: 2)[0].idleness.renew()
        #expect(try test.connect(6, isBusy: false) == 3)
        #expect(try test.connect(6, isBusy: false) == 6, "its own")
        for connection in test.connections { #expect(connection.idleness.end()) }
        #expect(try test.connect(7) == nil)
        test.connections(of: 6)[0].stalled.store(true, ordering: .relaxed)
        #expect(try test.connect(7) == nil)
        #expect(try test.connect(6) == 7, "its own that has stalled")
    }

    @Test("addresses that want all connections get as many each, whatever the order")
    func fairness() throws {
        let test = Fixture(maxConnections: 40)
        for client in 1...5 { for _ in 0..<100 { try test.connect(client) } }
        for client in 1...5 { #expect((7...9).contains(test.connections(of: client).count)) }
        #expect(test.connections.count == 40)
    }

    @Test("who is closed for another one doesn't count from then on; who leaves makes room")
    func counts() throws {
        let test = Fixture(maxConnections: 2)
        try test.connect(1)
        try test.connect(1)
        #expect(try test.connect(2) == 2)
        #expect(test.registry.count == 3, "its calls may still run")
        test.close(2)
        #expect(test.registry.count == 2)
        #expect(try test.connect(3) == nil)
        test.close(1)
        #expect(try test.connect(3) == 0)
        #expect(try test.connect(2) == nil)
    }
}
