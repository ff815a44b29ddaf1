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

    @Test("all spellings of a path are one mount, which any of them unmounts")
    func spellings() async throws {
        let test = Programs()
        let from = try client("192.0.2.1")
        for path in ["/other", "//other", "/./other/", "other/.", "/other///././"] {
            #expect(await test.mountReply(.mnt, .string(path), from: from)?.u32(at: 0) == 0)
        }
        for path in ["/", "", "/././", "//"] { _ = await test.mountReply(.mnt, .string(path), from: from) }
        #expect(
            await test.mountReply(.dump, []) == [
                .yes, .string("192.0.2.1"), .string("/other"), .yes, .string("192.0.2.1"), .string("/"), .no,
            ])
        // Not the path up to where it stops being one.
        #expect(await test.mountReply(.umnt, .string("/other/.."), from: from) == [])
        #expect(await test.mountReply(.umnt, .string("//other/./"), from: from) == [])
        #expect(await test.mountReply(.dump, []) == [.yes, .string("192.0.2.1"), .string("/"), .no])
    }

    @Test("the list of mounts is bounded by its bytes in DUMP's reply: the oldest are forgotten")
    func bounded() throws {
        let list = MountList()
        for number in 0..<4096 { list.add(MountList.Entry(host: "\(1000 + number)", directory: .root)) }
        // 4 bytes that one follows, host and path of 8.
        let count = MountList.maxBytes / 20
        #expect(list.all.map(\.host) == (4096 - count..<4096).map { "\(1000 + $0)" })
        // What is taken off makes room.
        list.removeAll(of: "5095")
        list.add(MountList.Entry(host: "last", directory: .root))
        #expect(list.all.count == count && list.all.last?.host == "last")
    }

    @Test("a reply is no longer than it is charged for: DUMP of the longest paths, EXPORT of many exports, MNT")
    func charge() async throws {
        let directory = String(repeating: "x", count: 200)
        let clients = try (0..<30).map { Export.Client(network: try ClientNetwork("192.0.\($0).0/24")) }
        let exports = try (0..<100).map { Export(path: try ExportPath("/\(directory)/\($0)"), clients: clients) }
        let test = Programs(exports: ExportTable([.open] + exports)) {
            $0.names[directory] = Fixture.other
            for number in 0..<1100 { $0.names["\(number)"] = Fixture.other }
        }
        let from = try client("2001:db8:1111:2222:3333:4444:5555:6666", port: 1)
        /// The reply without its RPC header, and what it is charged for.
        func call(_ procedure: MountProcedure, _ arguments: WireBytes) async throws -> (WireBytes, charge: Int) {
            let call = Programs.call(procedure.rawValue, arguments, program: 100005, from: from)
            return (try #require(Programs.results(await test.programs.handle(call))), test.programs.maxReplyBytes(call))
        }
        let deep = Array(repeating: directory, count: 5).joined(separator: "/")
        for number in 0..<1100 {
            let (reply, charge) = try await call(.mnt, .string("/\(deep)/\(number)"))
            #expect(reply.u32(at: 0) == 0 && reply.bytes.count + 24 <= charge && charge <= 2048)
        }
        let (dump, dumpCharge) = try await call(.dump, [])
        #expect(dump.bytes.count > 60 << 10 && dump.bytes.count + 24 <= dumpCharge)
        let (export, exportCharge) = try await call(.export, [])
        #expect(export.bytes.count > 64 << 10 && export.bytes.count + 24 <= exportCharge)
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
