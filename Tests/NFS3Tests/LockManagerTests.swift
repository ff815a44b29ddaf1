// NLM, which refuses: byte for byte.

import ONCRPC
import Platform
import Testing

@testable import NFS3

@Suite("Lock manager")
struct LockManagerTests {
    private static func reply(_ procedure: UInt32, _ arguments: WireBytes, version: UInt32 = 4) async -> WireBytes? {
        let call = RPCCall(
            xid: 1, program: 100_021, version: version, procedure: procedure,
            credential: .system(Fixture.caller, machineName: []), clientAddress: nil,
            arguments: Payload(bytes: arguments.bytes))
        return Programs.results(await Programs().programs.handle(call))
    }

    @Test(
        "TEST and LOCK are LCK_DENIED_NOLOCKS, CANCEL finds nothing waiting, UNLOCK nothing held", arguments: [1, 3, 4])
    func statuses(version: UInt32) async {
        let cookie = WireBytes.opaque([1, 2, 3, 4, 5])
        for (procedure, status) in [(1, 2), (2, 2), (3, 1), (4, 0)] as [(UInt32, UInt32)] {
            #expect(await Self.reply(procedure, [cookie, .u32(7)], version: version) == [cookie, .u32(status)])
        }
        #expect(await Self.reply(0, [], version: version) == [])
    }

    @Test("SHARE, UNSHARE, NM_LOCK and FREE_ALL are there from version 3")
    func shares() async {
        let cookie = WireBytes.opaque([9])
        #expect(await Self.reply(20, cookie) == [cookie, .u32(2), .u32(0)])
        #expect(await Self.reply(21, cookie) == [cookie, .u32(0), .u32(0)])
        #expect(await Self.reply(22, cookie) == [cookie, .u32(2)])
        #expect(await Self.reply(23, []) == [])
        for procedure in 20...23 as ClosedRange<UInt32> {
            #expect(await Self.reply(procedure, cookie, version: 1) == nil)
        }
    }

    @Test("a cookie that is cut off or longer than 1,024 bytes is garbage")
    func garbage() async {
        #expect(await Self.reply(2, .u32(4)) == nil)
        #expect(await Self.reply(2, .opaque([UInt8](repeating: 1, count: 1025))) == nil)
    }
}
