// What each procedure answers when it succeeds, over a real store: the whole reply.

import FileService
import Model
import Testing

@testable import NFS3

@Suite("Conformance: whole replies")
struct WholeReplyTests {
    /// wcc_data (RFC 1813 §2.6): the attributes that count before, all of them after.
    private func change(_ before: WireBytes?, _ after: WireBytes?) throws -> WireBytes {
        [try #require(before).before, .yes, try #require(after)]
    }

    @Test("GETATTR: every field of fattr3 (RFC 1813 §2.6, §3.3.1)")
    func getattr() async throws {
        let store = try await ServedStore()
        let file = try await store.makeFile("f", mode: 0o4640, bytes: Array(repeating: 7, count: 5000))
        let reply = try await store.succeed(.getattr, file)
        let fileID = try #require(await store.attributes(file)).fileID
        let fsid = try #require(await store.attributes(store.root)).u64(at: 44)
        let changed = reply.u32(at: 84)
        #expect(
            reply == [
                .u32(0), .u32(1), .u32(0o4640), .u32(1), .u32(1000), .u32(100), .u64(5000), .u64(5000), .u64(0),
                .u64(fsid), .u64(fileID), .u32(1000), .u32(5), .u32(1000), .u32(reply.u32(at: 76)), .u32(1000),
                .u32(changed),
            ])
        #expect(fsid != 0 && fileID > 1 && changed >= 5)
        await store.close()
    }

    @Test("GETATTR: the types and their sizes, links and rdev (RFC 1813 §2.6)")
    func types() async throws {
        let store = try await ServedStore(allowsDevices: true)
        let devices: WireBytes = [.mode(0o600), .u32(8), .u32(17)]
        try await store.makeFile("1")
        try await store.makeDirectory("2")
        try await store.succeed(.mknod, [store.root, .string("3"), .u32(3), devices])
        try await store.succeed(.mknod, [store.root, .string("4"), .u32(4), devices])
        try await store.makeLink("5", to: "target")
        try await store.succeed(.mknod, [store.root, .string("6"), .u32(6), .mode(0o600)])
        try await store.makeFIFO("7")
        for restarts in 0..<2 {
            if restarts == 1 { try await store.restart() }
            for type in 1...7 as ClosedRange<UInt32> {
                let attributes = try #require(await store.attributes(store.find("\(type)")))
                #expect(attributes.u32(at: 0) == type)
                #expect(attributes.linkCount == (type == 2 ? 2 : 1))
                #expect(attributes.size == (type == 5 ? 6 : 0))
                #expect(attributes.u64(at: 36) == (type == 3 || type == 4 ? 8 << 32 | 17 : 0), "rdev of type \(type)")
            }
        }
        await store.close()
    }

    @Test("SETATTR: wcc_data (RFC 1813 §3.3.2)")
    func setattr() async throws {
        let store = try await ServedStore()
        let file = try await store.makeFile("f", bytes: [1, 2, 3])
        for arguments in [.size(1), .size(9000), .mode(0o600), Wire.noAttributes] as [WireBytes] {
            let before = await store.attributes(file)
            let reply = try await store.succeed(.setattr, [file, arguments, .no])
            #expect(reply == [.u32(0), try change(before, await store.attributes(file))])
        }
        #expect(await store.attributes(file)?.size == 9000)
        await store.close()
    }

