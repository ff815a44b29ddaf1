// Rules of RFC 1813 and of Linux that are about more than one call.

import FileService
import Model
import Testing

@testable import NFS3

@Suite("Conformance: rules")
struct RuleTests {
    private let owner = ServedStore.owner
    private let stranger = ServedStore.stranger

    /// sattr3 with times: 0 don't change, 1 to the server's, 2 to these.
    private func times(_ access: WireBytes, _ modification: WireBytes) -> WireBytes {
        [.no, .no, .no, .no, access, modification]
    }

    @Test("EXCLUSIVE: all 8 bytes count, also after a restart; the SETATTR that follows ends it (RFC 1813 §3.3.8)")
    func exclusive() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let verifier: UInt64 = 0x8877_6655_4433_2211
        func create(_ verifier: UInt64) async -> WireBytes? {
            await store.call(.create, [directory, .string("x"), .u32(2), .u64(verifier)], as: owner)
        }
        let first = try #require(await create(verifier))
        #expect(first.u32(at: 0) == 0)
        let file = first.opaque(at: 8)
        for restarts in 0..<2 {
            if restarts == 1 { try await store.restart() }
            // Each byte.
            for bit in stride(from: 0, to: 64, by: 8) {
                #expect(await create(verifier ^ 1 << UInt64(bit))?.u32(at: 0) == 17)
            }
            let before = await store.attributes(directory)
            let again = try #require(await create(verifier))
            #expect(again.u32(at: 0) == 0 && again.opaque(at: 8) == file)
            #expect(await store.attributes(directory) == before)
        }
        // Writing alone ends nothing: the answer may still be under way.
        try await store.succeed(.write, [file, .u64(0), .u32(1), .u32(2), .opaque([1])], as: owner)
        #expect(await create(verifier)?.u32(at: 0) == 0)
        try await store.succeed(.setattr, [file, times(.u32(1), .u32(1)), .no], as: owner)
        #expect(await create(verifier)?.u32(at: 0) == 17)
        await store.close()
    }

    @Test("the guard is the change time, to the nanosecond (RFC 1813 §3.3.2)")
    func guardTime() async throws {
        let store = try await ServedStore()
        let file = try await store.makeFile("f")
        let time = try #require(await store.attributes(file)).changeTime
        for wrong in [time + 1, time &- 1, time + 1 << 32, 0] {
            #expect(await store.status(.setattr, [file, .mode(0o600), .yes, .u64(wrong)]) == 10002)
        }
        try await store.succeed(.setattr, [file, .mode(0o600), .yes, .u64(time)])
        // It has changed now.
        #expect(await store.status(.setattr, [file, .mode(0o600), .yes, .u64(time)]) == 10002)
        await store.close()
    }

    @Test("times: who may write sets them to now, only the owner to what he likes; ctime goes up each time (§3.3.2)")
    func times() async throws {
        let store = try await ServedStore()
        let file = try await store.makeFile("f", mode: 0o646)
        let chosen: WireBytes = [.u32(2), .u32(4_000_000_000), .u32(999_999_999)]
        #expect(await store.status(.setattr, [file, times(chosen, chosen), .no], as: stranger) == 1)
        try await store.succeed(.setattr, [file, times(chosen, chosen), .no], as: owner)
        let set = try #require(await store.attributes(file))
        #expect(set.accessTime == 4_000_000_000 << 32 | 999_999_999 && set.modificationTime == set.accessTime)
        try await store.succeed(.setattr, [file, times(.u32(1), .u32(0)), .no], as: stranger)
        let touched = try #require(await store.attributes(file))
        #expect(touched.accessTime == 1000 << 32 | 5 && touched.modificationTime == set.modificationTime)
        #expect(touched.changeTime > set.changeTime)
        // A WRITE in the same nanosecond of the server's clock moves ctime, too.
        try await store.succeed(.write, [file, .u64(0), .u32(1), .u32(0), .opaque([1])], as: stranger)
        let written = try #require(await store.attributes(file))
        #expect(written.changeTime > touched.changeTime && written.modificationTime == 1000 << 32 | 5)
        await store.close()
    }

    @Test("setuid and setgid go with a write, a truncate and a change of owner (as chown(2) and write(2) have it)")
    func privilegeBits() async throws {
        let store = try await ServedStore()
        let file = try await store.makeFile("f")
        func set(_ mode: UInt32) async throws { try await store.succeed(.setattr, [file, .mode(mode), .no]) }
        func mode() async throws -> UInt32 { try #require(await store.attributes(file)).mode }
        let write: WireBytes = [file, .u64(0), .u32(1), .u32(0), .opaque([1])]
        let group: WireBytes = [file, .no, .no, .yes, .u32(24), .no, .u32(0), .u32(0), .no]

        try await set(0o6777)
        try await store.succeed(.write, write, as: stranger)
        #expect(try await mode() == 0o777)
        try await set(0o6777)
        try await store.succeed(.setattr, [file, .size(9), .no], as: stranger)
        #expect(try await mode() == 0o777)
        // setgid without group execute is no privilege.
        try await set(0o6767)
        try await store.succeed(.write, write, as: stranger)
        #expect(try await mode() == 0o2767)
        // The superuser's writes leave them, his chown does not, unless he says the mode as well.
        try await set(0o6777)
        try await store.succeed(.write, write)
        #expect(try await mode() == 0o6777)
        try await store.succeed(.setattr, group)
        #expect(try await mode() == 0o777)
        let both: WireBytes = [file, .yes, .u32(0o4755), .yes, .u32(1000), .yes, .u32(100), .no, .u32(0), .u32(0), .no]
        try await store.succeed(.setattr, both)
        #expect(try await mode() == 0o4755)
        try await store.succeed(.setattr, group, as: owner)
        #expect(try await mode() == 0o755)
        // chmod g+s of a file of a group that one isn't in.
        try await store.succeed(.setattr, [file, .no, .no, .yes, .u32(200), .no, .u32(0), .u32(0), .no])
        try await store.succeed(.setattr, [file, .mode(0o6755), .no], as: owner)
        #expect(try await mode() == 0o4755)
        await store.close()
    }

    @Test("a setgid directory passes its group on, and itself to directories; a group that is named wins")
    func setgidDirectories() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d", mode: 0o2777)
        let named: WireBytes = [.yes, .u32(0o640), .no, .yes, .u32(200), .no, .u32(0), .u32(0)]
        try await store.succeed(.create, [directory, .string("f"), .u32(1), .mode(0o640)], as: stranger)
        try await store.succeed(.create, [directory, .string("g"), .u32(1), named], as: stranger)
        try await store.succeed(.mkdir, [directory, .string("sub"), .mode(0o755)], as: stranger)
        try await store.succeed(.symlink, [directory, .string("s"), .mode(0o777), .string("t")], as: stranger)
        let cases: [(String, UInt32, UInt32)] = [
            ("f", 100, 0o640), ("g", 200, 0o640), ("sub", 100, 0o2755), ("s", 100, 0o777),
        ]
        for (name, gid, mode) in cases {
            let made = try #require(await store.attributes(store.find(name, in: directory)))
            #expect(made.uid == 2000 && made.gid == gid && made.mode == mode, "\(name)")
        }
        await store.close()
    }

    @Test("sticky directories: only the owner of the file or of the directory takes a name away, anybody adds one")
    func sticky() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("tmp", mode: 0o1777)
        let other = try await store.makeDirectory("other", mode: 0o777)
        let third = Credentials(uid: 3000, gid: 3000, groups: [])
        let file = try await store.makeFile("f", in: directory, as: stranger)
        try await store.makeFile("g", in: directory, as: third)
        // A further name of somebody else's file: as link(2) of the file system itself.
        try await store.succeed(.link, [file, directory, .string("h")], as: third)
        let moves: [(NFSProcedure, WireBytes)] = [
            (.remove, [directory, .string("f")]), (.remove, [directory, .string("h")]),
            (.rename, [directory, .string("f"), other, .string("x")]),
            (.rename, [directory, .string("g"), directory, .string("f")]),
        ]
        for (procedure, arguments) in moves {
            #expect(await store.status(procedure, arguments, as: third) == 1, "\(procedure)")
        }
        try await store.succeed(.rename, [directory, .string("g"), directory, .string("i")], as: third)
        try await store.succeed(.remove, [directory, .string("h")], as: stranger)
        // The directory's owner.
        try await store.succeed(.remove, [directory, .string("f")], as: owner)
        await store.close()
    }

    @Test("RENAME of one name of a file to its other does nothing, and succeeds (RFC 1813 §3.3.14)")
    func renameToItself() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let file = try await store.makeFile("f", in: directory)
        try await store.succeed(.link, [file, directory, .string("g")])
        let (before, attributes) = (await store.attributes(directory), await store.attributes(file))
        for name in ["f", "g"] {
            try await store.succeed(.rename, [directory, .string("f"), directory, .string(name)], as: owner)
        }
        #expect(await store.attributes(directory) == before)
        #expect(await store.attributes(file) == attributes)
        #expect(try await store.find("f", in: directory) == store.find("g", in: directory))
        await store.close()
    }

    @Test("a handle goes on over a rename, over a rename onto another name, and until the last name is gone")
    func openFiles() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let file = try await store.makeFile("f", in: directory, bytes: [1])
        let victim = try await store.makeFile("v", in: directory, bytes: [2])
        try await store.succeed(.link, [victim, directory, .string("w")])
        try await store.succeed(.write, [victim, .u64(1), .u32(1), .u32(0), .opaque([3])])
        try await store.succeed(.rename, [directory, .string("f"), directory, .string("v")], as: owner)
        #expect(try await store.find("v", in: directory) == file)
        // The victim has its other name, and its pending byte.
        let read = try await store.succeed(.read, [victim, .u64(0), .u32(10)])
        #expect(read.opaque(at: 100) == .opaque([2, 3]))
        try await store.succeed(.rename, [directory, .string("v"), directory, .string("w")], as: owner)
        #expect(await store.status(.read, [victim, .u64(0), .u32(10)]) == 70)
        #expect(await store.status(.write, [victim, .u64(0), .u32(1), .u32(0), .opaque([3])]) == 70)
        #expect(await store.status(.commit, [victim, .u64(0), .u32(0)]) == 70)
        await store.close()
    }

    @Test("a directory that moves needs leave to change its \"..\" (as rename(2) has it)")
    func moveDirectory() async throws {
        let store = try await ServedStore()
        let (one, two) = (
            try await store.makeDirectory("1", mode: 0o777), try await store.makeDirectory("2", mode: 0o777)
        )
        try await store.makeDirectory("sub", in: one, mode: 0o755)
        #expect(await store.status(.rename, [one, .string("sub"), two, .string("sub")], as: stranger) == 13)
        try await store.succeed(.rename, [one, .string("sub"), one, .string("s")], as: stranger)
        try await store.succeed(.rename, [one, .string("s"), two, .string("s")], as: owner)
        #expect(try await store.find("..", in: store.find("s", in: two)) == two)
        await store.close()
    }

    @Test("a listing goes on after entries were removed and added, each old one once (RFC 1813 §3.3.16)")
    func listingWhileChanging() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        for number in 0..<30 { try await store.makeFile("f\(number)", in: directory) }
        var names: [String] = []
        var cookie: UInt64 = 0
        for round in 0... {
            let reply = try await store.succeed(.readdir, [directory, .u64(cookie), .u64(0), .u32(400)])
            var offset = 100
            while reply.u32(at: offset) == 1 {
                let name = reply.opaque(at: offset + 12)
                let count = Int(name.u32(at: 0))
                names.append(String(decoding: name.bytes[4..<4 + count], as: UTF8.self))
                cookie = reply.u64(at: offset + 12 + name.bytes.count)
                offset += 20 + name.bytes.count
            }
            if reply.u32(at: offset + 4) == 1 { break }
            // The entry that the cookie names goes, and one comes.
            if let last = names.last, last.hasPrefix("f") {
                try await store.succeed(.remove, [directory, .string(last)], as: owner)
            }
            if round < 3 { try await store.makeFile("new\(round)", in: directory) }
        }
        #expect(Set(names).count == names.count)
        #expect(Set(names).isSuperset(of: (0..<30).map { "f\($0)" } + [".", "..", "new0", "new1", "new2"]))
        await store.close()
    }

    @Test(
        "eof comes with the last entry, \"..\" of an empty directory, whatever fits (RFC 1813 §3.3.16, §3.3.17)",
        arguments: [false, true])
    func endOfEmptyDirectory(isPlus: Bool) async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        // One entry fits and no second one: 104 + 28 … 104 + 55 bytes, with attributes 140 more for each.
        let limits: [WireBytes] =
            isPlus
            ? [[.u32(4096), .u32(272)], [.u32(4096), .u32(411)], [.u32(28), .u32(4096)], [.u32(55), .u32(4096)]]
            : [[.u32(132)], [.u32(159)]]
        for limit in limits {
            var names: [String] = []
            var cookie: UInt64 = 0
            var isAtEnd = false
            while !isAtEnd, names.count < 4 {
                let reply = try await store.succeed(
                    isPlus ? .readdirplus : .readdir, [directory, .u64(cookie), .u64(0), limit])
                try #require(reply.u32(at: 100) == 1, "an entry follows")
                let name = reply.opaque(at: 112)
                names.append(String(decoding: name.bytes[4..<4 + Int(name.u32(at: 0))], as: UTF8.self))
                cookie = reply.u64(at: 112 + name.bytes.count)
                try #require(reply.u32(at: reply.bytes.count - 8) == 0, "no second entry follows")
                isAtEnd = reply.u32(at: reply.bytes.count - 4) == 1
            }
            #expect(names == [".", ".."])
        }
        await store.close()
    }

    @Test("who may list a directory and not search it gets names alone from READDIRPLUS (RFC 1813 §3.3.17)")
    func listingWithoutSearch() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d", mode: 0o744)
        let file = try await store.makeFile("f", in: directory)
        let id = try #require(await store.attributes(file)).fileID
        let arguments: WireBytes = [directory, .u64(2), .u64(0), .u32(4096), .u32(4096)]
        let reply = try await store.succeed(.readdirplus, arguments, as: stranger)
        let head: WireBytes = [.u32(0), await store.postOp(directory), .u64(0)]
        #expect(reply == head + [.yes, .u64(id), .string("f"), .u64(3), .no, .no] + [.no, .yes])
        await store.close()
    }

    @Test("READ, READLINK and READDIR leave atime alone, and everything else (RFC 1813 §3.3.5, §3.3.6, §3.3.16)")
    func accessTime() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let file = try await store.makeFile("f", bytes: [1])
        let link = try await store.makeLink("s", to: "f")
        for each in [directory, file, link] {
            try await store.succeed(.setattr, [each, times([.u32(2), .u64(7 << 32)], .u32(0)), .no])
        }
        let before = [await store.attributes(directory), await store.attributes(file), await store.attributes(link)]
        try await store.succeed(.read, [file, .u64(0), .u32(1)])
        try await store.succeed(.readlink, link)
        try await store.succeed(.readdir, [directory, .u64(0), .u64(0), .u32(4096)])
        let after = [await store.attributes(directory), await store.attributes(file), await store.attributes(link)]
        #expect(after == before)
        #expect(after.allSatisfy { $0?.accessTime == 7 << 32 })
        await store.close()
    }

    @Test("other programs are not here: NFS ACL, rquota; and of NFS only version 3")
    func otherPrograms() async throws {
        let programs = Programs().programs
        for program in [100227, 100024, 100011, 100000] as [UInt32] {
            #expect(programs.versions(ofProgram: program) == nil, "\(program)")
        }
        #expect(programs.versions(ofProgram: 100003) == 3...3)
    }
}
