// The listening socket and its connections. What happens on a connection is in RPCConnection.

public import Logging
public import NIOCore
internal import NIOPosix

/// A TCP server for ONC-RPC programs. May be used from any thread.
public final class RPCServer<Dispatcher: RPCDispatcher>: Sendable {
    /// Where it listens, with the port that was picked when 0 was asked for.
    public let localAddress: SocketAddress
    private let channel: any Channel
    private let registry: ConnectionRegistry
    private let cells: RPCCounterCells
    private let duplicateRequests: DuplicateRequests
    private let bounds: RPCBounds
    private let logger: Logger

    private init(
        localAddress: SocketAddress, channel: any Channel, registry: ConnectionRegistry, cells: RPCCounterCells,
        duplicateRequests: DuplicateRequests, bounds: RPCBounds, logger: Logger
    ) {
        self.localAddress = localAddress
        self.channel = channel
        self.registry = registry
        self.cells = cells
        self.duplicateRequests = duplicateRequests
        self.bounds = bounds
        self.logger = logger
    }

    /// Listens and serves until `shutdown`.
    /// - Parameters:
    ///   - host: a name or address of this machine.
    ///   - port: 0 picks a free one.
    ///   - group: where connections live; the caller shuts it down, after the server.
    /// - Throws: what kept it from listening there.
    public static func start(
        host: String, port: Int, dispatcher: Dispatcher, group: any EventLoopGroup, logger: Logger,
        bounds: RPCBounds = RPCBounds()
    ) async throws -> RPCServer {
        let registry = ConnectionRegistry()
        let cells = RPCCounterCells()
        let duplicateRequests = DuplicateRequests(bounds.duplicateRequests)
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(
                .writeBufferWaterMark,
                value: .init(low: bounds.maxUnsentReplyBytes / 2, high: bounds.maxUnsentReplyBytes)
            )
            // 256 KiB: larger ones don't make loopback faster, and a piece of at least half is kept as it is.
            .childChannelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(minimum: 2 << 10, initial: 64 << 10, maximum: 256 << 10)
            )
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        RPCConnection(
                            dispatcher: dispatcher, bounds: bounds, counters: cells, registry: registry,
                            duplicateRequests: duplicateRequests, logger: logger, eventLoop: channel.eventLoop))
                }
            }
            .bind(host: host, port: port).get()
        guard let localAddress = channel.localAddress else {
            preconditionFailure("a listening socket without an address")
        }
        return RPCServer(
            localAddress: localAddress, channel: channel, registry: registry, cells: cells,
            duplicateRequests: duplicateRequests, bounds: bounds, logger: logger)
    }

    /// What was counted since the start.
    public var counters: RPCCounters {
        var counters = cells.snapshot
        duplicateRequests.addCounters(to: &counters)
        return counters
    }

    /// Stops accepting and reading, lets calls in flight end and their replies be written within
    /// `RPCBounds.shutdownGrace`, and closes. Calls that were received but not started are dropped. After the
    /// grace, calls may still be running, without anyone to answer. Not twice at once.
    public func shutdown() async {
        do {
            try await channel.close()
        } catch ChannelError.alreadyClosed {
            // A second shutdown, or a socket that failed: there is nothing to close.
        } catch {
            logger.warning("closing the listening socket failed", metadata: ["error": "\(error)"])
        }
        let deadline = channel.eventLoop.scheduleTask(in: TimeAmount(bounds.shutdownGrace)) {
            self.logger.warning(
                "shutdown: connections closed with calls in flight",
                metadata: [
                    "connections": "\(self.registry.count)", "calls": "\(self.counters.callsInFlight)",
                ])
            self.registry.giveUp()
        }
        await registry.drain()
        deadline.cancel()
    }
}
