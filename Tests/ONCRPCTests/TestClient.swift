// A client that is nothing but a blocking socket. Each wait has a limit, so a server that hangs fails a test
// instead of hanging it.

import Glibc
import NIOPosix

/// A connection to 127.0.0.1.
final class TestClient {
    struct Failure: Error, CustomStringConvertible {
        let description: String
        init(_ operation: String) { description = "\(operation): \(String(cString: strerror(errno)))" }
    }

    private var descriptor: Int32

    /// - Parameter source: the last byte of the address in 127.0.0.0/8 from which it connects.
    init(port: Int, from source: UInt32 = 1, receiveBufferBytes: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if var bytes = receiveBufferBytes { setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, 4) }
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let bound = Self.withAddress(0x7f00_0000 | source, port: 0) { bind(descriptor, $0, $1) }
        guard bound == 0 else { throw Failure("bind") }
        let result = Self.withAddress(0x7f00_0001, port: port) { connect(descriptor, $0, $1) }
        guard result == 0 else { throw Failure("connect") }
    }

    private static func withAddress(
        _ bits: UInt32, port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = bits.bigEndian
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    deinit { close() }

    func close() {
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
        descriptor = -1
    }

    /// Closes with a reset.
    func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
        close()
    }

    /// Sends FIN; replies can still be received.
    func closeOutput() { shutdown(descriptor, Int32(SHUT_WR)) }

    func send(_ bytes: [UInt8]) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Failure("send") }
            rest = rest.dropFirst(count)
        }
    }

    /// Sends one byte, slowly: some hundred per second.
    func trickle() throws {
        usleep(5000)
        try send([1])
    }

    /// How many bytes the server takes before it lets the client wait for `patience`.
    func sendUntilBlocked(_ bytes: [UInt8], patienceMilliseconds: Int) throws -> Int {
        var limit = timeval(tv_sec: 0, tv_usec: patienceMilliseconds * 1000)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EAGAIN { return sent }
            guard count > 0 else { throw Failure("send") }
            sent += count
        }
        return sent
    }

    /// The next reply, without its mark; nil at the end of the stream.
    func receive() throws -> [UInt8]? {
        guard let mark = try receive(count: 4) else { return nil }
        let bits = mark.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard bits & 0x8000_0000 != 0 else { throw Failure("a reply in more than one fragment") }
        return try receive(count: Int(bits & 0x7fff_ffff))
    }

    /// The next `count` replies, in whatever order.
    func receive(_ count: Int) throws -> Set<[UInt8]> {
        var replies: Set<[UInt8]> = []
        for _ in 0..<count {
            guard let reply = try receive() else { return replies }
            replies.insert(reply)
        }
        return replies
    }

    /// Whether the stream ended, by FIN or reset, with no more replies.
    func isAtEnd() throws -> Bool {
        do {
            return try receive(count: 1) == nil
        } catch {
            guard errno == ECONNRESET else { throw error }
            return true
        }
    }

    private func receive(count: Int) throws -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let received = bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress! + done, count - done, 0) }
            if received == 0, done == 0 { return nil }
            guard received > 0 else { throw Failure("recv after \(done) of \(count) bytes") }
            done += received
        }
        return bytes
    }
}

extension TestClient: @unchecked Sendable {}

/// Runs what blocks while other tasks of a test have to go on: there may be as few of Swift's own threads as
/// there are processors.
func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await NIOThreadPool.singleton.runIfActive(body)
}
