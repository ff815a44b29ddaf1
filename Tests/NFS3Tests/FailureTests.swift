// What procedures answer when they fail: the status, and a body that still tells the client how its files
// are now (RFC 1813 §3.1), byte for byte.

import FileService
import Model
import ONCRPC
import Testing

@testable import NFS3

@Suite("NFSv3 procedures that fail")
struct FailureTests {
    /// The results of a failed procedure after its status.
    private static let attributes: WireBytes = [.yes, Wire.rootAttributes]
    private static let change: WireBytes = [.no, .yes, Wire.rootAttributes]

    /// Arguments for the root directory, and the failure body of each procedure (its RFC section).
    static let bodies: [(NFSProcedure, WireBytes, WireBytes)] = [
        (.setattr, [Wire.root, Wire.noAttributes, .no], change),  // §3.3.2: obj_wcc
        (.lookup, [Wire.root, .string("x")], attributes),  // §3.3.3: dir_attributes
        (.access, [Wire.root, .u32(1)], attributes),  // §3.3.4: obj_attributes
        (.read, [Wire.root, .u64(0), .u32(1)], attributes),  // §3.3.6: file_attributes
        (.write, [Wire.root, .u64(0), .u32(1), .u32(0), .opaque([1])], change),  // §3.3.7: file_wcc
        (.create, [Wire.root, .string("x"), .u32(0), Wire.noAttributes], change),  // §3.3.8: dir_wcc
        (.mkdir, [Wire.root, .string("x"), Wire.noAttributes], change),  // §3.3.9: dir_wcc
        (.readlink, Wire.root, attributes),  // §3.3.5: symlink_attributes
        (.symlink, [Wire.root, .string("x"), Wire.noAttributes, .string("t")], change),  // §3.3.10: dir_wcc
        (.mknod, [Wire.root, .string("x"), .u32(7), Wire.noAttributes], change),  // §3.3.11: dir_wcc
        (
            .link, [Wire.other, Wire.root, .string("x")],  // §3.3.15: file_attributes, linkdir_wcc
            [.yes, Wire.otherAttributes, change]
        ),
        (.remove, [Wire.root, .string("x")], change),  // §3.3.12: dir_wcc
        (.rmdir, [Wire.root, .string("x")], change),  // §3.3.13: dir_wcc
        (
            .rename, [Wire.root, .string("x"), Wire.other, .string("y")],  // §3.3.14: fromdir_wcc, todir_wcc
            [change, .no, .yes, Wire.otherAttributes]
        ),
        (.readdir, [Wire.root, .u64(0), .u64(0), .u32(1000)], attributes),  // §3.3.16: dir_attributes
        (.readdirplus, [Wire.root, .u64(0), .u64(0), .u32(1000), .u32(1000)], attributes),  // §3.3.17
        (.fsstat, Wire.root, attributes),  // §3.3.18: obj_attributes
        (.commit, [Wire.root, .u64(0), .u32(0)], change),  // §3.3.21: file_wcc
    ]

    @Test("the failure body describes the files as they are, whatever the error", arguments: FileError.allCases)
    func failureBodies(error: FileError) async {
        let test = Programs { $0.failure = error }
        let status = WireBytes.u32(NFSStatus(error).rawValue)
        for (procedure, arguments, body) in Self.bodies {
            #expect(await test.reply(procedure, arguments) == [status, body], "\(procedure)")
        }
    }

    @Test("the failure body goes without attributes that cannot be had (RFC 1813 §2.6: attributes_follow)")
    func failureBodiesWithoutAttributes() async {
        let test = Programs {
            $0.failure = .stale
            $0.attributesFailure = .stale
        }
        for (procedure, arguments, body) in Self.bodies {
            // Booleans alone are left: of wcc_data's 92 bytes 8, of post_op_attr's 88 bytes 4.
            let flags: WireBytes =
                switch body.bytes.count {
                case 88: [.no]
                case 92: [.no, .no]
                case 180: [.no, .no, .no]
                default: [.no, .no, .no, .no]
                }
            #expect(await test.reply(procedure, arguments) == [.u32(70), flags], "\(procedure)")
        }
    }

