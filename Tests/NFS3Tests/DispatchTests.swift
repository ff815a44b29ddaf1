// The order in which calls reach the service, and the counters.

import FileService
import Model
import ONCRPC
import Testing

@testable import NFS3

@Suite("Dispatch")
struct DispatchTests {
    @Test("a call is with the service before its start returns: a COMMIT covers the WRITEs started before it")
    func order() async {
        let test = Programs()
        let write: WireBytes = [Wire.file, .u64(0), .u32(1), .u32(0), .opaque([1])]
        let commit: WireBytes = [Wire.file, .u64(0), .u32(0)]
        let programs = test.programs
        var tasks: [Task<Void, Never>] = []
        for round in 1...100 {
            for (procedure, arguments) in [(NFSProcedure.write, write), (.commit, commit)] {
                tasks.append(Task.immediate { _ = await programs.handle(Programs.call(procedure.rawValue, arguments)) })
            }
            // No suspension since the tasks were started, so whatever is recorded was recorded by then.
            #expect(test.service.calls.count == 2 * round)
        }
        for task in tasks { await task.value }
        #expect(
            test.service.calls.suffix(2) == [
                .write([1], Fixture.file, offset: 0, .unstable), .commit(Fixture.file, offset: 0, count: 0),
            ])
    }

    @Test("calls are counted by procedure, failures by status")
    func counters() async {
        let test = Programs { $0.failure = .busy }
        _ = await test.reply(.null, [])
        _ = await test.reply(.getattr, Wire.file)
        _ = await test.reply(.commit, [Wire.file, .u64(0), .u32(0)])
        _ = await test.reply(.commit, [Wire.file, .u64(0), .u32(0)])
        _ = await test.reply(.getattr, .opaque([1]))
        _ = await test.reply(.access, [])
        _ = await test.mountReply(.dump, [])
        _ = await test.mountReply(.mnt, .string("/other"))
        var expected = WireCounters.Snapshot()
        expected.calls = [.null: 1, .getattr: 2, .commit: 2, .access: 1]
        expected.mountCalls = [.dump: 1, .mnt: 1]
        expected.errors = [.jukebox: 2, .badHandle: 1]
        expected.mountErrors = [.serverFault: 1]
        expected.garbageArguments = 1
        #expect(test.programs.counters.snapshot() == expected)
    }
}
