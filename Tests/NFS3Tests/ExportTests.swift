// Exports: who is let in, as whom, and what is seen of them on the wire. Whole replies.

import FileService
import Model
import NIOCore
import ONCRPC
import Testing

@testable import NFS3

/// "/other" of the fixture (file 9), for one network.
@Suite("Exports")
struct ExportTests {
    private static let rootOfOther = WireBytes.opaque(
        WireBytes.hex("0200000051574c5549434521000000000000000900000000000000990000000000000009ae983da7f15b34c0").bytes)
    private static let fileInOther = WireBytes.opaque(
        WireBytes.hex("0200000051574c5549434521000000000000000700000000000000770000000000000009bfbbc0a2848e4815").bytes)
    /// The store's id mixed with file 9: its own file system.
    private static let fileSystemID: UInt64 = 0x5157_4c55_4943_4521 ^ (9 &* 0x9e37_79b9_7f4a_7c15)

    private static func other(_ clients: Export.Client...) throws -> Export {
        Export(path: try ExportPath("/other"), clients: clients)
    }

    private static func rule(_ network: String, _ change: (inout Export.Client) -> Void = { _ in }) throws
        -> Export.Client
    {
        var client = Export.Client(network: try ClientNetwork(network))
        change(&client)
        return client
    }

    /// Programs with these exports, whose directories are known.
    private static func programs(
        _ exports: Export..., change: (inout RecordingService.State) -> Void = { _ in }
    ) async -> Programs {
        let test = Programs(exports: ExportTable(exports), change)
        _ = await test.programs.findExportRoots()
        return test
    }

