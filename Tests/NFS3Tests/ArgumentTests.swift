// Arguments that are XDR but not acceptable, and arguments that are not XDR.

import FaultInjection
import FileService
import Model
import ONCRPC
import Testing

@testable import NFS3

@Suite("Arguments")
struct ArgumentTests {
    /// The status of a reply.
    private func status(_ test: Programs, _ procedure: NFSProcedure, _ arguments: WireBytes) async -> UInt32? {
        guard let reply = await test.reply(procedure, arguments), reply.bytes.count >= 4 else { return nil }
        return reply.bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }

    private func arguments(of procedure: NFSProcedure, name: WireBytes) -> WireBytes {
        switch procedure {
        case .lookup, .remove, .rmdir: [Wire.root, name]
        case .create: [Wire.root, name, .u32(0), Wire.noAttributes]
        case .mkdir: [Wire.root, name, Wire.noAttributes]
        case .rename: [Wire.root, name, Wire.other, .string("y")]
        default: preconditionFailure("\(procedure) takes no name")
        }
    }

    private static let procedures: [NFSProcedure] = [.lookup, .create, .mkdir, .remove, .rmdir, .rename]

    @Test("names are refused as RFC 1813 §3.2 says: empty and impossible ones ACCES, long ones NAMETOOLONG")
    func names() async {
        let test = Programs()
        let longest = String(repeating: "n", count: 255)
        for procedure in Self.procedures {
            for (name, expected) in [("", 13), ("a/b", 13), ("a\0b", 13), (longest + "n", 63)] as [(String, UInt32)] {
                let arguments = arguments(of: procedure, name: .string(name))
                #expect(await status(test, procedure, arguments) == expected, "\(procedure) \(name.prefix(9))")
            }
        }
        #expect(test.service.calls == [])
        #expect(await status(test, .rename, [Wire.root, .string("x"), Wire.other, .string("")]) == 13)
        #expect(await status(test, .remove, [Wire.root, .string(longest)]) == 0)
        #expect(test.service.calls == [.remove(longest, Fixture.root)])
    }

