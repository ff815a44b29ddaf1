// What the log has of calls that go wrong again and again.

import FaultInjection
import FileService
import Glibc
import Model
import Testing

@testable import EmbeddedFileService

@Suite("The log of a store", .timeLimit(.minutes(10)))
struct LogTests {
    private let store: SimulatedStore
    private let recorded = RecordedLines()

    init() async throws {
        store = try SimulatedStore()
        store.log = recorded.logger
        try await store.open()
    }

    private func count(_ beginning: String) -> Int { recorded.count(beginning) }

    @Test("writes that find no room, and bytes that are lost, are told once a minute for each file")
    func failedWrites() async throws {
        let files = [try await store.service.make("a"), try await store.service.make("b")]
        store.disk.inject(Fault("/v2/blocks/", .write, code: ENOSPC))
        for minute in 1...2 {
            for _ in 0..<20 {
                for file in files {
                    // More than a stripe, so that it needs every target.
                    try await store.service.write(pattern(15_000, seed: 1), to: file)
                    await #expect(throws: FileError.noSpace) { try await store.service.commit(file) }
                }
            }
            #expect(await store.service.status().counters.verifierChanges == UInt64(40 * minute))
            #expect(count("a write failed: only 4 of at least 5 volumes") == 2 * minute)
            #expect(count("acknowledged unstable bytes were lost") == 2 * minute)
            #expect(count("a block group is written anew: ") == 2 * minute)
            store.clock.advance(seconds: 60)
        }
        let last = try #require(recorded.lines.last { $0.hasPrefix("acknowledged") })
        #expect(last.hasSuffix(" file=\(files[1].id.rawValue) more like it=19"))
        await store.close()
    }

    @Test("reads of what cannot be read are told once a minute for each file")
    func failedReads() async throws {
        let files = [try await store.service.make("a"), try await store.service.make("b")]
        for file in files { try await store.service.write(pattern(20_000, seed: 1), to: file, .fileSync) }
        try await store.restart()
        var random = SeededGenerator(seed: 1)
        for volume in 0..<3 { store.damageBlocks(of: volume, .emptied, using: &random) }
        for minute in 1...2 {
            for _ in 0..<20 {
                for file in files {
                    await #expect(throws: FileError.inputOutput) { try await store.service.bytes(of: file) }
                }
            }
            #expect(count("a read failed: ") == 2 * minute)
            store.clock.advance(seconds: 60)
        }
        await store.close()
    }
}
