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
// Life: serving → draining (the client has sent its last byte, or one after which the stream can't be followed, or the
// server shuts down: calls in flight end and are answered, no call is started) → lingering (the last reply is in the kernel, our side is closed) →
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

    let parts: ServerParts<Dispatcher>
    var bounds: RPCBounds { parts.bounds }
    var counters: RPCCounterCells { parts.counters }
    let eventLoop: any EventLoop
    private let executor: EventLoopTaskExecutor
    private(set) var context: ChannelHandlerContext?
    private var peer: SocketAddress?
    private(set) var client: ClientAddress?
    let number: ConnectionNumber

    private(set) var phase = Phase.serving
    var reader: RecordReader
    var load: ConnectionLoad
    /// What a large record that is being received has from its budget, with the reply to it.
    var reservedBytes = 0
    /// Has not sent a whole large record yet.
    var isNewcomer = true
    var newcomersBudget: ByteBudget.Account
    /// What of `parts.unparsed` is from here.
    private var unparsedBytes = 0
    /// In whose line the connection waits; nothing is started or read until it is granted.
    var awaitedBudget: ByteBudget.Account?
    /// The call for which it waits; nil when it waits for a large record.
    var waitingCall: (call: RPCCall, charge: Int)?
    let idleness = ConnectionIdleness()
    private var isIdle = true
    var stallWatch = StallWatch()
    /// See `isStalled`; read from any thread.
    let hasStalled = Atomic<Bool>(false)
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

    init(_ parts: ServerParts<Dispatcher>, number: ConnectionNumber, eventLoop: any EventLoop) {
        self.parts = parts
        self.number = number
        self.eventLoop = eventLoop
        executor = EventLoopTaskExecutor(eventLoop)
        reader = RecordReader(
            maxRecordBytes: parts.bounds.maxRecordBytes, maxFragments: parts.bounds.maxFragmentsPerRecord,
            maxUnadmittedBytes: parts.bounds.maxUnadmittedRecordBytes)
        load = ConnectionLoad(parts.bounds, budget: parts.budget.account(of: nil))
        newcomersBudget = parts.newcomersBudget.account(of: nil)
    }

    // MARK: Events of the channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func channelActive(context: ChannelHandlerContext) {
        RPCCounterCells.increment(counters.connectionsAccepted)
        RPCCounterCells.increment(counters.connectionsOpen)
        peer = context.remoteAddress
        client = peer.flatMap(ClientAddress.init)
        // Without an address the client is gone already.
        guard let client else { return close() }
        load = ConnectionLoad(bounds, budget: parts.budget.account(of: client))
        newcomersBudget = parts.newcomersBudget.account(of: client)
        switch parts.registry.add(self, number, of: client) {
        case .admitted(let evicted):
            guard let evicted else { return }
            RPCCounterCells.increment(counters.connectionsEvicted)
            evicted.abort()
        case .refused:
            RPCCounterCells.increment(counters.connectionsRefused)
            complain(.refused)
            close()
        case .draining:
            close()
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard phase == .serving else { return }
        if readIsHeld { return startDraining() }
        isReading = true
        if isIdle { idleness.renew() }
        let bytes = unwrapInboundIn(data)
        stallWatch.received &+= bytes.readableBytes
        reader.receive(bytes)
        startCalls()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        isReading = false
        flush()
        watchForStalls()
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
        parts.logger.debug("connection failed", metadata: metadata(["error": "\(error)"]))
        close()
    }

    func channelInactive(context: ChannelHandlerContext) {
        RPCCounterCells.decrement(counters.connectionsOpen)
        phase = .closed
        discardInput()
        outgoing = []
        load.discardUnsent()
        stallWatch.stop()
        leaveRegistryIfDone()
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    // MARK: Calls

    /// Whether another call may be started.
    private var hasRoom: Bool {
        phase == .serving && load.hasRoom && awaitedBudget == nil && context?.channel.isWritable == true
            && !isGivenUp.load(ordering: .acquiring)
    }

    /// While lingering, bytes are read to be thrown away.
    var wantsBytes: Bool { hasRoom || phase == .lingering }

    /// Starts the calls that have arrived, as far as there is room. Calls that end at once come back to here
    /// through their replies; the flag turns that into a loop.
    func startCalls() {
        guard !isStartingCalls else { return }
        isStartingCalls = true
        defer {
            isStartingCalls = false
            countUnparsed()
        }
        while hasRoom {
            do throws(RecordReader.Failure) {
                guard let record = try reader.next() else {
                    if admitRecord() { continue }
                    return
                }
                stallWatch.records &+= 1
                guard endIdleness() else { return close() }
                receive(record)
                beginIdlenessIfIdle()
            } catch {
                RPCCounterCells.increment(counters.badRecords)
                complain(.badRecord, ["reason": "\(error)"])
                startDraining()
            }
            if load.unflushed.bytes >= bounds.maxUnsentReplyBytes { flush() }
        }
    }

    private func receive(_ record: Payload) {
        switch CallMessage(record) {
        case .call(let header):
            guard let versions = parts.dispatcher.versions(ofProgram: header.program) else {
                return answer(.programUnavailable, xid: header.xid)
            }
            guard versions.contains(header.version) else {
                return answer(.programMismatch(versions), xid: header.xid)
            }
            admit(
                RPCCall(
                    xid: header.xid, program: header.program, version: header.version, procedure: header.procedure,
                    credential: header.credential, clientAddress: peer, record: record, argumentsStart: header.length),
                recordBytes: record.count)
        case .wrongRPCVersion(let xid):
            answer(.rpcMismatch, xid: xid)
            complain(.rejected)
        case .rejected(let xid, let status):
            answer(.authenticationError(status), xid: xid)
            complain(.rejected)
        case .reply:
            releaseReservation()
            RPCCounterCells.increment(counters.unexpectedReplies)
        case .undecodable:
            RPCCounterCells.increment(counters.badMessages)
            complain(.badMessage, ["bytes": "\(record.count)"])
            startDraining()
        }
    }

    /// Answers a message that no program is given; its record is forgotten.
    private func answer(_ message: ReplyMessage, xid: UInt32) {
        releaseReservation()
        load.begin(charge: 0)
        reply(message, xid: xid, charge: 0)
    }

    /// - Parameter charge: has been taken from the budget.
    func start(_ call: RPCCall, charge: Int) {
        load.begin(charge: charge)
        guard let client, parts.dispatcher.mustNotRepeat(call) else { return run(call, charge: charge, as: nil) }
        let key = DuplicateRequestCache.Key(call, from: client)
        if isFirst(call, key, charge: charge) { run(call, charge: charge, as: key) }
    }

    private func run(_ call: RPCCall, charge: Int, as key: DuplicateRequestCache.Key?) {
        RPCCounterCells.increment(counters.calls)
        RPCCounterCells.increment(counters.callsInFlight)
        runningCalls += 1
        Task.immediate(executorPreference: executor) {
            let outcome = await parts.dispatcher.handle(call)
            end(xid: call.xid, charge: charge, key, outcome)
        }
    }

    private func end(xid: UInt32, charge: Int, _ key: DuplicateRequestCache.Key?, _ outcome: RPCOutcome) {
        eventLoop.preconditionInEventLoop()
        RPCCounterCells.decrement(counters.callsInFlight)
        runningCalls -= 1
        let message = ReplyMessage(outcome)
        if case .garbageArguments = outcome { complain(.garbageArguments) }
        let isAnsweredHere = key.map { answersHere($0, message, xid: xid) } ?? true
        if phase == .closed {
            load.drop(calls: 1, charge: charge)
            leaveRegistryIfDone()
        } else if isAnsweredHere {
            reply(message, xid: xid, charge: charge)
        } else {
            load.drop(calls: 1, charge: charge)
            proceed()
        }
    }

    // MARK: Replies

    func reply(_ message: ReplyMessage, xid: UInt32, charge: Int) {
        counters.count(message)
        let replyBytes = message.encode(xid: xid, into: &outgoing)
        load.reply(charge: charge, replyBytes: replyBytes)
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
        stallWatch.flushed &+= batch.bytes
        for buffer in outgoing { context.write(wrapOutboundOut(buffer), promise: nil) }
        outgoing.removeAll(keepingCapacity: true)
        let written = eventLoop.makePromise(of: Void.self)
        written.futureResult.whenSuccess {
            guard self.phase != .closed else { return }
            self.load.sent(batch)
            self.proceed()
        }
        // After an error the channel closes, and nothing is accounted any more.
        context.writeAndFlush(wrapOutboundOut(last), promise: written)
        watchForStalls()
    }

    /// Something was sent: there may be room again, or nothing left to do.
    func proceed() {
        beginIdlenessIfIdle()
        startCalls()
        lingerIfDrained()
        if readIsHeld, wantsBytes {
            readIsHeld = false
            context?.read()
        }
        watchForStalls()
    }

    // MARK: The end

    func startDraining() {
        guard phase == .serving else { return }
        phase = .draining
        discardInput()
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
        load.discardUnsent()
        discardInput()
        context?.close(promise: nil)
    }

    /// Calls of a closed connection still use what is above; only then is it gone.
    private func leaveRegistryIfDone() {
        if context?.channel.isActive != true, runningCalls == 0 { parts.registry.remove(number) }
    }

    /// Forgets what was received and not started.
    private func discardInput() {
        reader.discard()
        leaveLine()
        releaseReservation()
        countUnparsed()
    }

    private func countUnparsed() {
        let bytes = reader.pinnedInputBytes
        parts.unparsed.change(by: bytes - unparsedBytes)
        unparsedBytes = bytes
    }

    // MARK: Idleness and complaints

    /// A call begins; false if the connection has to be closed for another one.
    func endIdleness() -> Bool {
        if isIdle { isIdle = !idleness.end() }
        return !isIdle
    }

    private func beginIdlenessIfIdle() {
        guard !isIdle, load.calls == 0, waitingCall == nil else { return }
        isIdle = true
        idleness.begin()
    }

    func complain(_ complaint: Complaint, _ more: Logger.Metadata = [:]) {
        parts.complaints.log(complaint, of: client, metadata(more))
    }

    private func metadata(_ more: Logger.Metadata) -> Logger.Metadata {
        more.merging(["client": "\(peer.map(String.init(describing:)) ?? "unknown")"]) { value, _ in value }
    }
}
