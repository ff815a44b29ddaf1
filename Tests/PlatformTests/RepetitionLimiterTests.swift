// What clients and failing disks can make the gateway log.

import Testing

@testable import Platform

@Suite("repeated log lines")
struct RepetitionLimiterTests {
    @Test("each subject is logged once, and after a minute with the number of lines that were not")
    func once() {
        var limiter = RepetitionLimiter<String>()
        #expect(limiter.admit("a", atSeconds: 0) == 0)
        for second in 0..<60 { #expect(limiter.admit("a", atSeconds: second) == nil) }
        #expect(limiter.admit("b", atSeconds: 59) == 0)
        #expect(limiter.admit("a", atSeconds: 60) == 60)
        #expect(limiter.admit("a", atSeconds: 61) == nil)
        #expect(limiter.admit("a", atSeconds: 1000) == 1)
    }

    @Test("many subjects get a bounded number of lines, and the next minute others are heard")
    func manySubjects() {
        var limiter = RepetitionLimiter<Int>()
        var lines = 0
        for minute in 0..<20 {
            for number in 0..<5000 where limiter.admit(number, atSeconds: minute * 60) != nil { lines += 1 }
        }
        #expect(lines == 20 * RepetitionLimiter<Int>.maxLinesPerInterval)
    }
}
