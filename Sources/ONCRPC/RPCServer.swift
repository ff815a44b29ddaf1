// The listening socket and its connections. What happens on a connection is in RPCConnection.

internal import Glibc
public import Logging
public import NIOCore
internal import NIOPosix

/// A TCP server for ONC-RPC programs. May be used from any thread.
public final class RPCServer<Dispatcher: RPCDispatcher>: Sendable {
    /// Where it listens, with the port that was picked when 0 was asked for.
    public let localAddress: SocketAddress
    private let channel: any Channel
    private let parts: ServerParts<Dispatcher>

    private init(localAddress: SocketAddress, channel: any Channel, parts: ServerParts<Dispatcher>) {
        self.localAddress = localAddress
        self.channel = channel
        self.parts = parts
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
        let parts = ServerParts(dispatcher: dispatcher, bounds: bounds, logger: logger)
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(acceptGuard(parts))
                }
            }
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            // A client that is gone without a word is noticed after 2 + 8 × 0.25 minutes.
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPIDLE)), value: 120)
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPINTVL)), value: 15)
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPCNT)), value: 8)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(
                .writeBufferWaterMark,
                value: .init(low: bounds.maxUnsentReplyBytes / 2, high: bounds.maxUnsentReplyBytes)
            )
            .childChannelOption(
                .recvAllocator,
                value: ReceiveBuffers(parts.unparsed, maxUnparsedBytes: bounds.maxUnparsedBytes)
            )
            // One per turn: what a connection was sent and can't be used yet is at most that.
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        RPCConnection(
                            parts, number: parts.acceptOrder.take(channel), eventLoop: channel.eventLoop))
                }
            }
            .bind(host: host, port: port).get()
        guard let localAddress = channel.localAddress else {
            preconditionFailure("a listening socket without an address")
        }
        return RPCServer(localAddress: localAddress, channel: channel, parts: parts)
    }

    private static func acceptGuard(_ parts: ServerParts<Dispatcher>) -> AcceptGuard {
        AcceptGuard(onAccept: parts.acceptOrder.number) { error in
            RPCCounterCells.increment(parts.counters.acceptFailures)
            parts.complaints.log(.notAccepted, of: nil, ["error": "\(error)"])
        }
    }

    /// What was counted since the start.
    public var counters: RPCCounters {
        var counters = parts.counters.snapshot
        counters.bytesInUse = parts.budget.used + parts.newcomersBudget.used
        counters.connectionsWaiting = parts.budget.waiting + parts.newcomersBudget.waiting
        counters.unparsedBytes = parts.unparsed.bytes
        parts.duplicateRequests.addCounters(to: &counters)
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
            parts.logger.warning("closing the listening socket failed", metadata: ["error": "\(error)"])
        }
        let deadline = channel.eventLoop.scheduleTask(in: TimeAmount(parts.bounds.shutdownGrace)) {
            self.parts.logger.warning(
                "shutdown: connections closed with calls in flight",
                metadata: [
                    "connections": "\(self.parts.registry.count)", "calls": "\(self.counters.callsInFlight)",
                ])
            self.parts.registry.giveUp()
        }
        await parts.registry.drain()
        deadline.cancel()
    }
}