    @Test("LOOKUP: handle, attributes, and the directory's; \".\" and \"..\" too (RFC 1813 §3.3.3, §3.2)")
    func lookup() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let file = try await store.makeFile("f", in: directory)
        for (name, found) in [("f", file), (".", directory), ("..", store.root)] {
            let reply = try await store.succeed(.lookup, [directory, .string(name)])
            #expect(reply == [.u32(0), found, await store.postOp(found), await store.postOp(directory)])
        }
        // The root's parent is the root: nobody gets above the export.
        let up = try await store.succeed(.lookup, [store.root, .string("..")])
        #expect(up == [.u32(0), store.root, await store.postOp(store.root), await store.postOp(store.root)])
        await store.close()
    }

    @Test("ACCESS: the bits that each type has, for owner, group and others (RFC 1813 §3.3.4)")
    func access() async throws {
        let store = try await ServedStore()
        let all = WireBytes.u32(0x3f)
        let file = try await store.makeFile("f", mode: 0o754)
        let directory = try await store.makeDirectory("d", mode: 0o754)
        let fifo = try await store.makeFIFO("p")
        try await store.succeed(.setattr, [fifo, .mode(0o777), .no])
        let member = Credentials(uid: 3000, gid: 3000, groups: [1, 100])
        // READ 1, LOOKUP 2, MODIFY 4, EXTEND 8, DELETE 0x10, EXECUTE 0x20
        let cases: [(WireBytes, Credentials, UInt32)] = [
            (file, ServedStore.owner, 0x2d), (file, member, 0x21), (file, ServedStore.stranger, 0x01),
            (file, ServedStore.superuser, 0x2d),
            (directory, ServedStore.owner, 0x1f), (directory, member, 0x03), (directory, ServedStore.stranger, 0x01),
            (directory, ServedStore.superuser, 0x1f), (fifo, ServedStore.stranger, 0x0d),
        ]
        for (file, caller, granted) in cases {
            let reply = try await store.succeed(.access, [file, all], as: caller)
            #expect(reply == [.u32(0), await store.postOp(file), .u32(granted)], "uid \(caller.uid)")
        }
        // The superuser may execute what somebody may.
        try await store.succeed(.setattr, [file, .mode(0o644), .no])
        #expect(try await store.succeed(.access, [file, all]).u32(at: 92) == 0x0d)
        await store.close()
    }

    @Test("SYMLINK and READLINK: any bytes but NUL, not followed (RFC 1813 §3.3.5, §3.3.10)")
    func symlink() async throws {
        let store = try await ServedStore()
        let longest = Array(repeating: UInt8(ascii: "x"), count: 4096)
        let targets: [[UInt8]] = [[0xff, 0x2f, 0x20], Array("../..//".utf8), longest]
        for (number, target) in targets.enumerated() {
            let before = await store.attributes(store.root)
            let reply = try await store.succeed(
                .symlink, [store.root, .string("s\(number)"), .mode(0o777), .opaque(target)], as: ServedStore.superuser)
            let link = try await store.find("s\(number)")
            let after = await store.attributes(store.root)
            #expect(reply == [.u32(0), .yes, link, await store.postOp(link), try change(before, after)])
            #expect(await store.attributes(link)?.size == UInt64(target.count))
            let read = try await store.succeed(.readlink, link, as: ServedStore.stranger)
            #expect(read == [.u32(0), await store.postOp(link), .opaque(target)])
        }
        await store.close()
    }

    @Test("READ: bytes, count and eof, at and beyond the end and for more than rtmax (RFC 1813 §3.3.6)")
    func read() async throws {
        let store = try await ServedStore()
        let bytes = (0..<5003).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let file = try await store.makeFile("f", bytes: bytes)
        let cases: [(offset: UInt64, count: UInt32, expected: Range<Int>, eof: Bool)] = [
            (0, 5003, 0..<5003, true), (0, 5002, 0..<5002, false), (1, .max, 1..<5003, true), (5003, 1, 0..<0, true),
            (5002, 1, 5002..<5003, true), (1 << 40, 10, 0..<0, true), (.max, .max, 0..<0, true), (0, 0, 0..<0, false),
            (5003, 0, 0..<0, true),
        ]
        for (offset, count, range, eof) in cases {
            let reply = try await store.succeed(.read, [file, .u64(offset), .u32(count)], as: ServedStore.stranger)
            #expect(
                reply == [
                    .u32(0), await store.postOp(file), .u32(UInt32(range.count)), eof ? .yes : .no,
                    .opaque(Array(bytes[range])),
                ], "\(offset) + \(count)")
        }
        // A hole of 2 MiB: no more than rtmax comes, and it isn't the end.
        try await store.succeed(.setattr, [file, .size(2 << 20), .no])
        let reply = try await store.succeed(.read, [file, .u64(0), .u32(2 << 20)])
        #expect(reply.u32(at: 92) == 1 << 20 && reply.u32(at: 96) == 0)
        await store.close()
    }

    @Test("WRITE and COMMIT: wcc_data, count, stability and one verifier (RFC 1813 §3.3.7, §3.3.21)")
    func write() async throws {
        let store = try await ServedStore()
        let file = try await store.makeFile("f")
        var verifiers: Set<UInt64> = []
        for (asked, given) in [(0, 0), (1, 2), (2, 2)] as [(UInt32, UInt32)] {
            let before = await store.attributes(file)
            let reply = try await store.succeed(
                .write, [file, .u64(3), .u32(5), .u32(asked), .opaque([1, 2, 3, 4, 5])], as: ServedStore.owner)
            let after = await store.attributes(file)
            let verifier = reply.u64(at: reply.bytes.count - 8)
            #expect(reply == [.u32(0), try change(before, after), .u32(5), .u32(given), .u64(verifier)])
            verifiers.insert(verifier)
        }
        // Nothing is written, nothing changes.
        let before = await store.attributes(file)
        let empty = try await store.succeed(.write, [file, .u64(100), .u32(0), .u32(2), .opaque([])])
        #expect(empty == [.u32(0), try change(before, before), .u32(0), .u32(2), .u64(verifiers.first ?? 0)])
        let commit = try await store.succeed(.commit, [file, .u64(0), .u32(0)], as: ServedStore.owner)
        #expect(commit == [.u32(0), try change(before, before), .u64(verifiers.first ?? 0)])
        #expect(verifiers.count == 1)
        // §4.8: another boot, another verifier.
        try await store.restart()
        let later = try await store.succeed(.commit, [file, .u64(0), .u32(0)])
        #expect(later == [.u32(0), try change(before, before), .u64(later.u64(at: later.bytes.count - 8))])
        #expect(!verifiers.contains(later.u64(at: later.bytes.count - 8)))
        await store.close()
    }

    @Test("CREATE, MKDIR and MKNOD: handle, attributes, wcc_data (RFC 1813 §3.3.8, §3.3.9, §3.3.11)")
    func create() async throws {
        let store = try await ServedStore(allowsDevices: true)
        let directory = try await store.makeDirectory("d")
        let mode = WireBytes.mode(0o640)
        let cases: [(NFSProcedure, WireBytes, UInt32)] = [
            (.create, [.u32(0), mode], 0o640), (.create, [.u32(1), mode], 0o640), (.create, [.u32(2), .u64(9)], 0o600),
            (.mkdir, mode, 0o640), (.mknod, [.u32(7), mode], 0o640), (.mknod, [.u32(6), mode], 0o640),
        ]
        for (number, (procedure, how, mode)) in cases.enumerated() {
            let before = await store.attributes(directory)
            let reply = try await store.succeed(
                procedure, [directory, .string("\(number)"), how], as: ServedStore.owner)
            let made = try await store.find("\(number)", in: directory)
            let after = await store.attributes(directory)
            #expect(reply == [.u32(0), .yes, made, await store.postOp(made), try change(before, after)])
            let attributes = try #require(await store.attributes(made))
            #expect(attributes.mode == mode && attributes.uid == 1000 && attributes.gid == 100)
            #expect(attributes.linkCount == (procedure == .mkdir ? 2 : 1))
        }
        // UNCHECKED over what is there: the directory doesn't change, the size is taken, the mode isn't.
        let file = try await store.makeFile("there", in: directory, bytes: [1, 2, 3])
        let unchanged = await store.attributes(directory)
        let sattr: WireBytes = [.yes, .u32(0o777), .no, .no, .yes, .u64(1), .u32(0), .u32(0)]
        let reply = try await store.succeed(
            .create, [directory, .string("there"), .u32(0), sattr], as: ServedStore.owner)
        let after = try change(unchanged, unchanged)
        #expect(reply == [.u32(0), .yes, file, await store.postOp(file), after])
        let attributes = try #require(await store.attributes(file))
        #expect(attributes.size == 1 && attributes.mode == 0o644)
        await store.close()
    }

    @Test("LINK: the file's attributes, the directory's wcc_data; both names are one file (RFC 1813 §3.3.15)")
    func link() async throws {
        let store = try await ServedStore()
        let file = try await store.makeFile("f", bytes: [1, 2, 3])
        let directory = try await store.makeDirectory("d")
        // Pending bytes are part of what LINK says.
        try await store.succeed(.write, [file, .u64(3), .u32(1), .u32(0), .opaque([4])])
        let before = await store.attributes(directory)
        let fileBefore = try #require(await store.attributes(file))
        let reply = try await store.succeed(.link, [file, directory, .string("g")], as: ServedStore.owner)
        let after = await store.attributes(directory)
        #expect(reply == [.u32(0), await store.postOp(file), try change(before, after)])
        let fileAfter = try #require(await store.attributes(file))
        #expect(fileAfter.linkCount == 2 && fileAfter.size == 4)
        #expect(fileAfter.changeTime > fileBefore.changeTime)
        #expect(fileAfter.modificationTime == fileBefore.modificationTime)
        #expect(try await store.find("g", in: directory) == file)
        await store.close()
    }

    @Test("REMOVE, RMDIR and RENAME: wcc_data of the directories (RFC 1813 §3.3.12 to §3.3.14)")
    func removeAndRename() async throws {
        let store = try await ServedStore()
        let (one, two) = (try await store.makeDirectory("1"), try await store.makeDirectory("2"))
        try await store.makeFile("f", in: one)
        try await store.makeDirectory("d", in: one)
        var (oneBefore, twoBefore) = (await store.attributes(one), await store.attributes(two))
        for name in ["f", "d"] {
            let reply = try await store.succeed(
                .rename, [one, .string(name), two, .string(name)], as: ServedStore.owner)
            let (oneAfter, twoAfter) = (await store.attributes(one), await store.attributes(two))
            #expect(reply == [.u32(0), try change(oneBefore, oneAfter), try change(twoBefore, twoAfter)])
            (oneBefore, twoBefore) = (oneAfter, twoAfter)
        }
        // The moved directory's ".." counts.
        #expect(oneBefore?.linkCount == 2 && twoBefore?.linkCount == 3)
        for (procedure, name) in [(NFSProcedure.remove, "f"), (.rmdir, "d")] {
            let reply = try await store.succeed(procedure, [two, .string(name)], as: ServedStore.owner)
            let after = await store.attributes(two)
            #expect(reply == [.u32(0), try change(twoBefore, after)])
            twoBefore = after
        }
        #expect(twoBefore?.linkCount == 2)
        await store.close()
    }

    @Test("READDIR and READDIRPLUS: every entry once, ids, handles, eof (RFC 1813 §3.3.16, §3.3.17)")
    func readdir() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let file = try await store.makeFile("f", in: directory)
        // A hard link is an entry of its own, of the same id.
        try await store.succeed(.link, [file, directory, .string("g")])
        func entry(_ name: String, _ file: WireBytes, cookie: UInt64, plus: Bool) async throws -> WireBytes {
            let id = try #require(await store.attributes(file)).fileID
            let entry: WireBytes = [.yes, .u64(id), .string(name), .u64(cookie)]
            return plus ? entry + (await store.postOp(file)) + .yes + file : entry
        }
        for plus in [false, true] {
            var entries: [WireBytes] = []
            for (index, (name, node)) in [(".", directory), ("..", store.root), ("f", file), ("g", file)].enumerated() {
                entries.append(try await entry(name, node, cookie: UInt64(index + 1), plus: plus))
            }
            let head: WireBytes = [.u32(0), await store.postOp(directory), .u64(0)]
            for start in 0...4 {
                let limits: WireBytes = plus ? [.u32(8192), .u32(8192)] : .u32(8192)
                let reply = try await store.succeed(
                    plus ? .readdirplus : .readdir, [directory, .u64(UInt64(start)), .u64(0), limits],
                    as: ServedStore.stranger)
                #expect(reply == entries[start...].reduce(head, +) + .no + .yes, "from cookie \(start)")
            }
        }
        await store.close()
    }

    @Test("FSSTAT, FSINFO and PATHCONF of any file (RFC 1813 §3.3.18 to §3.3.20)")
    func fileSystem() async throws {
        let store = try await ServedStore()
        let mebibyte = WireBytes.u32(1 << 20)
        for file in [store.root, try await store.makeFile("f"), try await store.makeLink("s", to: "f")] {
            let head: WireBytes = [.u32(0), await store.postOp(file)]
            #expect(
                try await store.succeed(.fsinfo, file) == head + [
                    mebibyte, mebibyte, .u32(4096), mebibyte, mebibyte, .u32(4096), .u32(65536), .u64(1 << 62),
                    .u32(0), .u32(1), .u32(0x1b),
                ])
            #expect(
                try await store.succeed(.pathconf, file) == head + [.u32(32000), .u32(255), .yes, .yes, .no, .yes])
            let space = try await store.succeed(.fsstat, file)
            #expect(space.bytes.count == head.bytes.count + 52 && space.bytes.starts(with: head.bytes))
            let values = (0..<6).map { space.u64(at: 92 + 8 * $0) }
            #expect(values[0] >= values[1] && values[1] >= values[2] && values[2] > 0, "tbytes, fbytes, abytes")
            #expect(values[3] >= values[4] && values[4] >= values[5] && values[5] > 0, "tfiles, ffiles, afiles")
        }
        await store.close()
    }
}