    @Test("a handle that the server did not make is NFS3ERR_BADHANDLE, and nothing is asked of the service")
    func badHandle() async {
        let test = Programs()
        let bad = WireBytes.opaque([1, 2, 3])
        let cases: [(NFSProcedure, WireBytes, WireBytes)] = [
            (.getattr, bad, []),
            (.setattr, [bad, Wire.noAttributes, .no], [.no, .no]),
            (.lookup, [bad, .string("x")], [.no]),
            (.access, [bad, .u32(1)], [.no]),
            (.readlink, bad, [.no]),
            (.read, [bad, .u64(0), .u32(1)], [.no]),
            (.write, [bad, .u64(0), .u32(1), .u32(0), .opaque([1])], [.no, .no]),
            (.create, [bad, .string("x"), .u32(0), Wire.noAttributes], [.no, .no]),
            (.mkdir, [bad, .string("x"), Wire.noAttributes], [.no, .no]),
            (.symlink, [bad, .string("x"), Wire.noAttributes, .string("t")], [.no, .no]),
            (.mknod, [bad, .string("x"), .u32(7), Wire.noAttributes], [.no, .no]),
            (.remove, [bad, .string("x")], [.no, .no]),
            (.rmdir, [bad, .string("x")], [.no, .no]),
            (
                .rename, [Wire.root, .string("x"), bad, .string("y")],
                [.no, .yes, Wire.rootAttributes, .no, .no]
            ),
            (.link, [Wire.file, bad, .string("x")], [.yes, Wire.fileAttributes, .no, .no]),
            (.readdir, [bad, .u64(0), .u64(0), .u32(1000)], [.no]),
            (.readdirplus, [bad, .u64(0), .u64(0), .u32(1000), .u32(1000)], [.no]),
            (.fsstat, bad, [.no]),
            (.fsinfo, bad, [.no]),
            (.pathconf, bad, [.no]),
            (.commit, [bad, .u64(0), .u32(0)], [.no, .no]),
        ]
        #expect(Set(cases.map(\.0)).union([.null]) == Set(NFSProcedure.allCases))
        for (procedure, arguments, body) in cases {
            #expect(await test.reply(procedure, arguments) == [.u32(10001), body], "\(procedure)")
        }
        #expect(test.service.calls == [])
    }

    @Test("procedures that only ask for attributes fail with theirs", arguments: FileError.allCases)
    func attributesFail(error: FileError) async {
        let test = Programs { $0.attributesFailure = error }
        let status = WireBytes.u32(NFSStatus(error).rawValue)
        #expect(await test.reply(.getattr, Wire.file) == status)
        for procedure in [NFSProcedure.fsstat, .fsinfo, .pathconf] {
            #expect(await test.reply(procedure, Wire.file) == [status, .no])
        }
    }

    @Test("LOOKUP succeeds without the directory's attributes if they cannot be had (RFC 1813 §3.3.3)")
    func lookupWithoutDirectoryAttributes() async {
        let test = Programs { $0.files[Fixture.root] = nil }
        let reply = await test.reply(.lookup, [Wire.root, .string("file")])
        #expect(reply == [.u32(0), Wire.file, .yes, Wire.fileAttributes, .no])
    }

    @Test("each outcome of the file service has its status (RFC 1813 §2.6)")
    func statuses() {
        let expected: [FileError: UInt32] = [
            .notOwner: 1, .notFound: 2, .inputOutput: 5, .accessDenied: 13, .alreadyExists: 17, .notDirectory: 20,
            .isDirectory: 21, .invalidArgument: 22, .fileTooBig: 27, .noSpace: 28, .readOnly: 30, .tooManyLinks: 31,
            .nameTooLong: 63, .notEmpty: 66, .stale: 70, .notSynchronized: 10002, .notSupported: 10004,
            .busy: 10008,
        ]
        #expect(expected.count == FileError.allCases.count)
        for (error, status) in expected { #expect(NFSStatus(error).rawValue == status, "\(error)") }
    }

    @Test("the statuses are those of RFC 1813 §2.6")
    func names() {
        let expected: [UInt32: String] = [
            0: "NFS3_OK", 1: "NFS3ERR_PERM", 2: "NFS3ERR_NOENT", 5: "NFS3ERR_IO", 6: "NFS3ERR_NXIO",
            13: "NFS3ERR_ACCES", 17: "NFS3ERR_EXIST", 18: "NFS3ERR_XDEV", 19: "NFS3ERR_NODEV", 20: "NFS3ERR_NOTDIR",
            21: "NFS3ERR_ISDIR", 22: "NFS3ERR_INVAL", 27: "NFS3ERR_FBIG", 28: "NFS3ERR_NOSPC", 30: "NFS3ERR_ROFS",
            31: "NFS3ERR_MLINK", 63: "NFS3ERR_NAMETOOLONG", 66: "NFS3ERR_NOTEMPTY", 69: "NFS3ERR_DQUOT",
            70: "NFS3ERR_STALE", 71: "NFS3ERR_REMOTE", 10001: "NFS3ERR_BADHANDLE", 10002: "NFS3ERR_NOT_SYNC",
            10003: "NFS3ERR_BAD_COOKIE", 10004: "NFS3ERR_NOTSUPP", 10005: "NFS3ERR_TOOSMALL",
            10006: "NFS3ERR_SERVERFAULT", 10007: "NFS3ERR_BADTYPE", 10008: "NFS3ERR_JUKEBOX",
        ]
        #expect(Dictionary(uniqueKeysWithValues: NFSStatus.allCases.map { ($0.rawValue, $0.name) }) == expected)
    }
}
