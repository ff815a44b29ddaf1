// The errors of each procedure over a real store: the status that its RFC section or Sources/NFS3/DEVIATIONS.md says,
// and a body that describes the files as they are.

import FileService
import Model
import Testing

@testable import NFS3

@Suite("Conformance: errors")
struct ErrorTests {
    private let none = Wire.noAttributes

    /// Every procedure with a name in a directory, to be refused for the name or the directory.
    private func named(_ directory: WireBytes, _ name: WireBytes, file: WireBytes) -> [(NFSProcedure, WireBytes)] {
        [
            (.lookup, [directory, name]), (.create, [directory, name, .u32(0), none]),
            (.mkdir, [directory, name, none]),
            (.symlink, [directory, name, none, .string("t")]), (.mknod, [directory, name, .u32(7), none]),
            (.remove, [directory, name]), (.rmdir, [directory, name]), (.link, [file, directory, name]),
            (.rename, [directory, name, directory, .string("other")]),
            (.rename, [directory, .string("f"), directory, name]),
        ]
    }

    private func subjects(_ procedure: NFSProcedure, _ directory: WireBytes, file: WireBytes) -> [WireBytes] {
        switch procedure {
        case .link: [file, directory]
        case .rename: [directory, directory]
        default: [directory]
        }
    }

    @Test("a name in what is no directory is NFS3ERR_NOTDIR (RFC 1813 §3.3.3, §3.3.8 to §3.3.17)")
    func notDirectory() async throws {
        let store = try await ServedStore()
        let file = try await store.makeFile("f")
        for place in [file, try await store.makeLink("s", to: "."), try await store.makeFIFO("p")] {
            for (procedure, arguments) in named(place, .string("x"), file: file) {
                let subjects = subjects(procedure, place, file: file)
                try await store.refuse(procedure, arguments, .notdir, of: subjects, "no directory")
            }
            try await store.refuse(.readdir, [place, .u64(0), .u64(0), .u32(4096)], .notdir, of: [place], "§3.3.16")
            try await store.refuse(
                .readdirplus, [place, .u64(0), .u64(0), .u32(4096), .u32(4096)], .notdir, of: [place], "§3.3.17")
        }
        await store.close()
    }