    @Test("MNT gives a handle of the export to its clients, MNT3ERR_ACCES to others, to a high port, and elsewhere")
    func mount() async throws {
        let test = await Self.programs(try Self.other(try Self.rule("192.0.2.0/24")))
        let inside = try client("192.0.2.9")
        #expect(
            await test.mountReply(.mnt, .string("/other"), from: inside)
                == [.u32(0), Self.rootOfOther, .u32(2), .u32(1), .u32(0)])
        for (path, from) in [
            ("/other", try client("192.0.3.9")), ("/other", try client("192.0.2.9", port: 1024)), ("/", inside),
            ("/nowhere", inside), ("/file", inside), ("/otherwise", inside),
            ("/other/../file", try client("192.0.3.9")),
            ("/other/nowhere", try client("192.0.3.9")),
        ] {
            #expect(await test.mountReply(.mnt, .string(path), from: from) == .u32(13), "\(path) \(from)")
        }
        // Inside of the export it is told what isn't there; ".." leads nowhere.
        #expect(await test.mountReply(.mnt, .string("/other/nowhere"), from: inside) == .u32(2))
        #expect(await test.mountReply(.mnt, .string("/other/.."), from: inside) == .u32(2))
        #expect(await test.mountReply(.mnt, .string("/other/file"), from: inside) == .u32(20))
    }

    @Test("of nested exports the longest path wins")
    func nested() async throws {
        let test = await Self.programs(.open, try Self.other(try Self.rule("192.0.2.0/24")))
        let flavors: WireBytes = [.u32(2), .u32(1), .u32(0)]
        let (inside, outside) = (try client("192.0.2.9"), try client("192.0.3.9"))
        #expect(await test.mountReply(.mnt, .string("/"), from: outside) == [.u32(0), Wire.root, flavors])
        #expect(await test.mountReply(.mnt, .string("/other"), from: inside) == [.u32(0), Self.rootOfOther, flavors])
        #expect(await test.mountReply(.mnt, .string("/other"), from: outside) == .u32(13))
    }

    @Test("each call is checked: a client outside the export gets NFS3ERR_ACCES without attributes")
    func eachCall() async throws {
        let test = await Self.programs(try Self.other(try Self.rule("192.0.2.0/24")))
        let asked = test.service.calls.count
        for from in [try client("198.51.100.1"), try client("192.0.2.9", port: 2000), nil] {
            #expect(await test.reply(.getattr, Self.fileInOther, from: from) == .u32(13))
            #expect(await test.reply(.access, [Self.fileInOther, .u32(63)], from: from) == [.u32(13), .no])
            #expect(
                await test.reply(.write, [Self.fileInOther, .u64(0), .u32(1), .u32(0), .opaque([1])], from: from)
                    == [.u32(13), .no, .no])
        }
        #expect(await test.reply(.null, [], from: nil) == [])
        #expect(test.service.calls.count == asked, "the file service was asked")
        #expect(test.programs.exports.denied == 9)
    }

    @Test("what is refused is not for the duplicate request cache; what fails for a client of the export is")
    func remembered() async throws {
        let test = await Self.programs(
            try Self.other(
                try Self.rule("192.0.2.0/24") {
                    $0.access = .readOnly; $0.needsPrivilegedPort = false
                }))
        func isRefusal(_ handle: WireBytes, from client: SocketAddress) async -> Bool? {
            let arguments: WireBytes = [handle, .u64(0), .u32(1), .u32(0), .opaque([1])]
            let outcome = await test.programs.handle(
                Programs.call(NFSProcedure.write.rawValue, arguments, from: client))
            guard case .success(let body) = outcome else { return nil }
            return body.isRefusal
        }
        #expect(await isRefusal(Self.fileInOther, from: try client("198.51.100.1")) == true)
        #expect(await isRefusal(.opaque([1, 2, 3]), from: try client("192.0.2.9")) == true, "a forged handle")
        #expect(await isRefusal(Self.fileInOther, from: try client("192.0.2.9")) == false, "NFS3ERR_ROFS")
    }

    @Test("a reload is felt by handles in use: ACCES, STALE when the export is gone, and good again afterwards")
    func reload() async throws {
        let export = try Self.other(try Self.rule("192.0.2.0/24"))
        let table = ExportTable([export])
        let test = Programs(exports: table)
        _ = await test.programs.findExportRoots()
        let from = try client("192.0.2.9")
        func status() async -> [UInt8]? {
            (await test.reply(.getattr, Self.fileInOther, from: from)).map { Array($0.bytes.prefix(4)) }
        }
        #expect(await status() == [0, 0, 0, 0])
        table.replace([try Self.other(try Self.rule("192.0.3.0/24"))])
        #expect(await status() == [0, 0, 0, 13])
        table.replace([.open])
        #expect(await status() == [0, 0, 0, 70])
        table.replace([export])
        _ = await test.programs.findExportRoots()
        #expect(await status() == [0, 0, 0, 0])
    }

    @Test(
        "a read-only export refuses what changes files with NFS3ERR_ROFS and masks ACCESS",
        arguments: NFSProcedure.allCases)
    func readOnly(procedure: NFSProcedure) async throws {
        let test = await Self.programs(try Self.other(try Self.rule("192.0.2.0/24") { $0.access = .readOnly })) {
            $0.granted = [.read, .lookup, .modify, .extend, .delete, .execute]
        }
        let from = try client("192.0.2.9")
        let handle = Self.rootOfOther
        let place: WireBytes = [handle, .string("new")]
        let arguments: WireBytes =
            switch procedure {
            case .null: []
            case .getattr, .readlink, .fsstat, .fsinfo, .pathconf: handle
            case .setattr: [handle, Wire.noAttributes, .no]
            case .lookup: [handle, .string("file")]
            case .access: [handle, .u32(63)]
            case .read: [handle, .u64(0), .u32(1)]
            case .write: [handle, .u64(0), .u32(1), .u32(0), .opaque([1])]
            case .create: [place, .u32(1), Wire.noAttributes]
            case .mkdir: [place, Wire.noAttributes]
            case .symlink: [place, Wire.noAttributes, .string("target")]
            case .mknod: [place, .u32(7), Wire.noAttributes]
            case .remove, .rmdir: place
            case .rename: [place, place]
            case .link: [handle, place]
            case .readdir: [handle, .u64(0), .u64(0), .u32(4096)]
            case .readdirplus: [handle, .u64(0), .u64(0), .u32(4096), .u32(4096)]
            case .commit: [handle, .u64(0), .u32(0)]
            }
        let reply = try #require(await test.reply(procedure, arguments, from: from))
        let status = reply.bytes.isEmpty ? [0, 0, 0, 0] : Array(reply.bytes.prefix(4))
        #expect((status == [0, 0, 0, 30]) == procedure.changesFiles, "\(reply)")
        if procedure == .access { #expect(reply.bytes.suffix(4) == [0, 0, 0, 0x23]) }
        if procedure == .remove {
            #expect(reply == [.u32(30), .no, .yes, Self.attributes(type: 2, mode: 0o700, size: 512, fileID: 9)])
        }
    }

    private static func attributes(type: UInt32, mode: UInt32, size: UInt64, fileID: UInt64) -> WireBytes {
        [
            .u32(type), .u32(mode), .u32(1), .u32(1000), .u32(100), .u64(size), .u64(4097), .u32(0), .u32(0),
            .u64(fileSystemID), .u64(fileID), .u32(21), .u32(1), .u32(22), .u32(2), .u32(23), .u32(3),
        ]
    }

    @Test("attributes of an export below the root carry a file system id of its own (RFC 1813 §2.6)")
    func fileSystemID() async throws {
        let test = await Self.programs(.open, try Self.other(try Self.rule("192.0.2.9")))
        let from = try client("192.0.2.9")
        #expect(
            await test.reply(.getattr, Self.rootOfOther, from: from)
                == [.u32(0), Self.attributes(type: 2, mode: 0o700, size: 512, fileID: 9)])
        #expect(await test.reply(.getattr, Wire.other, from: from) == [.u32(0), Wire.otherAttributes])
    }

    @Test("\"..\" of an export's root is the root itself, in LOOKUP, READDIR and READDIRPLUS")
    func aboveRoot() async throws {
        let test = await Self.programs(try Self.other(try Self.rule("192.0.2.9"))) {
            $0.names["."] = Fixture.other
            $0.names[".."] = Fixture.root
            $0.entries = [
                DirectoryEntry(
                    name: name(".."), cookie: 2, fileID: Fixture.root.id,
                    entry: FileEntry(file: Fixture.root, attributes: Fixture.rootAttributes))
            ]
        }
        let from = try client("192.0.2.9")
        let lookup = try #require(await test.reply(.lookup, [Self.rootOfOther, .string("..")], from: from))
        #expect(lookup.bytes.starts(with: ([.u32(0), Self.rootOfOther] as WireBytes).bytes))
        let readdir = try #require(
            await test.reply(.readdir, [Self.rootOfOther, .u64(0), .u64(0), .u32(4096)], from: from))
        #expect(
            readdir.bytes.suffix(36)
                == ([.yes, .u64(9), .string(".."), .u64(2), .no, .yes] as WireBytes).bytes.suffix(36))
        let plus = try #require(
            await test.reply(.readdirplus, [Self.rootOfOther, .u64(0), .u64(0), .u32(4096), .u32(4096)], from: from))
        let handle: WireBytes = [.yes, Self.rootOfOther, .no, .yes]
        #expect(plus.bytes.suffix(handle.bytes.count) == handle.bytes[...])
    }

    @Test("LOOKUP of \"..\" goes up at most as many directories as there are one in the other: NFS3ERR_NAMETOOLONG")
    func walkUp() async throws {
        // Its own parent, and nowhere near the export.
        let test = await Self.programs(try Self.other(try Self.rule("192.0.2.9"))) { $0.names[".."] = Fixture.file }
        let from = try client("192.0.2.9")
        let service = test.service
        // A walk that does not end by itself finds an end, too late.
        let watch = Task {
            while service.calls.count < 3 * Limits.maxDirectoryDepth {
                if Task.isCancelled { return }
                await Task.yield()
            }
            service.set { $0.names[".."] = nil }
        }
        let reply = await test.reply(.lookup, [Self.fileInOther, .string("..")], from: from)
        watch.cancel()
        #expect(reply?.u32(at: 0) == 63)
        // What was asked for, the walk, and the look for the export's root before.
        #expect(service.calls.count == 1 + Limits.maxDirectoryDepth + 1)
    }

    @Test("RENAME and LINK between two exports are NFS3ERR_XDEV (RFC 1813 §3.3.14, §3.3.15)")
    func crossDevice() async throws {
        let test = await Self.programs(.open, try Self.other(try Self.rule("192.0.2.9")))
        let from = try client("192.0.2.9")
        let rename: WireBytes = [Self.rootOfOther, .string("a"), Wire.root, .string("b")]
        #expect(await test.reply(.rename, rename, from: from) == [.u32(18), .no, .no, .no, .no])
        let link: WireBytes = [Self.fileInOther, Wire.root, .string("b")]
        #expect(await test.reply(.link, link, from: from) == [.u32(18), .no, .no, .no])
        // Not even that for an export that isn't the caller's.
        let outside = try client("192.0.2.10")
        #expect(await test.reply(.rename, rename, from: outside) == [.u32(13), .no, .no, .no, .no])
    }

    @Test("squash: none, root (user and groups 0), all; AUTH_NONE is the anonymous user of the export")
    func squash() throws {
        let root = RPCCredential.system(Credentials(uid: 0, gid: 0, groups: [0, 5]), machineName: [])
        let user = RPCCredential.system(Credentials(uid: 7, gid: 8, groups: [0, 9]), machineName: [])
        let anonymous = Credentials(uid: 100, gid: 200, groups: [])
        var rule = try Self.rule("*") {
            $0.anonymousUID = 100
            $0.anonymousGID = 200
        }
        #expect(rule.squash == .root)
        #expect(rule.caller(root) == Credentials(uid: 100, gid: 200, groups: [200, 5]))
        #expect(rule.caller(user) == Credentials(uid: 7, gid: 8, groups: [200, 9]))
        #expect(rule.caller(.none) == anonymous)
        rule.squash = .none
        #expect(rule.caller(root) == Credentials(uid: 0, gid: 0, groups: [0, 5]))
        #expect(rule.caller(.none) == anonymous)
        rule.squash = .all
        #expect(rule.caller(user) == anonymous)
    }

    @Test("the first rule whose network has the client decides")
    func firstMatch() async throws {
        let test = await Self.programs(
            try Self.other(try Self.rule("192.0.2.9") { $0.squash = .all }, try Self.rule("192.0.2.0/24")))
        _ = await test.reply(.access, [Self.fileInOther, .u32(1)], from: try client("192.0.2.9"))
        _ = await test.reply(.access, [Self.fileInOther, .u32(1)], from: try client("192.0.2.10"))
        #expect(test.service.callers.suffix(2) == [.anonymous, Fixture.caller])
    }

    @Test("EXPORT lists exports with their networks, everyone as none (RFC 1813 §5.2.5)")
    func export() async throws {
        let test = await Self.programs(
            .open, try Self.other(try Self.rule("192.0.2.0/24"), try Self.rule("fd00::/8")))
        #expect(
            await test.mountReply(.export, []) == [
                .yes, .string("/"), .no, .yes, .string("/other"), .yes, .string("192.0.2.0/24"), .yes,
                .string("fd00::/8"), .no, .no,
            ])
    }

    @Test("an export whose directory is missing is mounted once it is there; that of another directory turns stale")
    func directories() async throws {
        let test = Programs(exports: ExportTable([try Self.other(try Self.rule("192.0.2.9"))])) {
            $0.names["other"] = nil
        }
        #expect(await test.programs.findExportRoots() == [try ExportPath("/other")])
        let from = try client("192.0.2.9")
        #expect(await test.mountReply(.mnt, .string("/other"), from: from) == .u32(2))
        #expect(await test.reply(.getattr, Self.rootOfOther, from: from) == .u32(70))
        test.service.set { $0.names["other"] = Fixture.other }
        #expect(await test.mountReply(.mnt, .string("/other"), from: from)?.bytes.count == 64)
        #expect(await test.reply(.getattr, Self.rootOfOther, from: from) != .u32(70))
        test.service.set { $0.names["other"] = Fixture.root }
        _ = await test.programs.findExportRoots()
        #expect(await test.reply(.getattr, Self.rootOfOther, from: from) == .u32(70))
    }
}

