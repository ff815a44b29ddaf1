// How `sluice serve` ends.

import Testing

@testable import sluice

@Suite("the end of serve")
struct ExitTests {
    @Test("is an I/O error when the store has failed, or files could not be settled, and says which")
    func codes() throws {
        if let refusal = Gateway.refusal(unsettledFiles: 0, storeFailure: nil) { Issue.record(refusal) }
        let unsettled = try #require(Gateway.refusal(unsettledFiles: 3, storeFailure: nil))
        #expect(unsettled.code.rawValue == 74 && unsettled.message.contains("3 files"))
        for files in [0, 3] {
            let failed = try #require(Gateway.refusal(unsettledFiles: files, storeFailure: "no mirror"))
            #expect(failed.code.rawValue == 74 && failed.message.contains("no mirror"))
        }
    }
}
