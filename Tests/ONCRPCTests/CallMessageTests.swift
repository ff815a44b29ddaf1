// Headers of calls from bytes made by hand (RFC 5531 §9, appendix A) and from random ones.

import FaultInjection
import Model
import NIOCore
import Platform
import Testing
import XDR

@testable import ONCRPC

@Suite("call messages")
struct CallMessageTests {
    @Test("the credential of AUTH_SYS is uid, gid, groups and machine name")
    func systemCredential() throws {
        let groups = (100..<116).map(UInt32.init)
        let credential = systemAuthenticator(machine: Array("häuschen".utf8), uid: 1000, gid: 1001, groups: groups)
        let bytes = callMessage(xid: 7, version: 4, procedure: 9, credential: credential, arguments: words(42))
        guard case .call(let header) = decode(bytes) else {
            Issue.record("not decoded as a call")
            return
        }
        #expect(header.xid == 7)
        #expect(header.program == testProgram)
        #expect(header.version == 4)
        #expect(header.procedure == 9)
        #expect(header.length == bytes.count - 4)
        #expect(
            header.credential
                == .system(
                    Credentials(uid: 1000, gid: 1001, groups: groups), machineName: Array("häuschen".utf8)))
    }

    @Test("a header is decoded at any alignment, with the largest authenticators")
    func largestHeader() {
        for shift in 0..<4 {
            let authenticator = words(0) + opaque([UInt8](repeating: 1, count: 400))
            let bytes = callMessage(xid: 1, procedure: 1, credential: authenticator, verifier: authenticator)
            #expect(bytes.count == 840)
            var buffer = ByteBuffer(bytes: [UInt8](repeating: 0, count: shift) + bytes)
            buffer.moveReaderIndex(forwardBy: shift)
            guard case .call(let header) = CallMessage(Payload(buffer)) else {
                Issue.record("not decoded as a call")
                continue
            }
            #expect(header.length == 840)
        }
    }

    @Test("every prefix of a header is undecodable")
    func prefixes() {
        let credential = systemAuthenticator(uid: 1, gid: 1, groups: [1, 2, 3])
        let bytes = callMessage(xid: 1, procedure: 1, credential: credential)
        for count in 0..<bytes.count {
            guard case .undecodable = decode(Array(bytes[..<count])) else {
                Issue.record("decoded from \(count) bytes")
                continue
            }
        }
    }

    @Test("random and damaged messages never crash the decoders")
    func randomBytes() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        let good = callMessage(
            xid: 1, procedure: 1, credential: systemAuthenticator(uid: 1, gid: 2, groups: [3, 4]),
            arguments: opaque([1, 2, 3]))
        var calls = 0
        for _ in 0..<5000 {
            var bytes: [UInt8]
            if Bool.random(using: &generator) {
                bytes = generator.bytes(Int.random(in: 0...200, using: &generator))
            } else {
                bytes = good
                for _ in 0..<Int.random(in: 1...3, using: &generator) {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
                        in: 0 ... .max, using: &generator)
                }
                bytes.removeLast(Int.random(in: 0...8, using: &generator))
            }
            guard case .call(let header) = decode(bytes) else { continue }
            calls += 1
            #expect(header.length <= bytes.count, "seed \(seed)")
            let call = RPCCall(
                xid: header.xid, program: 1, version: 1, procedure: 1, credential: header.credential,
                clientAddress: nil, record: Payload(bytes: bytes), argumentsStart: header.length)
            let decoded = Result { () throws(XDRError) in
                try call.decodeArguments { decoder throws(XDRError) in try decoder.opaque(maxCount: 100) }
            }
            if case .success(let value) = decoded { #expect(value.count <= call.argumentsCount) }
        }
        #expect(calls > 100, "the damage was too great to test anything")
    }

    @Test("arguments in many small pieces are decoded up to 64 KiB")
    func scatteredArguments() throws {
        var arguments = Payload()
        for index in 0..<20_000 { arguments.append(ByteBuffer(bytes: words(UInt32(index)))) }
        let call = RPCCall(program: 1, version: 1, procedure: 1, arguments: arguments)
        let decoded = try call.decodeArguments { decoder throws(XDRError) in
            var values: [UInt32] = []
            while decoder.remaining > 0 { values.append(try decoder.uint32()) }
            return values
        }
        #expect(decoded == (0..<UInt32(16_384)).map { $0 })
    }

    private func decode(_ bytes: [UInt8]) -> CallMessage { CallMessage(Payload(ByteBuffer(bytes: bytes))) }
}