@Suite("Networks of clients")
struct ClientNetworkTests {
    @Test(
        "a client is in a network by its first bits; IPv4 mapped into IPv6 is IPv4",
        arguments: [
            ("192.0.2.0/24", "192.0.2.255", true), ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "::ffff:192.0.2.7", true), ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false), ("0.0.0.0/0", "203.0.113.1", true), ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true), ("::/0", "192.0.2.1", false), ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false), ("2001:db8::1", "2001:db8::1", true), ("2001:db8::1", "2001:db8::2", false),
            ("*", "192.0.2.1", true), ("*", "2001:db8::1", true), ("192.0.2.128/25", "192.0.2.127", false),
        ])
    func contains(network: String, address: String, expected: Bool) throws {
        #expect(try ClientNetwork(network).contains(try client(address)) == expected)
    }

    @Test(
        "what is no network is refused",
        arguments: [
            ("192.0.2.1/24", ClientNetwork.Refusal.hostBitsSet), ("fd00::1/8", .hostBitsSet),
            ("192.0.2.0/33", .prefixTooLong(32)), ("fd00::/129", .prefixTooLong(128)),
            ("192.0.2.0/", .prefixTooLong(32)),
            ("192.0.2.0/-1", .prefixTooLong(32)), ("192.0.2/24", .notAnAddress), ("host", .notAnAddress),
            ("", .notAnAddress), ("192.0.2.0/24/1", .notAnAddress), ("192.0.2.1\0, 192.0.2.2", .notAnAddress),
        ])
    func refused(text: String, reason: ClientNetwork.Refusal) {
        #expect(throws: reason) { try ClientNetwork(text) }
    }
}
