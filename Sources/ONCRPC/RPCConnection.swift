// One connection: bytes in, calls started, replies out.
//
// Everything here runs on the connection's event loop, except what RegisteredConnection has, which hops to it; that
// is why the class may call itself Sendable. There are no locks.
//
// A call is started as soon as its record is complete and there is room for it, in order of arrival, and runs
// at once up to its first suspension. Replies are collected and flushed together: at the end of a read, or in
// the next turn of the event loop. When there is no room, records stay unparsed in the reader and nothing
// more is asked of the socket; each batch of replies that has reached the kernel starts it again.
//
// Bytes that were not asked for come when the client has sent its last byte or reset the connection: NIO then reads
// to the end. They waited in the socket, and their client may have sent them again elsewhere since: they are thrown
// away. What came before that is started while there is room, also when a FIN follows at once, since a client may
// close its half of the connection and wait for the replies.
//
// Life: serving → draining (the client has sent its last byte, or the server shuts down: calls in flight end and
// are answered, no call is started) → lingering (the last reply is in the kernel, our side is closed) →
// closed (calls that still run end unanswered).

internal import Logging
internal import NIOCore
internal import Platform
internal import Synchronization

/// The handler at the end of a connection's pipeline.
final class RPCConnection<Dispatcher: RPCDispatcher>: ChannelDuplexHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = Never
    typealias OutboundOut = ByteBuffer

    enum Phase { case serving, draining, lingering, closed }

    let dispatcher: Dispatcher
    private let bounds: RPCBounds
    let counters: RPCCounterCells
    let registry: ConnectionRegistry
    let duplicateRequests: DuplicateRequests
    private let logger: Logger
    let eventLoop: any EventLoop
    private let executor: EventLoopTaskExecutor
    private var context: ChannelHandlerContext?
    private var peer: SocketAddress?
    private(set) var client: ClientAddress?
    private(set) var number = ConnectionNumber(rawValue: 0)

    private(set) var phase = Phase.serving
    private var reader: RecordReader
    var load: ConnectionLoad
    /// Calls whose handler hasn't returned.
    private var runningCalls = 0
    /// Copies of calls that run on other connections, whose answers come here.
    var awaitedAnswers = 0
    /// The client uses a younger connection. Set from any thread; the rest of giving up follows on the event loop.
    let isGivenUp = Atomic<Bool>(false)
    /// The client has sent its last byte.
    private var inputIsClosed = false
    /// The channel asked for a read while there was no room.
    private var readIsHeld = false
    private var isStartingCalls = false
    /// Between a read and its completion, which flushes.
    private var isReading = false
    private var flushIsScheduled = false
    private var outgoing: [ByteBuffer] = []

    init(
        dispatcher: Dispatcher, bounds: RPCBounds, counters: RPCCounterCells, registry: ConnectionRegistry,
        duplicateRequests: DuplicateRequests, logger: Logger, eventLoop: any EventLoop
    ) {
        self.dispatcher = dispatcher
        self.bounds = bounds
        self.counters = counters
        self.registry = registry
        self.duplicateRequests = duplicateRequests
        self.logger = logger
        self.eventLoop = eventLoop
        executor = EventLoopTaskExecutor(eventLoop)
        reader = RecordReader(maxRecordBytes: bounds.maxRecordBytes, maxFragments: bounds.maxFragmentsPerRecord)
        load = ConnectionLoad(bounds)
    }

    // MARK: Events of the channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func channelActive(context: ChannelHandlerContext) {
        RPCCounterCells.increment(counters.connectionsAccepted)
        RPCCounterCells.increment(counters.connectionsOpen)
        peer = context.remoteAddress
        client = peer.flatMap(ClientAddress.init)
        // Without an address the client is gone already.
        guard client != nil, let number = registry.add(self) else { return close() }
        self.number = number
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard phase == .serving else { return }
        if readIsHeld { return startDraining() }
        isReading = true
        reader.receive(unwrapInboundIn(data))
        startCalls()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        isReading = false
        flush()
    }

    /// The channel asks, after each read, whether to read again.
    func read(context: ChannelHandlerContext) {
        if wantsBytes {
            context.read()
        } else {
            readIsHeld = true
            if phase == .serving { RPCCounterCells.increment(counters.readingPauses) }
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) { proceed() }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case .some(.inputClosed) = event as? ChannelEvent else { return }
        inputIsClosed = true
        isReading = false
        flush()
        startDraining()
        if phase == .lingering { close() }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        logger.debug("connection failed", metadata: metadata(["error": "\(error)"]))
        close()
    }

    func channelInactive(context: ChannelHandlerContext) {
        RPCCounterCells.decrement(counters.connectionsOpen)
        phase = .closed
        reader.discard()
        outgoing = []
        leaveRegistryIfDone()
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    // MARK: Calls

    /// Whether another call may be started.
    private var hasRoom: Bool {
        phase == .serving && load.hasRoom && context?.channel.isWritable == true
            && !isGivenUp.load(ordering: .acquiring)
    }

    /// While lingering, bytes are read to be thrown away.
    private var wantsBytes: Bool { hasRoom || phase == .lingering }

    /// Starts the calls that have arrived, as far as there is room. Calls that end at once come back to here
    /// through their replies; the flag turns that into a loop.
    private func startCalls() {
        guard !isStartingCalls else { return }
        isStartingCalls = true
        defer { isStartingCalls = false }
        while hasRoom {
            do throws(RecordReader.Failure) {
                guard let record = try reader.next() else { return }
                receive(record)
            } catch {
                RPCCounterCells.increment(counters.badRecords)
                logger.warning("connection closed: bad record", metadata: metadata(["reason": "\(error)"]))
                close()
            }
            if load.unflushed.bytes >= bounds.maxUnsentReplyBytes { flush() }
        }
    }

    private func receive(_ record: Payload) {
        switch CallMessage(record) {
        case .call(let header):
            load.begin(recordBytes: record.count)
            guard let versions = dispatcher.versions(ofProgram: header.program) else {
                return reply(.programUnavailable, xid: header.xid, recordBytes: record.count)
            }
            guard versions.contains(header.version) else {
                return reply(.programMismatch(versions), xid: header.xid, recordBytes: record.count)
            }
            start(header, record)
        case .wrongRPCVersion(let xid):
            load.begin(recordBytes: record.count)
            reply(.rpcMismatch, xid: xid, recordBytes: record.count)
        case .rejected(let xid, let status):
            load.begin(recordBytes: record.count)
            reply(.authenticationError(status), xid: xid, recordBytes: record.count)
        case .reply:
            RPCCounterCells.increment(counters.unexpectedReplies)
        case .undecodable:
            RPCCounterCells.increment(counters.badMessages)
            logger.warning("connection closed: not an RPC message", metadata: metadata(["bytes": "\(record.count)"]))
            close()
        }
    }

    private func start(_ header: CallMessage.Header, _ record: Payload) {
        let call = RPCCall(
            xid: header.xid, program: header.program, version: header.version, procedure: header.procedure,
            credential: header.credential, clientAddress: peer, record: record, argumentsStart: header.length)
        let recordBytes = record.count
        guard let client, dispatcher.mustNotRepeat(call) else {
            return run(call, recordBytes: recordBytes, as: nil)
        }
        let key = DuplicateRequestCache.Key(call, from: client)
        if isFirst(call, key, recordBytes: recordBytes) { run(call, recordBytes: recordBytes, as: key) }
    }

    private func run(_ call: RPCCall, recordBytes: Int, as key: DuplicateRequestCache.Key?) {
        RPCCounterCells.increment(counters.calls)
        RPCCounterCells.increment(counters.callsInFlight)
        runningCalls += 1
        Task.immediate(executorPreference: executor) {
            let outcome = await dispatcher.handle(call)
            end(xid: call.xid, recordBytes: recordBytes, key, outcome)
        }
    }

    private func end(xid: UInt32, recordBytes: Int, _ key: DuplicateRequestCache.Key?, _ outcome: RPCOutcome) {
        eventLoop.preconditionInEventLoop()
        RPCCounterCells.decrement(counters.callsInFlight)
        runningCalls -= 1
        let message = ReplyMessage(outcome)
        let isAnsweredHere = key.map { answersHere($0, message, xid: xid) } ?? true
        if phase == .closed {
            leaveRegistryIfDone()
        } else if isAnsweredHere {
            reply(message, xid: xid, recordBytes: recordBytes)
        } else {
            load.drop(calls: 1, recordBytes: recordBytes)
            proceed()
        }
    }

    // MARK: Replies

    func reply(_ message: ReplyMessage, xid: UInt32, recordBytes: Int) {
        counters.count(message)
        let replyBytes = message.encode(xid: xid, into: &outgoing)
        load.reply(recordBytes: recordBytes, replyBytes: replyBytes)
        guard !isReading, !flushIsScheduled else { return }
        flushIsScheduled = true
        eventLoop.execute {
            self.flushIsScheduled = false
            self.flush()
        }
    }

    private func flush() {
        guard phase != .closed, let context, let last = outgoing.popLast() else { return }
        let batch = load.flush()
        for buffer in outgoing { context.write(wrapOutboundOut(buffer), promise: nil) }
        outgoing.removeAll(keepingCapacity: true)
        let written = eventLoop.makePromise(of: Void.self)
        written.futureResult.whenSuccess {
            self.load.sent(batch)
            self.proceed()
        }
        // After an error the channel closes, and nothing is accounted any more.
        context.writeAndFlush(wrapOutboundOut(last), promise: written)
    }

    /// Something was sent: there may be room again, or nothing left to do.
    func proceed() {
        startCalls()
        lingerIfDrained()
        if readIsHeld, wantsBytes {
            readIsHeld = false
            context?.read()
        }
    }

    // MARK: The end

    func startDraining() {
        guard phase == .serving else { return }
        phase = .draining
        reader.discard()
        lingerIfDrained()
    }

    private func lingerIfDrained() {
        guard phase == .draining, load.calls == 0, let context else { return }
        if inputIsClosed {
            close()
            return
        }
        phase = .lingering
        context.close(mode: .output, promise: nil)
        eventLoop.scheduleTask(in: TimeAmount(bounds.linger)) { self.close() }
        proceed()
    }

    func close() {
        guard phase != .closed else { return }
        phase = .closed
        reader.discard()
        context?.close(promise: nil)
    }

    /// Calls of a closed connection still use what is above; only then is it gone.
    private func leaveRegistryIfDone() {
        if context?.channel.isActive != true, runningCalls == 0 { registry.remove(number) }
    }

    private func metadata(_ more: Logger.Metadata) -> Logger.Metadata {
        more.merging(["client": "\(peer.map(String.init(describing:)) ?? "unknown")"]) { value, _ in value }
    }
}
