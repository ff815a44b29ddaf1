// Every status of RFC 5531 §9 over a real socket; calls and expected replies are bytes made by hand.

import FaultInjection
import Model
import NIOCore
import ONCRPC
import Platform
import Testing
import XDR

@Suite("statuses of RFC 5531", .serialized)
struct RPCStatusTests {
    @Test("SUCCESS carries the results behind a verifier of AUTH_NONE")
    func success() async throws {
        try await expect(acceptedReply(xid: 5, status: 0, words(0xdead_beef)), to: callMessage(xid: 5, procedure: 1))
    }

    @Test("PROG_UNAVAIL for a program that isn't here")
    func programUnavailable() async throws {
        try await expect(
            acceptedReply(xid: 6, status: 1), to: callMessage(xid: 6, program: 100_021, procedure: 0),
            counted: \.programsUnavailable)
    }

    @Test("PROG_MISMATCH names the versions that are here")
    func programMismatch() async throws {
        for version: UInt32 in [0, 2, 5, .max] {
            try await expect(
                acceptedReply(xid: 7, status: 2, words(3, 4)),
                to: callMessage(xid: 7, version: version, procedure: 0), counted: \.programMismatches)
        }
    }

    @Test("PROC_UNAVAIL, GARBAGE_ARGS and SYSTEM_ERR are what the program says")
    func programStatuses() async throws {
        try await expect(
            acceptedReply(xid: 8, status: 3), to: callMessage(xid: 8, procedure: 2), counted: \.proceduresUnavailable)
        try await expect(
            acceptedReply(xid: 9, status: 4), to: callMessage(xid: 9, procedure: 3, arguments: words(100, 1)),
            counted: \.garbageArguments)
        try await expect(
            acceptedReply(xid: 10, status: 5), to: callMessage(xid: 10, procedure: 4), counted: \.systemErrors)
    }

    @Test("RPC_MISMATCH names version 2, whatever follows the version")
    func rpcMismatch() async throws {
        let reply = words(11, 1, 1, 0, 2, 2)
        try await expect(
            reply, to: callMessage(xid: 11, rpcVersion: 3, procedure: 1), counted: \.rpcMismatches)
        try await expect(reply, to: words(11, 0, 1), counted: \.rpcMismatches)
    }

    @Test("a credential that can't be decoded is AUTH_BADCRED")
    func badCredential() async throws {
        let reply = words(12, 1, 1, 1, 1)
        let credentials = [
            systemAuthenticator(uid: 1, gid: 1, groups: [UInt32](repeating: 1, count: 17)),
            systemAuthenticator(machine: [UInt8](repeating: 65, count: 256), uid: 1, gid: 1, groups: []),
            words(1) + opaque(words(0, 0, 1)),
            words(1, 0),
            words(1) + opaque([UInt8](repeating: 0, count: 401)),
        ]
        for credential in credentials {
            try await expect(
                reply, to: callMessage(xid: 12, procedure: 1, credential: credential), counted: \.authenticationErrors)
        }
    }

    @Test("a verifier above 400 bytes is AUTH_BADVERF (RFC 5531 §8.2)")
    func badVerifier() async throws {
        let verifier = words(0) + opaque([UInt8](repeating: 0, count: 401))
        try await expect(
            words(13, 1, 1, 1, 3), to: callMessage(xid: 13, procedure: 1, verifier: verifier),
            counted: \.authenticationErrors)
    }

    @Test("an unknown flavor is AUTH_REJECTEDCRED")
    func unknownFlavor() async throws {
        for flavor: UInt32 in [2, 3, 6, 390_003, .max] {
            try await expect(
                words(14, 1, 1, 1, 2), to: callMessage(xid: 14, procedure: 1, credential: words(flavor) + opaque([1])),
                counted: \.authenticationErrors)
        }
    }

    @Test("a program's own AUTH_TOOWEAK reaches the client")
    func tooWeak() async throws {
        try await expect(
            words(15, 1, 1, 1, 5), to: callMessage(xid: 15, procedure: 5), counted: \.authenticationErrors)
    }

    @Test("the program sees who calls, from where, and its arguments")
    func call() async throws {
        let log = EventLog<RPCCall>()
        try await withServer { call in
            log.append(call)
            return .success(RPCReplyBody(ByteBuffer()))
        } test: { server in
            let client = try TestClient(port: server.port)
            let credential = systemAuthenticator(machine: [65], uid: 7, gid: 8, groups: [9, 10])
            let message = callMessage(xid: 1, procedure: 20, credential: credential, arguments: words(1, 2))
            try client.send(fragment(message))
            #expect(try client.receive() == acceptedReply(xid: 1, status: 0))
        }
        let call = try #require(log.entries.first)
        #expect(call.credential == .system(Credentials(uid: 7, gid: 8, groups: [9, 10]), machineName: [65]))
        #expect(call.clientAddress?.ipAddress == "127.0.0.1")
        #expect(call.procedure == 20)
        #expect(try call.payload(0..<8).bytes == words(1, 2))
    }

