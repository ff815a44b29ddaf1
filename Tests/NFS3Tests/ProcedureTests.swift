// What each procedure of NFSv3 asks of the service and answers when it succeeds, byte for byte.

import FileService
import Model
import NIOCore
import ONCRPC
import Platform
import Testing

@testable import NFS3

@Suite("NFSv3 procedures that succeed")
struct ProcedureTests {
    @Test("NULL takes and returns nothing (RFC 1813 §3.3.0)")
    func null() async {
        #expect(await Programs().reply(.null, []) == [])
    }

    @Test("GETATTR returns fattr3 (RFC 1813 §3.3.1)")
    func getattr() async {
        #expect(await Programs().reply(.getattr, Wire.file) == [.u32(0), Wire.fileAttributes])
    }

    @Test("SETATTR sets what is given and returns wcc_data (RFC 1813 §3.3.2)")
    func setattr() async {
        let test = Programs()
        let attributes: WireBytes = [
            .yes, .u32(0o100640), .yes, .u32(1), .yes, .u32(2), .yes, .u64(1 << 40), .u32(1), .u32(2), .u32(77),
            .u32(999_999_999),
        ]
        let reply = await test.reply(.setattr, [Wire.file, attributes, .no])
        #expect(reply == [.u32(0), Wire.fileChange])
        let update = AttributeUpdate(
            mode: 0o640, uid: 1, gid: 2, size: 1 << 40, accessTime: .toServerTime,
            modificationTime: .to(Timestamp(seconds: 77, nanoseconds: 999_999_999)))
        #expect(test.service.calls == [.setAttributes(Fixture.file, update, guardTime: nil)])
        #expect(test.service.callers == [Fixture.caller])
    }

    @Test("SETATTR passes on its guard (RFC 1813 §3.3.2)")
    func setattrGuard() async {
        let test = Programs()
        let reply = await test.reply(.setattr, [Wire.file, Wire.noAttributes, .yes, .u32(23), .u32(3)])
        #expect(reply == [.u32(0), Wire.fileChange])
        let guardTime = Timestamp(seconds: 23, nanoseconds: 3)
        #expect(test.service.calls == [.setAttributes(Fixture.file, AttributeUpdate(), guardTime: guardTime)])
    }

    @Test("LOOKUP returns the handle and the attributes of file and directory (RFC 1813 §3.3.3)")
    func lookup() async {
        let test = Programs()
        let reply = await test.reply(.lookup, [Wire.root, .string("file")])
        #expect(reply == [.u32(0), Wire.file, .yes, Wire.fileAttributes, .yes, Wire.rootAttributes])
        #expect(test.service.calls == [.lookUp("file", Fixture.root)])
    }

    @Test("LOOKUP takes the aliases \".\" and \"..\" (RFC 1813 §3.2 items 2 and 3)", arguments: [".", ".."])
    func lookupAlias(name: String) async {
        let test = Programs { $0.names = [".": Fixture.other, "..": Fixture.other] }
        let reply = await test.reply(.lookup, [Wire.root, .string(name)])
        #expect(reply == [.u32(0), Wire.other, .yes, Wire.otherAttributes, .yes, Wire.rootAttributes])
    }

    @Test("ACCESS asks for the bits that the RFC has and grants no others (RFC 1813 §3.3.4)")
    func access() async {
        let test = Programs { $0.granted = [.read, .modify, .execute] }
        let reply = await test.reply(.access, [Wire.file, .u32(0xffff_ff25)])
        #expect(reply == [.u32(0), .yes, Wire.fileAttributes, .u32(0x25)])
        #expect(test.service.calls == [.access(Fixture.file, [.read, .modify, .execute])])
        #expect(await test.reply(.access, [Wire.file, .u32(0x02)]) == [.u32(0), .yes, Wire.fileAttributes, .u32(0)])
    }

    @Test("READLINK returns the text, not followed, with padding (RFC 1813 §3.3.5)")
    func readlink() async {
        let test = Programs()
        let reply = await test.reply(.readlink, Wire.other)
        #expect(reply == [.u32(0), .yes, Wire.otherAttributes, .string("../a target")])
        #expect(test.service.calls == [.readLink(Fixture.other)])
    }

