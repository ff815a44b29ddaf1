// What the listening socket does when the process has no descriptor left. NIO tries again at once, and spins: it stays
// registered for a connection that it cannot accept (its AcceptBackoffHandler delays only a read that NIO doesn't wait
// for). So a spare descriptor is kept; it is given up for the connection that waits, which is then closed at once,
// and taken again. A client sees a closed connection and comes again later, instead of one that nobody answers.
//
// Only used on the listening socket's event loop. Bounds make this rare: `RPCBounds.maxConnections` is what the
// descriptors that are set aside for connections allow.

internal import Glibc
internal import NIOCore

/// The first handler of the listening socket's pipeline.
final class AcceptGuard: ChannelInboundHandler {
    typealias InboundIn = any Channel

    private let onAccept: (any Channel) -> Void
    private let onFailure: (any Error) -> Void
    private var spare: CInt?
    private var isRemoved = false

    /// - Parameters:
    ///   - onAccept: is told of each connection, in the order of acceptance, before it begins.
    ///   - onFailure: is told of each that couldn't be accepted.
    init(onAccept: @escaping (any Channel) -> Void, onFailure: @escaping (any Error) -> Void) {
        self.onAccept = onAccept
        self.onFailure = onFailure
        takeSpare()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        onFailure(error)
        if let code = (error as? IOError)?.errnoCode, code == EMFILE || code == ENFILE, let spare {
            Glibc.close(spare)
            self.spare = nil
        } else if error is IOError {
            // No memory for a socket, or somebody was quicker to take the spare descriptor. Holding up the other
            // connections of this event loop for a moment is better than trying again thousands of times in it.
            usleep(10_000)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if spare == nil { takeSpare() }
        let connection = unwrapInboundIn(data)
        guard spare == nil else {
            onAccept(connection)
            return context.fireChannelRead(data)
        }
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        connection.closeFuture.hop(to: context.eventLoop).whenComplete { _ in bound.value.takeSpare() }
        connection.close(promise: nil)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        if let spare { Glibc.close(spare) }
        spare = nil
        isRemoved = true
    }

    private func takeSpare() {
        guard spare == nil, !isRemoved else { return }
        let descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
        spare = descriptor < 0 ? nil : descriptor
    }
}
