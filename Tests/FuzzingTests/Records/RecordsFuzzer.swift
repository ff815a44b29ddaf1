// Bytes into a connection. Whatever they are: it doesn't crash, it starts the calls that a simple reading of RFC 5531
// finds in them (RecordsModel), answers these and nothing else with well-formed records, and all of that however the
// bytes are cut over reads. Then the same bytes come by a second connection, as from a client that had no replies by the
// first: what must not be repeated is answered as it was then.
//
//     0   bit 0: small bounds; bit 1: the client closes its side at the end; bit 2: the second connection is another
//         client's, to whom nothing is a copy
//     1   seed of the cuts, 4 bytes
//     5   the stream

import FaultInjection
import Logging
import NIOCore
import NIOEmbedded

@testable import ONCRPC

enum RecordsFuzzer {
    static func run(_ input: [UInt8]) {
        var choices = FuzzInput(input)
        let flags = choices.byte()
        let seed = choices.number32()
        let stream = Array(choices.rest)
        var bounds = RPCBounds()
        if flags & 1 != 0 {
            bounds.maxRecordBytes = 300
            bounds.maxFragmentsPerRecord = 5
            bounds.maxCallsInFlight = 2
            bounds.maxBytesInFlight = 400
            bounds.maxUnsentReplyBytes = 200
        }
        let isSameClient = flags & 4 == 0
        let first = RecordsModel(stream, bounds)
        let second = RecordsModel(stream, bounds, isSameClient ? first.memory : RecordsModel.Memory())
        let closesInput = flags & 2 != 0
        var random = SeededGenerator(seed: UInt64(seed))
        for style in [Cuts.none, .random, .everywhere] where style != .everywhere || stream.count <= 600 {
            let programs = EchoPrograms()
            let parts = ServerParts(dispatcher: programs, bounds: bounds, logger: quiet)
            let hosts = ["127.0.0.1", isSameClient ? "127.0.0.1" : "127.0.0.2"]
            for (index, model) in [first, second].enumerated() {
                let host = hosts[index]
                let earlier = programs.calls.count
                var result = serve(
                    style.pieces(of: stream, &random), parts, by: host,
                    ConnectionNumber(rawValue: UInt64(index) + 1), closesInput: closesInput)
                result.calls = Array(programs.calls.dropFirst(earlier))
                model.check(result, "cut \(style), from \(host) after \(earlier) calls")
            }
            let snapshot = parts.counters.snapshot
            hold(snapshot.callsInFlight == 0, "\(snapshot.callsInFlight) calls are still in flight")
            hold(snapshot.connectionsOpen == 0, "the connections still count as open")
            let calls = programs.calls.count
            hold(snapshot.calls == calls, "\(snapshot.calls) calls were counted, \(calls) made")
            for budget in [parts.budget, parts.newcomersBudget] {
                hold(budget.used == 0, "\(budget.used) bytes of a budget were not given back")
            }
        }
    }

    /// Where a stream is cut.
    private enum Cuts {
        case none, random, everywhere

        func pieces(of stream: [UInt8], _ random: inout SeededGenerator) -> [ArraySlice<UInt8>] {
            var pieces: [ArraySlice<UInt8>] = []
            var rest = stream[...]
            let largest = [3, 40, 700, 9000].randomElement(using: &random) ?? 3
            while !rest.isEmpty {
                let count =
                    switch self {
                    case .none: rest.count
                    case .random: Int.random(in: 1...largest, using: &random)
                    case .everywhere: 1
                    }
                pieces.append(rest.prefix(count))
                rest = rest.dropFirst(count)
            }
            return pieces
        }
    }

    /// What a connection did.
    struct Result {
        var calls: [EchoPrograms.Call] = []
        var output: [UInt8] = []
        /// It was closed by the server for what the client sent.
        var isClosed = false
    }

    private static let quiet: Logger = {
        var logger = Logger(label: "fuzzing")
        logger.logLevel = .critical
        return logger
    }()

    private static func serve(
        _ pieces: [ArraySlice<UInt8>], _ parts: ServerParts<EchoPrograms>, by host: String,
        _ number: ConnectionNumber, closesInput: Bool
    ) -> Result {
        let loop = EmbeddedEventLoop()
        let channel = EmbeddedChannel(loop: loop)
        var result = Result()
        do {
            try channel.pipeline.syncOperations.addHandler(
                RPCConnection(parts, number: number, eventLoop: loop))
            try channel.connect(to: SocketAddress(ipAddress: host, port: 700)).wait()
            func takeOutput() throws {
                while let buffer = try channel.readOutbound(as: ByteBuffer.self) {
                    result.output += buffer.readableBytesView
                }
            }
            for piece in pieces where channel.isActive {
                try channel.writeInbound(ByteBuffer(bytes: piece))
                loop.run()
                try takeOutput()
            }
            // It lingers until the client has had time to take the replies.
            loop.advanceTime(by: TimeAmount(parts.bounds.linger))
            try takeOutput()
            result.isClosed = !channel.isActive
            if closesInput, channel.isActive {
                channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
                loop.run()
                try takeOutput()
                hold(!channel.isActive, "a connection whose client has sent its last byte, with no call, stays open")
            }
            _ = try channel.finish(acceptAlreadyClosed: true)
        } catch {
            fatalError("the channel failed: \(error)")
        }
        return result
    }
}