    @Test("names are bytes: those that aren't UTF-8 go through")
    func namesAreBytes() async throws {
        let name = try FileName([0xff, 0xfe, 0x80])
        let test = Programs { $0.entries = [DirectoryEntry(name: name, cookie: 3, fileID: .root, entry: nil)] }
        #expect(await status(test, .remove, [Wire.root, .opaque(name.bytes)]) == 0)
        let reply = await test.reply(.readdir, [Wire.root, .u64(0), .u64(0), .u32(1000)])
        #expect(
            reply == [
                .u32(0), .yes, Wire.rootAttributes, .u64(0), .yes, .u64(1), .opaque([0xff, 0xfe, 0x80]), .u64(3), .no,
                .yes,
            ])
    }

    @Test("\".\" and \"..\" can't be created (§3.2, §3.3.9), removed (§3.3.12, §3.3.13) or renamed (§3.3.14)")
    func aliases() async {
        let test = Programs()
        let expected: [(NFSProcedure, UInt32, UInt32)] = [
            (.create, 17, 17), (.mkdir, 17, 17), (.remove, 13, 13), (.rmdir, 22, 17), (.rename, 22, 22),
        ]
        for (procedure, dot, dotDot) in expected {
            #expect(await status(test, procedure, arguments(of: procedure, name: .string("."))) == dot)
            #expect(await status(test, procedure, arguments(of: procedure, name: .string(".."))) == dotDot)
        }
        #expect(await status(test, .rename, [Wire.root, .string("x"), Wire.other, .string("..")]) == 22)
        #expect(test.service.calls == [])
    }

    @Test("nanoseconds from 10^9 on are NFS3ERR_INVAL (RFC 1813 §2.6, nfstime3)")
    func nanoseconds() async {
        let test = Programs()
        let accessTime: WireBytes = [.no, .no, .no, .no, .u32(2), .u32(5), .u32(1_000_000_000), .u32(0)]
        let modificationTime: WireBytes = [.no, .no, .no, .no, .u32(0), .u32(2), .u32(5), .u32(.max)]
        #expect(await status(test, .setattr, [Wire.file, accessTime, .no]) == 22)
        #expect(await status(test, .setattr, [Wire.file, modificationTime, .no]) == 22)
        #expect(await status(test, .setattr, [Wire.file, Wire.noAttributes, .yes, .u32(5), .u32(1_000_000_000)]) == 22)
        #expect(await status(test, .mkdir, [Wire.root, .string("d"), accessTime]) == 22)
        #expect(await status(test, .create, [Wire.root, .string("f"), .u32(1), accessTime]) == 22)
        #expect(test.service.calls == [])
    }

    @Test("a size or a WRITE beyond maxfilesize is NFS3ERR_FBIG, one up to it is not")
    func fileTooBig() async {
        let test = Programs()
        func size(_ size: UInt64) -> WireBytes { [.no, .no, .no, .yes, .u64(size), .u32(0), .u32(0)] }
        func write(_ offset: UInt64) -> WireBytes { [Wire.file, .u64(offset), .u32(2), .u32(0), .opaque([1, 2])] }
        #expect(await status(test, .setattr, [Wire.file, size((1 << 62) + 1), .no]) == 27)
        #expect(await status(test, .create, [Wire.root, .string("f"), .u32(0), size(.max)]) == 27)
        #expect(await status(test, .write, write((1 << 62) - 1)) == 27)
        #expect(await status(test, .write, write(.max)) == 27)
        #expect(test.service.calls == [])
        #expect(await status(test, .setattr, [Wire.file, size(1 << 62), .no]) == 0)
        #expect(await status(test, .write, write((1 << 62) - 2)) == 0)
        #expect(test.service.calls.count == 2)
    }

    @Test("a WRITE whose count isn't that of its data is NFS3ERR_INVAL (RFC 1813 §3.3.7)", arguments: [0, 2, 4])
    func writeCount(count: UInt32) async {
        let test = Programs()
        #expect(await status(test, .write, [Wire.file, .u64(0), .u32(count), .u32(0), .opaque([1, 2, 3])]) == 22)
        #expect(test.service.calls == [])
    }

    @Test("a WRITE of wtmax is taken, of more is garbage (RFC 1813 §3.3.19, wtmax)")
    func writeSize() async {
        let test = Programs()
        func write(_ count: Int) -> WireBytes {
            [
                Wire.file, .u64(0), .u32(UInt32(count)), .u32(0),
                .opaque(Array(repeating: 5, count: count)),
            ]
        }
        #expect(await status(test, .write, write(1 << 20)) == 0)
        #expect(Programs.isGarbage(await test.outcome(.write, write((1 << 20) + 1))))
        #expect(test.service.calls.count == 1)
    }

    @Test("a WRITE whose data is not all there is garbage")
    func writeTruncated() async {
        let test = Programs()
        let arguments: WireBytes = [Wire.file, .u64(0), .u32(8), .u32(0), .u32(8), .u32(1)]
        #expect(Programs.isGarbage(await test.outcome(.write, arguments)))
        #expect(test.service.calls == [])
    }

    @Test("enumerations and booleans outside their values are garbage (RFC 4506 §4.3, §4.4)")
    func enumerations() async {
        let test = Programs()
        let badTime: WireBytes = [.no, .no, .no, .no, .u32(3), .u32(0)]
        let badBoolean: WireBytes = [.u32(2), .no, .no, .no, .u32(0), .u32(0)]
        for (procedure, arguments) in [
            (.setattr, [Wire.file, badTime, .no]), (.setattr, [Wire.file, badBoolean, .no]),
            (.setattr, [Wire.file, Wire.noAttributes, .u32(2)]),
            (.create, [Wire.root, .string("x"), .u32(3), Wire.noAttributes]),
            (.write, [Wire.file, .u64(0), .u32(0), .u32(3), .opaque([])]),
        ] as [(NFSProcedure, WireBytes)] {
            #expect(Programs.isGarbage(await test.outcome(procedure, arguments)), "\(procedure)")
        }
        #expect(test.service.calls == [])
    }

    @Test("a handle longer than NFS3_FHSIZE is garbage (RFC 1813 §2.4)")
    func handleTooLong() async {
        let test = Programs()
        #expect(Programs.isGarbage(await test.outcome(.getattr, .opaque(Array(repeating: 1, count: 65)))))
        #expect(await status(test, .getattr, .opaque(Array(repeating: 1, count: 64))) == 10001)
    }

    @Test("each procedure's arguments cut short anywhere are garbage, and bytes after them are ignored")
    func truncated() async {
        for (procedure, arguments, _) in FailureTests.bodies + [(.getattr, Wire.root, []), (.fsinfo, Wire.root, [])] {
            let test = Programs()
            for count in stride(from: 0, to: arguments.bytes.count, by: 4) {
                let outcome = await test.outcome(procedure, WireBytes(bytes: Array(arguments.bytes.prefix(count))))
                #expect(Programs.isGarbage(outcome), "\(procedure) with \(count) bytes")
            }
            #expect(test.service.calls == [])
            let reply = await test.reply(procedure, arguments)
            #expect(await test.reply(procedure, arguments + .u32(0xdead_beef)) == reply)
            #expect(reply != nil)
        }
    }

    @Test("a procedure that doesn't exist is PROC_UNAVAIL (RFC 5531 §9)")
    func unknownProcedure() async {
        for (program, procedure) in [(100003, 22), (100003, .max), (100005, 6)] as [(UInt32, UInt32)] {
            let outcome = await Programs().programs.handle(Programs.call(procedure, [], program: program))
            guard case .procedureUnavailable = outcome else {
                Issue.record("program \(program) has a procedure \(procedure)")
                continue
            }
        }
    }

    @Test("the programs are NFS 3 and MOUNT 3 (RFC 1813 §2, §5.1), and NLM 1 to 4, which refuses")
    func versions() {
        let programs = Programs().programs
        #expect(programs.versions(ofProgram: 100003) == 3...3)
        #expect(programs.versions(ofProgram: 100005) == 3...3)
        #expect(programs.versions(ofProgram: 100021) == 1...4)
        #expect(programs.versions(ofProgram: 100227) == nil)
    }

    @Test("no arguments crash any procedure", arguments: [1, 2, 3, 4] as [UInt64])
    func random(seed: UInt64) async {
        var random = SeededGenerator(seed: seed)
        let entries = (0..<20).map { index in
            DirectoryEntry(
                name: name("entry \(index)"), cookie: UInt64(index + 1), fileID: .root,
                entry: FileEntry(file: Fixture.file, attributes: Fixture.fileAttributes))
        }
        let test = Programs { $0.entries = entries }
        // Pieces that let decoding get far.
        let pieces: [WireBytes] = [
            Wire.root, Wire.file, Wire.noAttributes, .string("name"), .yes, .no, .u32(2), .u64(0), .u64(.max),
            .u32(1 << 20), .u32(.max), .opaque([]), .opaque([1, 2, 3]),
        ]
        var replies = 0
        for _ in 0..<4000 {
            var arguments = WireBytes()
            for _ in 0..<Int.random(in: 0...9, using: &random) {
                arguments =
                    arguments
                    + (Int.random(in: 0...9, using: &random) == 0
                        ? .u32(UInt32.random(in: 0 ... .max, using: &random))
                        : pieces.randomElement(using: &random)!)
            }
            let isMount = Int.random(in: 0...9, using: &random) == 0
            let call = Programs.call(
                UInt32.random(in: 0...22, using: &random), arguments, program: isMount ? 100005 : 100003)
            if let results = Programs.results(await test.programs.handle(call)) {
                replies += 1
                #expect(results.bytes.count % 4 == 0, "seed \(seed)")
            }
        }
        #expect(replies > 100, "seed \(seed): decoding never got far")
    }
}
