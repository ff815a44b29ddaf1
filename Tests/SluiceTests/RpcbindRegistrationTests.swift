// What is registered with rpcbind for an address; the calls themselves are tested in Tests/EndToEnd/test_exports.py.

import NIOCore
import NIOPosix
import Testing

@testable import sluice

@Suite("rpcbind registration")
struct RpcbindRegistrationTests {
    private func lines(_ address: String) throws -> [String] {
        let address = try SocketAddress(ipAddress: address, port: 2049)
        let mappings =
            RpcbindRegistration.served(at: address) + RpcbindRegistration.lockManager(at: address)
        return mappings.map { "\($0.program) \($0.version) \($0.netid) \($0.universalAddress)" }
    }

    /// RFC 5665 §5.2.3.3 and §5.2.3.4.
    private func expected(_ places: String...) -> [String] {
        places.flatMap { place in ["100003 3 \(place)", "100005 3 \(place)"] }
            + places.flatMap { place in ["100021 1 \(place)", "100021 3 \(place)", "100021 4 \(place)"] }
    }

    @Test("an address is registered for its family; \"::\" for both, as NIO serves both there")
    func families() throws {
        #expect(try lines("192.0.2.1") == expected("tcp 192.0.2.1.8.1"))
        #expect(try lines("0.0.0.0") == expected("tcp 0.0.0.0.8.1"))
        #expect(try lines("2001:db8::1") == expected("tcp6 2001:db8::1.8.1"))
        #expect(try lines("::1") == expected("tcp6 ::1.8.1"))
        #expect(try lines("::") == expected("tcp6 ::.8.1", "tcp 0.0.0.0.8.1"))
    }

    @Test("IPv4 clients are served at \"::\"")
    func bothFamilies() async throws {
        let server: any Channel
        do {
            server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton).bind(host: "::", port: 0)
                .get()
        } catch let error as IOError where error.errnoCode == EAFNOSUPPORT || error.errnoCode == EADDRNOTAVAIL {
            return  // A machine without IPv6.
        }
        let port = try #require(server.localAddress?.port)
        let client = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(host: "127.0.0.1", port: port).get()
        try await client.close()
        try await server.close()
    }
}
