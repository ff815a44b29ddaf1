// A server on a free port of 127.0.0.1 with programs made of a closure, and things for tests to wait with.

import Logging
import NIOCore
import NIOPosix
import ONCRPC
import Synchronization
import Testing

/// Program `testProgram`, versions 3 to 4. Procedures from 100 on must not be repeated.
struct TestPrograms: RPCDispatcher {
    let body: @Sendable (RPCCall) async -> RPCOutcome

    func versions(ofProgram program: UInt32) -> ClosedRange<UInt32>? { program == testProgram ? 3...4 : nil }
    func mustNotRepeat(_ call: RPCCall) -> Bool { call.procedure >= 100 }
    func handle(_ call: RPCCall) async -> RPCOutcome { await body(call) }
}

typealias TestServer = RPCServer<TestPrograms>

extension RPCServer where Dispatcher == TestPrograms {
    var port: Int { localAddress.port ?? 0 }
}

/// Starts a server for `test` and shuts it down afterwards.
func withServer(
    bounds: RPCBounds = RPCBounds(), _ body: @escaping @Sendable (RPCCall) async -> RPCOutcome,
    test: (TestServer) async throws -> Void
) async throws {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let server = try await TestServer.start(
        host: "127.0.0.1", port: 0, dispatcher: TestPrograms(body: body),
        group: MultiThreadedEventLoopGroup.singleton, logger: logger, bounds: bounds)
    do {
        try await test(server)
    } catch {
        await server.shutdown()
        throw error
    }
    await server.shutdown()
}

/// Waits, for minutes at most as all tests run at once, until something that other threads do has happened.
func eventually(
    _ what: Comment, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () -> Bool
) async {
    let clock = ContinuousClock()
    let deadline = clock.now + .seconds(300)
    while !condition() {
        if clock.now > deadline {
            Issue.record(what, sourceLocation: sourceLocation)
            return
        }
        await Task.yield()
    }
}

/// Holds calls up until it is opened.
final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    func pass() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }
}

/// What happened, in order.
final class EventLog<Entry: Sendable>: Sendable {
    private let log = Mutex<[Entry]>([])

    func append(_ entry: Entry) { log.withLock { $0.append(entry) } }
    var entries: [Entry] { log.withLock { $0 } }
}