    @Test("a reply message is ignored and the connection goes on")
    func replyMessage() async throws {
        try await withServer(Self.program) { server in
            let client = try TestClient(port: server.port)
            try client.send(fragment(acceptedReply(xid: 1, status: 0)) + fragment(callMessage(xid: 2, procedure: 1)))
            #expect(try client.receive() == acceptedReply(xid: 2, status: 0, words(0xdead_beef)))
            #expect(server.counters.unexpectedReplies == 1)
        }
    }

    @Test("a record that is no RPC message closes the connection")
    func undecodable() async throws {
        try await withServer(Self.program) { server in
            for message in [[], words(1), words(1, 2, 3, 4, 5, 6), words(1, 0, 2, 3)] {
                let client = try TestClient(port: server.port)
                try client.send(fragment(message))
                #expect(try client.isAtEnd())
            }
            #expect(server.counters.badMessages == 4)
        }
    }

    @Test("too long a record, or in too many fragments, closes the connection (RFC 5531 §11)")
    func badRecord() async throws {
        var bounds = RPCBounds()
        bounds.maxRecordBytes = 1000
        bounds.maxFragmentsPerRecord = 5
        try await withServer(bounds: bounds, Self.program) { server in
            let long = try TestClient(port: server.port)
            try long.send(words(0x8000_0000 | 1001))
            #expect(try long.isAtEnd())
            let scattered = try TestClient(port: server.port)
            for _ in 0..<6 { try scattered.send(fragment([], isLast: false)) }
            #expect(try scattered.isAtEnd())
            #expect(server.counters.badRecords == 2)
            await eventually("closed connections are open") { server.counters.connectionsOpen == 0 }
        }
    }

    @Test("random bytes on connections never stop the server")
    func randomConnections() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        var bounds = RPCBounds()
        bounds.maxRecordBytes = 4096
        try await withServer(bounds: bounds, Self.program) { server in
            for _ in 0..<300 {
                let client = try TestClient(port: server.port)
                var bytes = generator.bytes(Int.random(in: 1...300, using: &generator))
                if Bool.random(using: &generator) { bytes = fragment(bytes) }
                if Bool.random(using: &generator) { bytes = fragment(callMessage(xid: 1, procedure: 3)) + bytes }
                // The server may have closed before all is sent.
                _ = try? client.send(bytes)
                if Bool.random(using: &generator) { client.reset() }
            }
            let client = try TestClient(port: server.port)
            try client.send(fragment(callMessage(xid: 3, procedure: 1)))
            #expect(try client.receive() == acceptedReply(xid: 3, status: 0, words(0xdead_beef)), "seed \(seed)")
        }
    }

    /// Procedures that answer each status.
    @Sendable static func program(_ call: RPCCall) async -> RPCOutcome {
        switch call.procedure {
        case 1:
            return .success(RPCReplyBody(ByteBuffer(bytes: words(0xdead_beef))))
        case 3:
            do throws(XDRError) {
                let bytes = try call.decodeArguments { decoder throws(XDRError) in try decoder.opaque(maxCount: 1000) }
                return .success(RPCReplyBody(ByteBuffer(bytes: opaque(bytes))))
            } catch {
                return .garbageArguments
            }
        case 4: return .systemError
        case 5: return .authenticationError(.tooWeak)
        default: return .procedureUnavailable
        }
    }

    /// One call on a connection of its own, in two pieces; its reply; and then another call.
    private func expect(
        _ reply: [UInt8], to message: [UInt8], counted: KeyPath<RPCCounters, Int>? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        try await withServer(Self.program) { server in
            let client = try TestClient(port: server.port)
            let bytes = fragment(message)
            try client.send(Array(bytes[..<7]))
            try client.send(Array(bytes[7...]))
            #expect(try client.receive() == reply, sourceLocation: sourceLocation)
            if let counted { #expect(server.counters[keyPath: counted] == 1, sourceLocation: sourceLocation) }
            try client.send(fragment(callMessage(xid: 99, procedure: 1)))
            #expect(
                try client.receive() == acceptedReply(xid: 99, status: 0, words(0xdead_beef)),
                sourceLocation: sourceLocation)
        }
    }
}
