// The memory budget: what is taken, and how it is shared out.

import EmbeddedFileService
import Testing

@testable import sluice

@Suite("Memory plan")
struct MemoryPlanTests {
    private func whyRefused(_ text: String, isFromFlag: Bool = false) -> Refusal? {
        do throws(Refusal) {
            _ = try MemoryPlan(text, isFromFlag: isFromFlag)
            return nil
        } catch {
            return error
        }
    }

    @Test("shares out no more than it was given", arguments: ["128MiB", "129MiB", "512MiB", "3GiB", "1TiB"])
    func shares(text: String) throws {
        let plan = try MemoryPlan(text, isFromFlag: true)
        let units = ["M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let total = Int(text.dropLast(3))! * units[String(text.suffix(3).first!)]!
        let store = plan.store
        let sum = plan.requestBytes + store.pendingBytes + store.decodingBytes + store.cellBytes
        #expect(sum <= total && sum > total - 8)
        // The largest request and its reply go into the smallest plan, for newcomers too.
        #expect(plan.requestBytes >= 32 << 20)
    }

    @Test("is an eighth of the machine's memory unless it is said, and never too little")
    func byDefault() throws {
        let plan = try MemoryPlan(nil, isFromFlag: false)
        #expect(plan == MemoryPlan(totalBytes: MemoryPlan.defaultBytes))
        #expect(MemoryPlan.defaultBytes >= MemoryPlan.minimumBytes)
    }

    @Test(
        "what is no size, or too small, is refused by name",
        arguments: ["", "512", "512MB", "-1GiB", "0GiB", "GiB", "1.5GiB", "99999999999GiB", "127MiB", "12 GiB"])
    func refused(text: String) throws {
        let refusal = try #require(whyRefused(text))
        #expect(refusal.code == .configuration && refusal.message.hasPrefix("memory: "))
        #expect(whyRefused(text, isFromFlag: true)?.code == .usage)
    }

    @Test("the time after which a file is settled is a number of seconds that makes sense")
    func idle() throws {
        var configuration = Configuration()
        #expect(try configuration.idleTime(isFromFlag: false) == nil)
        configuration.idle = 30
        #expect(try configuration.idleTime(isFromFlag: false) == .seconds(30))
        for seconds in [0, -1, 3601] {
            configuration.idle = seconds
            #expect(throws: Refusal.self) { try configuration.idleTime(isFromFlag: false) }
        }
    }

    @Test("the most open files are a number with which something can be done")
    func files() throws {
        var configuration = Configuration()
        #expect(try configuration.maxFiles(isFromFlag: false) == nil)
        configuration.files = 512
        #expect(try configuration.maxFiles(isFromFlag: false) == 512)
        for count in [0, -1, 511, 65_537] {
            configuration.files = count
            #expect(throws: Refusal.self) { try configuration.maxFiles(isFromFlag: true) }
        }
    }
}