    @Test(
        "a name of 255 bytes is one, of 256 NFS3ERR_NAMETOOLONG; none, or one with \"/\" or NUL, NFS3ERR_ACCES (§3.2)")
    func names() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let file = try await store.makeFile("f", in: directory)
        for (name, status) in [
            (String(repeating: "n", count: 256), Status.nametoolong),
            (String(repeating: "n", count: 5000), .nametoolong),
            ("", .acces), ("a/b", .acces), ("/", .acces), ("a\0b", .acces),
        ] {
            for (procedure, arguments) in named(directory, .string(name), file: file) {
                let subjects = subjects(procedure, directory, file: file)
                try await store.refuse(procedure, arguments, status, of: subjects, "name of \(name.utf8.count)")
            }
        }
        let longest = String(repeating: "n", count: 255)
        let made = try await store.makeFile(longest, in: directory)
        #expect(try await store.find(longest, in: directory) == made)
        try await store.succeed(.link, [file, directory, .string(String(repeating: "m", count: 255))])
        await store.close()
    }

    @Test("\".\" and \"..\" are there and can't be made, removed or renamed (RFC 1813 §3.2, §3.3.8 to §3.3.15)")
    func aliases() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let file = try await store.makeFile("f", in: directory)
        for name in [".", ".."] {
            for (procedure, arguments) in named(directory, .string(name), file: file) where procedure != .lookup {
                let status: Status =
                    switch procedure {
                    case .remove: .acces
                    case .rmdir: name == "." ? .inval : .exist
                    case .rename: .inval
                    default: .exist
                    }
                let subjects = subjects(procedure, directory, file: file)
                try await store.refuse(procedure, arguments, status, of: subjects, "\"\(name)\"")
            }
        }
        await store.close()
    }

    @Test("what is gone is NFS3ERR_STALE, and has no attributes (RFC 1813 §2.6)")
    func stale() async throws {
        let store = try await ServedStore()
        let file = try await store.makeFile("f")
        let (gone, goneDirectory) = (try await store.makeFile("g"), try await store.makeDirectory("h"))
        try await store.succeed(.remove, [store.root, .string("g")])
        try await store.succeed(.rmdir, [store.root, .string("h")])
        let long: WireBytes = [.u64(0), .u64(0), .u32(4096)]
        for handle in [gone, goneDirectory] {
            for (procedure, arguments) in named(handle, .string("x"), file: file) {
                let subjects = subjects(procedure, handle, file: file)
                try await store.refuse(procedure, arguments, .stale, of: subjects, "gone")
            }
            try await store.refuse(.getattr, handle, .stale, of: [], "§3.3.1")
            try await store.refuse(.setattr, [handle, none, .no], .stale, of: [handle], "§3.3.2")
            try await store.refuse(.access, [handle, .u32(1)], .stale, of: [handle], "§3.3.4")
            try await store.refuse(.readlink, handle, .stale, of: [handle], "§3.3.5")
            try await store.refuse(.read, [handle, .u64(0), .u32(1)], .stale, of: [handle], "§3.3.6")
            try await store.refuse(
                .write, [handle, .u64(0), .u32(1), .u32(0), .opaque([1])], .stale, of: [handle], "§3.3.7")
            try await store.refuse(
                .link, [handle, store.root, .string("x")], .stale, of: [handle, store.root], as: ServedStore.superuser,
                "§3.3.15")
            try await store.refuse(.readdir, [handle, long], .stale, of: [handle], "§3.3.16")
            try await store.refuse(.readdirplus, [handle, long, .u32(4096)], .stale, of: [handle], "§3.3.17")
            try await store.refuse(.fsstat, handle, .stale, of: [handle], "§3.3.18")
            try await store.refuse(.fsinfo, handle, .stale, of: [handle], "§3.3.19")
            try await store.refuse(.pathconf, handle, .stale, of: [handle], "§3.3.20")
            try await store.refuse(.commit, [handle, .u64(0), .u32(0)], .stale, of: [handle], "§3.3.21")
        }
        await store.close()
    }

    @Test(
        "bytes of what has none: NFS3ERR_ISDIR of a directory, else NFS3ERR_INVAL (RFC 1813 §3.3.2, §3.3.5 to §3.3.7, §3.3.21)"
    )
    func wrongType() async throws {
        let store = try await ServedStore()
        let file = try await store.makeFile("f")
        let directory = try await store.makeDirectory("d")
        let (link, fifo) = (try await store.makeLink("s", to: "f"), try await store.makeFIFO("p"))
        for (handle, status) in [(directory, Status.isdir), (link, .inval), (fifo, .inval)] {
            try await store.refuse(
                .setattr, [handle, .size(0), .no], status, of: [handle], as: ServedStore.superuser, "§3.3.2")
            try await store.refuse(.read, [handle, .u64(0), .u32(1)], status, of: [handle], "§3.3.6")
            try await store.refuse(
                .write, [handle, .u64(0), .u32(1), .u32(2), .opaque([1])], status, of: [handle], "§3.3.7")
            try await store.refuse(.commit, [handle, .u64(0), .u32(0)], status, of: [handle], "§3.3.21")
        }
        for handle in [file, directory, fifo] {
            try await store.refuse(.readlink, handle, .inval, of: [handle], "§3.3.5")
        }
        // A directory has one name (§3.3.15).
        try await store.refuse(
            .link, [directory, store.root, .string("x")], .inval, of: [directory, store.root],
            as: ServedStore.superuser, "§3.3.15")
        try await store.refuse(
            .remove, [store.root, .string("d")], .isdir, of: [store.root], as: ServedStore.superuser, "§3.3.12")
        try await store.refuse(
            .rmdir, [store.root, .string("f")], .notdir, of: [store.root], as: ServedStore.superuser, "§3.3.13")
        try await store.refuse(
            .rmdir, [store.root, .string("s")], .notdir, of: [store.root], as: ServedStore.superuser, "§3.3.13")
        await store.close()
    }

    @Test("a name that is there is NFS3ERR_EXIST, one that isn't NFS3ERR_NOENT (RFC 1813 §3.3.3, §3.3.8 to §3.3.15)")
    func existence() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let file = try await store.makeFile("f", in: directory)
        try await store.makeDirectory("sub", in: directory)
        try await store.succeed(.link, [file, directory, .string("g")])
        for name in ["f", "g", "sub"] {
            try await store.refuse(
                .create, [directory, .string(name), .u32(1), none], .exist, of: [directory], "§3.3.8 GUARDED")
            try await store.refuse(
                .create, [directory, .string(name), .u32(2), .u64(1)], .exist, of: [directory], "§3.3.8 EXCLUSIVE")
            try await store.refuse(.mkdir, [directory, .string(name), none], .exist, of: [directory], "§3.3.9")
            try await store.refuse(
                .symlink, [directory, .string(name), none, .string("t")], .exist, of: [directory], "§3.3.10")
            try await store.refuse(
                .mknod, [directory, .string(name), .u32(6), none], .exist, of: [directory], "§3.3.11")
            try await store.refuse(.link, [file, directory, .string(name)], .exist, of: [file, directory], "§3.3.15")
        }
        try await store.refuse(
            .create, [directory, .string("sub"), .u32(0), none], .exist, of: [directory], "§3.3.8 UNCHECKED")
        try await store.refuse(.lookup, [directory, .string("no")], .noent, of: [directory], "§3.3.3")
        try await store.refuse(.remove, [directory, .string("no")], .noent, of: [directory], "§3.3.12")
        try await store.refuse(.rmdir, [directory, .string("no")], .noent, of: [directory], "§3.3.13")
        try await store.refuse(
            .rename, [directory, .string("no"), store.root, .string("f")], .acces, of: [directory, store.root],
            "§3.3.14")
        try await store.refuse(
            .rename, [directory, .string("no"), directory, .string("f")], .noent, of: [directory, directory], "§3.3.14")
        await store.close()
    }

    @Test("what the mode forbids is NFS3ERR_ACCES, what only the owner may do NFS3ERR_PERM (RFC 1813 §2.6, §4.4)")
    func permissions() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d", mode: 0o755)
        let file = try await store.makeFile("f", in: directory, mode: 0o600)
        let closed = try await store.makeDirectory("closed", mode: 0o700)
        let stranger = ServedStore.stranger
        func sattr(_ fields: WireBytes...) -> WireBytes { [file, WireBytes(bytes: fields.flatMap(\.bytes)), .no] }
        // Looking up comes first: who may not look learns nothing of what is there.
        for (procedure, arguments) in named(closed, .string("x"), file: file) {
            let subjects = subjects(procedure, closed, file: file)
            try await store.refuse(procedure, arguments, .acces, of: subjects, as: stranger, "no x")
        }
        let needsNoName: Set<NFSProcedure> = [.lookup, .create, .mkdir, .symlink, .mknod, .link]
        for (procedure, arguments) in named(directory, .string("f"), file: file) where !needsNoName.contains(procedure)
        {
            let subjects = subjects(procedure, directory, file: file)
            try await store.refuse(procedure, arguments, .acces, of: subjects, as: stranger, "no w")
        }
        for (procedure, arguments) in named(directory, .string("new"), file: file) where procedure != .lookup {
            let subjects = subjects(procedure, directory, file: file)
            try await store.refuse(procedure, arguments, .acces, of: subjects, as: stranger, "no w")
        }
        try await store.refuse(.read, [file, .u64(0), .u32(1)], .acces, of: [file], as: stranger, "§3.3.6")
        try await store.refuse(
            .write, [file, .u64(0), .u32(1), .u32(0), .opaque([1])], .acces, of: [file], as: stranger, "§3.3.7")
        try await store.refuse(.commit, [file, .u64(0), .u32(0)], .acces, of: [file], as: stranger, "§3.3.21")
        try await store.refuse(
            .readdir, [closed, .u64(0), .u64(0), .u32(4096)], .acces, of: [closed], as: stranger, "§3.3.16")
        try await store.refuse(.setattr, [file, .mode(0o777), .no], .perm, of: [file], as: stranger, "chmod")
        try await store.refuse(.setattr, [file, .size(0), .no], .acces, of: [file], as: stranger, "truncate")
        try await store.refuse(
            .setattr, sattr(.no, .yes, .u32(2000), .no, .no, .u32(0), .u32(0)), .perm, of: [file], as: stranger, "chown"
        )
        try await store.refuse(
            .setattr, sattr(.no, .yes, .u32(2000), .no, .no, .u32(0), .u32(0)), .perm, of: [file], "giving away")
        try await store.refuse(
            .setattr, sattr(.no, .no, .yes, .u32(200), .no, .u32(0), .u32(0)), .perm, of: [file], "a foreign group")
        try await store.refuse(
            .setattr, sattr(.no, .no, .no, .no, .u32(1), .u32(1)), .acces, of: [file], as: stranger, "utimes(NULL)")
        try await store.refuse(
            .setattr, sattr(.no, .no, .no, .no, .u32(2), .u32(1), .u32(1), .u32(0)), .perm, of: [file],
            as: stranger, "utimes")
        await store.close()
    }

    @Test("arguments out of range (RFC 1813 §3.3.2, §3.3.7, §3.3.10, §3.3.11, §3.3.16, §3.3.17)")
    func arguments() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let file = try await store.makeFile("f", in: directory)
        let badTime: WireBytes = [.no, .no, .no, .no, .u32(2), .u32(1), .u32(1_000_000_000), .u32(0)]
        let device: WireBytes = [none, .u32(1), .u32(3)]
        try await store.refuse(.setattr, [file, none, .yes, .u32(1), .u32(2)], .notSync, of: [file], "§3.3.2 guard")
        try await store.refuse(.setattr, [file, badTime, .no], .inval, of: [file], "§3.3.2 nseconds")
        try await store.refuse(.setattr, [file, .size(1 << 63), .no], .fbig, of: [file], "§3.3.2 size")
        try await store.refuse(
            .write, [file, .u64(1 << 62), .u32(1), .u32(0), .opaque([1])], .fbig, of: [file], "§3.3.7 maxfilesize")
        try await store.refuse(
            .write, [file, .u64(.max), .u32(1), .u32(0), .opaque([1])], .fbig, of: [file], "§3.3.7 maxfilesize")
        try await store.refuse(
            .write, [file, .u64(0), .u32(2), .u32(0), .opaque([1])], .inval, of: [file], "§3.3.7 count")
        try await store.refuse(
            .symlink, [directory, .string("s"), none, .string("")], .inval, of: [directory], "§3.3.10 no target")
        try await store.refuse(
            .symlink, [directory, .string("s"), none, .string("a\0")], .inval, of: [directory], "§3.3.10 NUL")
        try await store.refuse(
            .symlink, [directory, .string("s"), none, .string(String(repeating: "t", count: 4097))], .nametoolong,
            of: [directory], "§3.3.10")
        try await store.refuse(
            .readdir, [directory, .u64(0), .u64(1), .u32(4096)], .badCookie, of: [directory], "§3.3.16 cookieverf")
        try await store.refuse(
            .readdir, [directory, .u64(0), .u64(0), .u32(0)], .toosmall, of: [directory], "§3.3.16 count")
        try await store.refuse(
            .readdir, [directory, .u64(0), .u64(0), .u32(131)], .toosmall, of: [directory], "§3.3.16 count")
        try await store.refuse(
            .readdirplus, [directory, .u64(0), .u64(0), .u32(27), .u32(4096)], .toosmall, of: [directory],
            "§3.3.17 dircount")
        try await store.refuse(
            .readdirplus, [directory, .u64(0), .u64(0), .u32(4096), .u32(200)], .toosmall, of: [directory],
            "§3.3.17 maxcount")
        // Devices are not allowed here, to nobody.
        try await store.refuse(
            .mknod, [directory, .string("n"), .u32(3), device], .perm, of: [directory], "devices are not allowed")
        try await store.refuse(
            .mknod, [directory, .string("n"), .u32(4), device], .perm, of: [directory], as: ServedStore.superuser,
            "devices are not allowed")
        for type in [0, 1, 2, 5, 8] as [UInt32] {
            try await store.refuse(
                .mknod, [directory, .string("n"), .u32(type), none], .badtype, of: [directory], "§3.3.11 type \(type)")
        }
        await store.close()

        let allowing = try await ServedStore(allowsDevices: true)
        let own = try await allowing.makeDirectory("d")
        try await allowing.refuse(
            .mknod, [own, .string("n"), .u32(3), device], .perm, of: [own], "only the superuser makes devices")
        try await allowing.succeed(.mknod, [own, .string("n"), .u32(3), device])
        await allowing.close()
    }

    @Test("RENAME and RMDIR: what is incompatible, full, or below itself (RFC 1813 §3.3.13, §3.3.14)")
    func trees() async throws {
        let store = try await ServedStore()
        let directory = try await store.makeDirectory("d")
        let sub = try await store.makeDirectory("sub", in: directory)
        let below = try await store.makeDirectory("below", in: sub)
        try await store.makeFile("f", in: directory)
        try await store.makeDirectory("empty", in: directory)
        func rename(_ from: String, _ target: WireBytes, _ to: String, _ status: Status, _ clause: String) async throws
        {
            try await store.refuse(
                .rename, [directory, .string(from), target, .string(to)], status, of: [directory, target], clause)
        }
        try await store.refuse(.rmdir, [directory, .string("sub")], .notempty, of: [directory], "§3.3.13")
        try await rename("f", directory, "empty", .isdir, "a file over a directory")
        try await rename("empty", directory, "f", .notdir, "a directory over a file")
        try await rename("empty", directory, "sub", .notempty, "over a full directory")
        try await rename("sub", sub, "x", .inval, "into itself")
        try await rename("sub", below, "x", .inval, "below itself")
        try await store.succeed(
            .rename, [directory, .string("sub"), directory, .string("empty")], as: ServedStore.owner)
        await store.close()
    }
}
