// What `sluice status` prints of the dump.

import EmbeddedFileService
import Foundation
import Testing

@testable import sluice

@Suite("sluice status")
struct StatusTextTests {
    private func status(dump: String) throws -> StoreStatus {
        let json = """
            {"isServed": true, "storeID": "s", "epoch": 3, "policy": "RS-3-2-1024k", "health": "green", "reasons": [],
             "volumes": [], "files": 1, "directories": 1, "bytes": 5, "blockGroups": 0, "degradedBlockGroups": 0,
             "unreadableBlockGroups": 0, "dump": {"state": "\(dump)", "segments": 2, "bytes": 3145728},
             "counters": {"decodedStripes": 0, "decodedCells": 0, "failedBlockReads": 0, "writeBackErrors": 0,
              "verifierChanges": 0, "rewrittenGroups": 0, "stalledWrites": 11, "refusedWrites": 5, "pendingBytes": 0, "openFiles": 0,
              "dumpedBytes": 7340032, "failedDumps": 13, "failedDumpReads": 17}}
            """
        return try JSONDecoder().decode(StoreStatus.self, from: Data(json.utf8))
    }

    @Test("says that pending bytes can't be dumped, why, and what is done instead")
    func failingDump() throws {
        let text = Status.text(try status(dump: "pwrite /v0/dump/1.dump: Input/output error"))
        let lines = text.split(separator: "\n")
        #expect(
            lines.contains(
                "dump      drained out of order instead: pwrite /v0/dump/1.dump: Input/output error, 3.0 MiB in 2 files"
            ))
        #expect(
            lines.last?.contains(
                "11 writes held back, 5 refused, 7.0 MiB dumped, 13 times not possible, 17 failed reads") == true)
    }

    @Test("says that there is nothing wrong with it")
    func readyDump() throws {
        #expect(Status.text(try status(dump: "ready")).contains("\ndump      ready, 3.0 MiB in 2 files\n"))
    }
}
