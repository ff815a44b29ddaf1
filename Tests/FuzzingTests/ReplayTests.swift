// The corpus that the fuzzers have gathered, run again: what any of its inputs once reached is reached in each test run,
// and what any of them once broke stays mended. A line of a corpus is an input in hexadecimal digits.

import Foundation
import Testing

@Suite("Fuzzing")
struct ReplayTests {
    @Test("every input of the corpus is survived, and what it must do is done", arguments: Fuzzer.allCases)
    func corpus(fuzzer: Fuzzer) throws {
        let path = try #require(Bundle.module.resourceURL).appending(path: "Corpus/\(fuzzer.rawValue).hex")
        let inputs = try String(contentsOf: path, encoding: .utf8).split(separator: "\n").map(Self.bytes)
        #expect(inputs.count > 10)
        let clock = ContinuousClock()
        for input in inputs {
            let duration = clock.measure { fuzzer.run(input) }
            // A thousand times what one takes: no input may cost much more than its length.
            #expect(duration < .seconds(10), "\(input)")
        }
    }

    @Test("an empty input is an input", arguments: Fuzzer.allCases)
    func empty(fuzzer: Fuzzer) { fuzzer.run([]) }

    static func bytes(_ digits: Substring) -> [UInt8] {
        let nibbles = digits.utf8.map { UInt8(Character(UnicodeScalar($0)).hexDigitValue ?? 0) }
        return stride(from: 0, to: nibbles.count - 1, by: 2).map { nibbles[$0] << 4 | nibbles[$0 + 1] }
    }
}
