// MOUNT version 3 (RFC 1813 §5), byte for byte.

import FileService
import Model
import ONCRPC
import Testing

@testable import NFS3

@Suite("MOUNT")
struct MountTests {
    /// Flavors: AUTH_SYS (1), AUTH_NONE (0).
    private static let flavors: WireBytes = [.u32(2), .u32(1), .u32(0)]

    @Test("MNT of \"/\" returns the root's handle and the flavors (RFC 1813 §5.2.1)", arguments: ["/", "", "//"])
    func root(path: String) async {
        #expect(await Programs().mountReply(.mnt, .string(path)) == [.u32(0), Wire.root, Self.flavors])
    }

    @Test(
        "MNT takes any directory below the root, looked up with the gateway's own rights",
        arguments: ["/other", "/other/", "//other"])
    func subdirectory(path: String) async {
        let test = Programs()
        #expect(await test.mountReply(.mnt, .string(path)) == [.u32(0), Wire.other, Self.flavors])
        #expect(test.service.calls == [.lookUp("other", Fixture.root)])
        #expect(test.service.callers == [Credentials(uid: 0, gid: 0, groups: [])])
    }

    @Test("MNT walks a path name by name")
    func deep() async {
        let test = Programs { $0.names["sub"] = Fixture.root }
        #expect(await test.mountReply(.mnt, .string("/other/sub")) == [.u32(0), Wire.root, Self.flavors])
        #expect(test.service.calls == [.lookUp("other", Fixture.root), .lookUp("sub", Fixture.other)])
    }

    @Test("MNT of a path that isn't there is MNT3ERR_NOENT, of a file MNT3ERR_NOTDIR (RFC 1813 §5.1.5)")
    func refused() async {
        let test = Programs()
        #expect(await test.mountReply(.mnt, .string("/nowhere")) == .u32(2))
        #expect(await test.mountReply(.mnt, .string("/file")) == .u32(20))
        #expect(await test.mountReply(.mnt, .string("/a\0b")) == .u32(2))
        #expect(await test.mountReply(.mnt, .string("/" + String(repeating: "x", count: 256))) == .u32(63))
    }

    @Test("each outcome of the file service has a status of MOUNT", arguments: FileError.allCases)
    func statuses(error: FileError) async {
        let expected: [FileError: UInt32] = [
            .notOwner: 1, .notFound: 2, .stale: 2, .inputOutput: 5, .accessDenied: 13, .notDirectory: 20,
            .invalidArgument: 22, .nameTooLong: 63, .notSupported: 10004,
        ]
        let test = Programs { $0.failure = error }
        #expect(await test.mountReply(.mnt, .string("/other")) == .u32(expected[error] ?? 10006))
    }

    @Test("EXPORT lists \"/\" for everyone (RFC 1813 §5.2.5)")
    func export() async {
        #expect(await Programs().mountReply(.export, []) == [.yes, .string("/"), .no, .no])
    }

    @Test("NULL, UMNT and UMNTALL return nothing, DUMP before any mount an empty list (RFC 1813 §5.2.0 to §5.2.4)")
    func others() async {
        let test = Programs()
        #expect(await test.mountReply(.null, []) == [])
        #expect(await test.mountReply(.umnt, .string("/")) == [])
        #expect(await test.mountReply(.umntall, []) == [])
        #expect(await test.mountReply(.dump, []) == .no)
    }

    @Test("DUMP lists what is mounted by whom; UMNT takes one off, UMNTALL those of the caller's host")
    func mountList() async throws {
        let test = Programs()
        let (first, second) = (try client("192.0.2.1"), try client("2001:db8::2"))
        for (client, path) in [(first, "/"), (first, "/other"), (second, "/"), (first, "/")] {
            _ = await test.mountReply(.mnt, .string(path), from: client)
        }
        _ = await test.mountReply(.mnt, .string("/nowhere"), from: second)
        func entry(_ host: String, _ path: String) -> WireBytes { [.yes, .string(host), .string(path)] }
        #expect(
            await test.mountReply(.dump, []) == [
                entry("192.0.2.1", "/other"), entry("2001:db8::2", "/"), entry("192.0.2.1", "/"), .no,
            ])
        #expect(await test.mountReply(.umnt, .string("/other"), from: first) == [])
        #expect(await test.mountReply(.umnt, .string("/nowhere"), from: first) == [])
        #expect(await test.mountReply(.dump, []) == [entry("2001:db8::2", "/"), entry("192.0.2.1", "/"), .no])
        #expect(await test.mountReply(.umntall, [], from: first) == [])
        #expect(await test.mountReply(.dump, []) == [entry("2001:db8::2", "/"), .no])
    }

    @Test("the list of mounts is bounded: the oldest are forgotten")
    func bounded() {
        let list = MountList()
        for number in 0...MountList.maxEntries {
            list.add(MountList.Entry(host: "\(number)", directory: [UInt8(ascii: "/")]))
        }
        #expect(list.all.count == MountList.maxEntries)
        #expect(list.all.first?.host == "1" && list.all.last?.host == "\(MountList.maxEntries)")
    }

    @Test("a path longer than MNTPATHLEN, or none, is garbage (RFC 1813 §5.1.4)")
    func garbage() async {
        let test = Programs()
        let long = WireBytes.opaque(Array(repeating: UInt8(ascii: "x"), count: 1025))
        for procedure in [MountProcedure.mnt, .umnt] {
            #expect(await test.mountReply(procedure, long) == nil)
            #expect(await test.mountReply(procedure, []) == nil)
        }
        #expect(test.programs.counters.snapshot().garbageArguments == 4)
    }
}
