// How `sluice status` asks a gateway that runs: a Unix socket in the data directory. Who connects gets
// the status as one line of JSON. Only the owner may connect (mode 0600).
//
// Names of Unix sockets are at most 107 bytes long, paths of data directories can be longer, so both
// sides go through /proc/self/fd/N of the opened directory.

import EmbeddedFileService
import Foundation
import Glibc
import NIOCore
import NIOPosix

enum ControlSocket {
    private static let name = "control.sock"

    /// Answers with what `status` returns until the channel is closed.
    static func serve(
        in data: String, group: any EventLoopGroup, status: @escaping @Sendable () async -> StoreStatus
    ) async throws(Refusal) -> any Channel {
        let directory = try Directory(data)
        unlink("\(data)/\(name)")
        let bootstrap = ServerBootstrap(group: group)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    Task {
                        let encoder = JSONEncoder()
                        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
                        if let json = try? encoder.encode(await status()) {
                            try? await channel.writeAndFlush(ByteBuffer(bytes: json))
                        }
                        try? await channel.close()
                    }
                }
            }
        do {
            let channel = try await bootstrap.bind(
                unixDomainSocketPath: "\(directory.path)/\(name)", cleanupExistingSocketFile: false
            ).get()
            chmod("\(data)/\(name)", 0o600)
            return channel
        } catch {
            throw Refusal(.configuration, "cannot listen on \(data)/\(name): \(error)")
        }
    }

    /// Takes the socket away at the end.
    static func remove(from data: String) { unlink("\(data)/\(name)") }

    /// The status of the gateway that serves the store; nil when none does.
    static func ask(in data: String) -> StoreStatus? {
        guard let directory = try? Directory(data) else { return nil }
        let socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { return nil }
        defer { close(socket) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: "\(directory.path)/\(name)".utf8) }
        let isConnected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        guard isConnected else { return nil }
        var json = Data()
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(socket, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { break }
            json.append(contentsOf: buffer[..<count])
        }
        return try? JSONDecoder().decode(StoreStatus.self, from: json)
    }

    /// An open directory under a short name.
    private final class Directory: Sendable {
        private let descriptor: Int32
        var path: String { "/proc/self/fd/\(descriptor)" }

        init(_ path: String) throws(Refusal) {
            descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard descriptor >= 0 else { throw Refusal(.configuration, "\(path): \(String(cString: strerror(errno)))") }
        }

        deinit { close(descriptor) }
    }
}
