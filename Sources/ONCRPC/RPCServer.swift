public import Logging
public import NIOCore

/// A TCP server for ONC-RPC programs.
public final class RPCServer<Dispatcher: RPCDispatcher>: Sendable {
    /// Where it listens, with the port that was picked when 0 was asked for.
    public let localAddress: SocketAddress

    private init(localAddress: SocketAddress) { self.localAddress = localAddress }

    /// Listens and serves until `shutdown`.
    /// - Parameters:
    ///   - host: a name or address of this machine.
    ///   - port: 0 picks a free one.
    public static func start(
        host: String, port: Int, dispatcher: Dispatcher, group: any EventLoopGroup, logger: Logger,
        bounds: RPCBounds = RPCBounds()
    ) async throws -> RPCServer {
        fatalError("the implementation follows in the next commit")
    }

    /// What was counted since the start; may be called from any thread.
    public var counters: RPCCounters { RPCCounters() }

    /// Stops accepting and reading, lets calls in flight end and their replies be written within
    /// `RPCBounds.shutdownGrace`, and closes. Calls that were received but not started are dropped.
    public func shutdown() async {}
}
