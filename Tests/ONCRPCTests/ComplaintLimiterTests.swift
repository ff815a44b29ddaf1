// What a client can make the server log.

import NIOCore
import Testing

@testable import ONCRPC

@Suite("complaints")
struct ComplaintLimiterTests {
    private static func client(_ number: Int) -> ClientAddress? {
        (try? SocketAddress(ipAddress: "10.0.\(number >> 8).\(number & 255)", port: 1)).flatMap(ClientAddress.init)
    }

    @Test("each client and reason is logged once, and after a minute with the number of those that were not")
    func once() {
        var limiter = ComplaintLimiter()
        let client = Self.client(1)
        #expect(limiter.admit(.badRecord, of: client, atSeconds: 0) == 0)
        for second in 0..<60 { #expect(limiter.admit(.badRecord, of: client, atSeconds: second) == nil) }
        #expect(limiter.admit(.badMessage, of: client, atSeconds: 59) == 0)
        #expect(limiter.admit(.badRecord, of: Self.client(2), atSeconds: 59) == 0)
        #expect(limiter.admit(.badRecord, of: client, atSeconds: 60) == 60)
        #expect(limiter.admit(.badRecord, of: client, atSeconds: 61) == nil)
        #expect(limiter.admit(.badRecord, of: client, atSeconds: 1000) == 1)
    }

    @Test("many addresses get a bounded number of lines, and the next minute others are heard")
    func manyClients() {
        var limiter = ComplaintLimiter()
        var lines = 0
        for minute in 0..<20 {
            for number in 0..<5000
            where limiter.admit(.badRecord, of: Self.client(number), atSeconds: minute * 60) != nil {
                lines += 1
            }
        }
        #expect(lines == 20 * ComplaintLimiter.maxLinesPerInterval)
    }
}