    @Test("SYMLINK takes the text as it is, after the attributes (RFC 1813 §3.3.10)")
    func symlink() async {
        let test = Programs()
        let target: [UInt8] = [0xff, 0x2f, 0x2f, 0x2e, 0x2e]
        let mode: WireBytes = [.yes, .u32(0o777), .no, .no, .no, .u32(0), .u32(0)]
        let reply = await test.reply(.symlink, [Wire.root, .string("s"), mode, .opaque(target)])
        #expect(reply == [.u32(0), .yes, Wire.file, .yes, Wire.fileAttributes, Wire.rootChange])
        #expect(
            test.service.calls == [.makeSymbolicLink("s", Fixture.root, target, AttributeUpdate(mode: 0o777))])
    }

    @Test("SYMLINK to nothing, to a NUL or beyond 4096 bytes is refused (RFC 1813 §3.3.10)")
    func symlinkTargets() async {
        let test = Programs()
        let cases: [([UInt8], UInt32)] = [
            ([], 22), ([0x61, 0], 22), (Array(repeating: 0x61, count: 4096), 0),
            (Array(repeating: 0x61, count: 4097), 63),
        ]
        for (target, status) in cases {
            let reply = await test.reply(
                .symlink, [Wire.root, .string("s"), Wire.noAttributes, .opaque(target)])
            let failure: WireBytes = [.u32(status), .no, .yes, Wire.rootAttributes]
            let success: WireBytes = [.u32(0), .yes, Wire.file, .yes, Wire.fileAttributes, Wire.rootChange]
            #expect(reply == (status == 0 ? success : failure), "\(target.count) bytes")
        }
        #expect(test.service.calls.count == 1)
    }

    @Test("MKNOD makes fifos, sockets and devices with their numbers (RFC 1813 §3.3.11)")
    func mknod() async {
        let numbers: WireBytes = [.u32(8), .u32(17)]
        let cases: [(WireBytes, SpecialFile)] = [
            ([.u32(3), Wire.noAttributes, numbers], .blockDevice(DeviceNumber(major: 8, minor: 17))),
            ([.u32(4), Wire.noAttributes, numbers], .characterDevice(DeviceNumber(major: 8, minor: 17))),
            ([.u32(6), Wire.noAttributes], .socket), ([.u32(7), Wire.noAttributes], .fifo),
        ]
        for (arguments, kind) in cases {
            let test = Programs()
            let reply = await test.reply(.mknod, [Wire.root, .string("n"), arguments])
            #expect(reply == [.u32(0), .yes, Wire.file, .yes, Wire.fileAttributes, Wire.rootChange])
            #expect(test.service.calls == [.makeSpecialFile("n", Fixture.root, kind, AttributeUpdate())])
        }
    }

    @Test("MKNOD of what is no special file is NFS3ERR_BADTYPE (RFC 1813 §3.3.11)", arguments: [0, 1, 2, 5, 8, 263])
    func mknodType(type: UInt32) async {
        let test = Programs()
        let reply = await test.reply(.mknod, [Wire.root, .string("n"), .u32(type)])
        #expect(reply == [.u32(10007), .no, .yes, Wire.rootAttributes])
        #expect(test.service.calls == [])
    }

    @Test("a device's number is its rdev (RFC 1813 §2.6: fattr3, specdata3)")
    func rdev() async {
        var device = Fixture.fileAttributes
        device.type = .blockDevice
        device.device = DeviceNumber(major: 0x0102_0304, minor: 0x0506_0708)
        let test = Programs { [device] in $0.files[Fixture.file] = device }
        let reply = await test.reply(.getattr, Wire.file)
        #expect(
            reply == [
                .u32(0), .u32(3), .u32(0o644), .u32(1), .u32(1000), .u32(100), .u64(0x1_0000_0005), .u64(4097),
                .u32(0x0102_0304), .u32(0x0506_0708), .u64(0x5157_4c55_4943_4521), .u64(7), .u32(21), .u32(1),
                .u32(22), .u32(2), .u32(23), .u32(3),
            ])
    }

    @Test("LINK returns the file's attributes and wcc_data of the directory (RFC 1813 §3.3.15)")
    func link() async {
        let test = Programs()
        let reply = await test.reply(.link, [Wire.other, Wire.root, .string("second")])
        #expect(reply == [.u32(0), .yes, Wire.otherAttributes, Wire.fileChange])
        #expect(test.service.calls == [.link(Fixture.other, "second", Fixture.root)])
    }

    @Test("READ returns count, eof and the bytes with padding (RFC 1813 §3.3.6)")
    func read() async {
        let test = Programs {
            $0.readResult = ReadResult(
                payload: Payload(bytes: [1, 2, 3, 4, 5]), isAtEnd: true, attributes: Fixture.fileAttributes)
        }
        let reply = await test.reply(.read, [Wire.file, .u64(1 << 33), .u32(4096)])
        #expect(reply == [.u32(0), .yes, Wire.fileAttributes, .u32(5), .yes, .opaque([1, 2, 3, 4, 5])])
        #expect(test.service.calls == [.read(Fixture.file, offset: 1 << 33, count: 4096)])
    }

    @Test("READ hands the payload on in the service's own buffers")
    func readDoesNotCopy() async throws {
        let payload = Payload(bytes: Array(repeating: 7, count: 100_000))
        let test = Programs {
            $0.readResult = ReadResult(payload: payload, isAtEnd: false, attributes: Fixture.fileAttributes)
        }
        guard case .success(let body) = await test.outcome(.read, [Wire.file, .u64(0), .u32(100_000)]) else {
            Issue.record("READ was refused")
            return
        }
        let sent = try #require(body.payload?.segments.first)
        let made = try #require(payload.segments.first)
        #expect(
            sent.withUnsafeReadableBytes { $0.baseAddress } == made.withUnsafeReadableBytes { $0.baseAddress })
        // status, post_op_attr, count, eof, and the count of the opaque.
        #expect(body.header.readableBytes == 4 + 88 + 4 + 4 + 4)
    }

    @Test("READ of more than rtmax is a READ of rtmax (RFC 1813 §3.3.6)")
    func readClipped() async {
        let test = Programs()
        _ = await test.reply(.read, [Wire.file, .u64(0), .u32(.max)])
        #expect(test.service.calls == [.read(Fixture.file, offset: 0, count: 1 << 20)])
    }

    @Test("READ and COMMIT at any offset stay in the numbers of the store")
    func highOffsets() async {
        let test = Programs()
        _ = await test.reply(.read, [Wire.file, .u64(.max), .u32(8)])
        _ = await test.reply(.commit, [Wire.file, .u64(.max), .u32(.max)])
        #expect(
            test.service.calls == [
                .read(Fixture.file, offset: 1 << 62, count: 8),
                .commit(Fixture.file, offset: 1 << 62, count: 0xffff_ffff),
            ])
    }

    @Test(
        "WRITE returns wcc_data, count, what it did and the verifier (RFC 1813 §3.3.7)",
        arguments: [(0, WriteStability.unstable), (1, .dataSync), (2, .fileSync)] as [(UInt32, WriteStability)])
    func write(stableHow: UInt32, stability: WriteStability) async {
        let test = Programs { $0.stability = stability }
        let reply = await test.reply(
            .write, [Wire.file, .u64(1 << 34), .u32(3), .u32(stableHow), .opaque([9, 8, 7])])
        #expect(
            reply == [.u32(0), Wire.fileChange, .u32(3), .u32(stableHow), .u64(0x0123_4567_89ab_cdef)])
        #expect(test.service.calls == [.write([9, 8, 7], Fixture.file, offset: 1 << 34, stability)])
    }

    @Test("WRITE says so when the service did more than was asked (RFC 1813 §3.3.7, committed)")
    func writeMoreStable() async {
        let test = Programs { $0.stability = .fileSync }
        let reply = await test.reply(.write, [Wire.file, .u64(0), .u32(0), .u32(0), .opaque([])])
        #expect(reply == [.u32(0), Wire.fileChange, .u32(0), .u32(2), .u64(0x0123_4567_89ab_cdef)])
    }

    @Test("CREATE passes on each mode and returns handle, attributes and wcc_data (RFC 1813 §3.3.8)")
    func create() async {
        let test = Programs()
        let attributes: WireBytes = [.yes, .u32(0o600), .no, .no, .yes, .u64(0), .u32(0), .u32(0)]
        let update = AttributeUpdate(mode: 0o600, size: 0)
        let expected: WireBytes = [.u32(0), .yes, Wire.file, .yes, Wire.fileAttributes, Wire.rootChange]
        #expect(await test.reply(.create, [Wire.root, .string("a"), .u32(0), attributes]) == expected)
        #expect(await test.reply(.create, [Wire.root, .string("b"), .u32(1), attributes]) == expected)
        #expect(await test.reply(.create, [Wire.root, .string("c"), .u32(2), .u64(0xfedc_ba98_7654_3210)]) == expected)
        #expect(
            test.service.calls == [
                .create("a", Fixture.root, .unchecked(update)), .create("b", Fixture.root, .guarded(update)),
                .create("c", Fixture.root, .exclusive(verifier: 0xfedc_ba98_7654_3210)),
            ])
    }

    @Test("MKDIR returns handle, attributes and wcc_data (RFC 1813 §3.3.9)")
    func mkdir() async {
        let test = Programs()
        let attributes: WireBytes = [.yes, .u32(0o755), .no, .no, .no, .u32(0), .u32(0)]
        let reply = await test.reply(.mkdir, [Wire.root, .string("d"), attributes])
        #expect(reply == [.u32(0), .yes, Wire.file, .yes, Wire.fileAttributes, Wire.rootChange])
        #expect(test.service.calls == [.makeDirectory("d", Fixture.root, AttributeUpdate(mode: 0o755))])
    }

    @Test("REMOVE and RMDIR return wcc_data (RFC 1813 §3.3.12, §3.3.13)")
    func remove() async {
        let test = Programs()
        #expect(await test.reply(.remove, [Wire.root, .string("x")]) == [.u32(0), Wire.fileChange])
        #expect(await test.reply(.rmdir, [Wire.root, .string("y")]) == [.u32(0), Wire.fileChange])
        #expect(test.service.calls == [.remove("x", Fixture.root), .removeDirectory("y", Fixture.root)])
    }

    @Test("RENAME returns wcc_data of the source, then of the target directory (RFC 1813 §3.3.14)")
    func rename() async {
        let test = Programs()
        let reply = await test.reply(.rename, [Wire.root, .string("x"), Wire.other, .string("y")])
        #expect(reply == [.u32(0), Wire.fileChange, Wire.otherChange])
        #expect(test.service.calls == [.rename("x", Fixture.root, "y", Fixture.other)])
    }

    @Test("FSSTAT returns bytes and files, total, free and available (RFC 1813 §3.3.18)")
    func fsstat() async {
        let reply = await Programs().reply(.fsstat, Wire.root)
        #expect(
            reply == [
                .u32(0), .yes, Wire.rootAttributes, .u64(0x10_0000_0001), .u64(0x20_0000_0002), .u64(0x30_0000_0003),
                .u64(0x40_0000_0004), .u64(0x50_0000_0005), .u64(0x50_0000_0005), .u32(0),
            ])
    }

    @Test("FSINFO announces sizes, the resolution of times, links and symbolic links (RFC 1813 §3.3.19)")
    func fsinfo() async {
        let mebibyte = WireBytes.u32(1 << 20)
        let reply = await Programs().reply(.fsinfo, Wire.root)
        #expect(
            reply == [
                .u32(0), .yes, Wire.rootAttributes, mebibyte, mebibyte, .u32(4096), mebibyte, mebibyte, .u32(4096),
                .u32(65536), .u64(1 << 62), .u32(0), .u32(1), .u32(0x1b),
            ])
    }

    @Test("PATHCONF: 32000 links, names of 255 bytes, not truncated, chown restricted, case kept (RFC 1813 §3.3.20)")
    func pathconf() async {
        let reply = await Programs().reply(.pathconf, Wire.file)
        #expect(reply == [.u32(0), .yes, Wire.fileAttributes, .u32(32000), .u32(255), .yes, .yes, .no, .yes])
    }

    @Test("COMMIT returns wcc_data and the verifier (RFC 1813 §3.3.21)")
    func commit() async {
        let test = Programs()
        let reply = await test.reply(.commit, [Wire.file, .u64(1 << 35), .u32(512)])
        #expect(reply == [.u32(0), Wire.fileChange, .u64(0x0123_4567_89ab_cdef)])
        #expect(test.service.calls == [.commit(Fixture.file, offset: 1 << 35, count: 512)])
    }

    @Test("a call without credentials is nobody's (RFC 5531 §8.1)")
    func anonymous() async {
        let test = Programs()
        _ = await test.programs.handle(
            Programs.call(NFSProcedure.access.rawValue, [Wire.file, .u32(1)], credential: .none))
        #expect(test.service.callers == [Credentials(uid: 65534, gid: 65534, groups: [])])
    }

    @Test("times outside nfstime3 are shown as the nearest that it has (RFC 1813 §2.6)")
    func times() async {
        let test = Programs {
            var attributes = Fixture.fileAttributes
            attributes.accessTime = Timestamp(seconds: -1, nanoseconds: 5)
            attributes.modificationTime = Timestamp(seconds: 1 << 32, nanoseconds: 5)
            attributes.changeTime = Timestamp(seconds: 0xffff_ffff, nanoseconds: 5)
            $0.files[Fixture.file] = attributes
        }
        let expected: WireBytes = [.u32(0), .u32(0), .u32(.max), .u32(999_999_999), .u32(.max), .u32(5)]
        let reply = await test.reply(.getattr, Wire.file)
        #expect(reply.map { WireBytes(bytes: $0.bytes.suffix(24)) } == expected)
    }
}
