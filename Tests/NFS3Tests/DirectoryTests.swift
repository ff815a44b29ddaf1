// READDIR and READDIRPLUS (RFC 1813 §3.3.16, §3.3.17): sizes to the byte, cookies, the end.

import FileService
import Model
import Testing

@testable import NFS3

@Suite("READDIR and READDIRPLUS")
struct DirectoryTests {
    /// ".", "..", and names of 1, 2, … bytes.
    private static func entries(_ count: Int) -> [DirectoryEntry] {
        (0..<count).map { index in
            let text =
                [".", ".."].indices.contains(index) ? [".", ".."][index] : String(repeating: "x", count: index - 1)
            return DirectoryEntry(
                name: name(text), cookie: UInt64(index + 1) << 32, fileID: Fixture.file.id,
                entry: FileEntry(file: Fixture.file, attributes: Fixture.fileAttributes))
        }
    }

    private static func readdir(cookie: UInt64 = 0, verifier: UInt64 = 0, count: Int) -> WireBytes {
        [Wire.root, .u64(cookie), .u64(verifier), .u32(UInt32(count))]
    }

    private static func readdirplus(cookie: UInt64 = 0, dircount: Int, maxcount: Int) -> WireBytes {
        [Wire.root, .u64(cookie), .u64(0), .u32(UInt32(dircount)), .u32(UInt32(maxcount))]
    }

    /// entry3 with the boolean before it.
    private static func entry(_ entry: DirectoryEntry) -> WireBytes {
        [.yes, .u64(7), .opaque(entry.name.bytes), .u64(entry.cookie)]
    }

    /// entryplus3 with the boolean before it.
    private static func entryPlus(_ entry: DirectoryEntry) -> WireBytes {
        [Self.entry(entry), .yes, Wire.fileAttributes, .yes, Wire.file]
    }

    private static func expected(_ entries: [WireBytes], isAtEnd: Bool) -> WireBytes {
        let list = entries.reduce([], +)
        return [.u32(0), .yes, Wire.rootAttributes, .u64(0), list, .no, isAtEnd ? .yes : .no]
    }

    @Test("READDIR returns ids, names and cookies, and eof with the last (RFC 1813 §3.3.16)")
    func readdir() async {
        let entries = Self.entries(4)
        let test = Programs { $0.entries = entries }
        let reply = await test.reply(.readdir, Self.readdir(count: 4096))
        #expect(reply == Self.expected(entries.map(Self.entry), isAtEnd: true))
    }

    @Test("READDIRPLUS returns attributes and handles too (RFC 1813 §3.3.17)")
    func readdirplus() async {
        let entries = Self.entries(4)
        let test = Programs { $0.entries = entries }
        let reply = await test.reply(.readdirplus, Self.readdirplus(dircount: 4096, maxcount: 4096))
        #expect(reply == Self.expected(entries.map(Self.entryPlus), isAtEnd: true))
    }

    @Test("READDIRPLUS gives an entry without attributes when the service has none")
    func entryWithoutAttributes() async {
        let test = Programs {
            $0.entries = [DirectoryEntry(name: name("gone"), cookie: 5, fileID: Fixture.file.id, entry: nil)]
        }
        let reply = await test.reply(.readdirplus, Self.readdirplus(dircount: 4096, maxcount: 4096))
        #expect(
            reply
                == Self.expected([[.yes, .u64(7), .string("gone"), .u64(5), .no, .no]], isAtEnd: true))
    }

    @Test("READDIR fills count to the byte and not beyond, for each count")
    func count() async {
        let entries = Self.entries(12)
        let test = Programs { $0.entries = entries }
        // The status is not part of READDIR3resok.
        let whole = Self.expected(entries.map(Self.entry), isAtEnd: true).bytes.count - 4
        for count in 0...whole + 8 {
            var fitting = 0
            while fitting < entries.count,
                Self.expected(entries.prefix(fitting + 1).map(Self.entry), isAtEnd: false).bytes.count - 4 <= count
            {
                fitting += 1
            }
            let reply = await test.reply(.readdir, Self.readdir(count: count))
            if fitting == 0 {
                #expect(reply == [.u32(10005), .yes, Wire.rootAttributes], "count \(count)")
            } else {
                let isAtEnd = fitting == entries.count
                #expect(
                    reply == Self.expected(entries.prefix(fitting).map(Self.entry), isAtEnd: isAtEnd),
                    "count \(count)")
            }
        }
    }

    @Test("READDIRPLUS keeps to dircount and maxcount, to the byte", arguments: [true, false])
    func plusCounts(isDirectoryCountLimit: Bool) async {
        let entries = Self.entries(6)
        let test = Programs { $0.entries = entries }
        let sizes = entries.map { Self.entry($0).bytes.count }
        let plusSizes = entries.map { Self.entryPlus($0).bytes.count }
        for limit in 0...(isDirectoryCountLimit ? sizes : plusSizes).reduce(120, +) {
            var fitting = 0
            while fitting < entries.count,
                isDirectoryCountLimit
                    ? sizes.prefix(fitting + 1).reduce(0, +) <= limit
                    : plusSizes.prefix(fitting + 1).reduce(88 + 8 + 4 + 4, +) <= limit
            {
                fitting += 1
            }
            let reply = await test.reply(
                .readdirplus,
                isDirectoryCountLimit
                    ? Self.readdirplus(dircount: limit, maxcount: 60000)
                    : Self.readdirplus(dircount: 60000, maxcount: limit))
            if fitting == 0 {
                #expect(reply == [.u32(10005), .yes, Wire.rootAttributes], "limit \(limit)")
            } else {
                let isAtEnd = fitting == entries.count
                #expect(
                    reply == Self.expected(entries.prefix(fitting).map(Self.entryPlus), isAtEnd: isAtEnd),
                    "limit \(limit)")
            }
        }
    }

    @Test("a reply holds at most dtpref bytes, and no more entries are asked for than could fit")
    func maxReply() async throws {
        let entries = (1...6000).map {
            DirectoryEntry(name: name("\($0 % 10)"), cookie: UInt64($0), fileID: Fixture.file.id, entry: nil)
        }
        let test = Programs { $0.entries = entries }
        let reply = try #require(await test.reply(.readdir, Self.readdir(count: Int(UInt32.max))))
        #expect(reply.bytes.count - 4 <= 65536)
        #expect(reply.bytes.count - 4 > 65536 - 28)
        #expect(reply.bytes.suffix(4) == [0, 0, 0, 0])
        #expect(
            test.service.calls == [
                .list(Fixture.root, after: 0, maxEntries: (65536 - 104) / 28, withAttributes: false)
            ])
    }

    @Test("a walk with the smallest replies that hold an entry returns each entry once", arguments: [false, true])
    func walk(isPlus: Bool) async throws {
        let entries = Self.entries(9)
        let test = Programs { $0.entries = entries }
        var cookie: UInt64 = 0
        var seen: [WireBytes] = []
        for _ in 0..<100 {
            let arguments =
                isPlus
                ? Self.readdirplus(cookie: cookie, dircount: 40, maxcount: 104 + 40 + 132)
                : Self.readdir(cookie: cookie, count: 104 + 40)
            let reply = try #require(await test.reply(isPlus ? .readdirplus : .readdir, arguments))
            #expect(reply.bytes.prefix(4) == [0, 0, 0, 0])
            // Which of the entries this reply has: those that, put together by hand, make the same bytes.
            let rest = entries.drop { $0.cookie <= cookie }
            let match = (0...rest.count).first { count in
                [true, false].contains { isAtEnd in
                    reply
                        == Self.expected(
                            rest.prefix(count).map(isPlus ? Self.entryPlus : Self.entry), isAtEnd: isAtEnd)
                }
            }
            let count = try #require(match)
            seen += rest.prefix(count).map(Self.entry)
            if reply.bytes.last == 1 { break }
            cookie = try #require(rest.prefix(count).last).cookie
        }
        #expect(seen == entries.map(Self.entry))
    }

    @Test("after the last entry there is an empty list and eof")
    func afterTheEnd() async {
        let test = Programs { $0.entries = Self.entries(3) }
        #expect(
            await test.reply(.readdir, Self.readdir(cookie: 3 << 32, count: 104))
                == Self.expected([], isAtEnd: true))
        #expect(
            await test.reply(.readdir, Self.readdir(cookie: 3 << 32, count: 103)) == [
                .u32(10005), .yes, Wire.rootAttributes,
            ])
    }

    @Test("eof is false while the service has more, even if all that it returned fits")
    func moreToCome() async {
        let entries = Self.entries(3)
        let test = Programs {
            $0.entries = entries
            $0.hasMoreEntries = true
        }
        let reply = await test.reply(.readdir, Self.readdir(count: 4096))
        #expect(reply == Self.expected(entries.map(Self.entry), isAtEnd: false))
    }

    @Test("a cookie verifier that was never given out is NFS3ERR_BAD_COOKIE (RFC 1813 §3.3.16)")
    func badVerifier() async {
        let test = Programs { $0.entries = Self.entries(3) }
        let failure: WireBytes = [.u32(10003), .yes, Wire.rootAttributes]
        #expect(await test.reply(.readdir, Self.readdir(cookie: 1, verifier: 1, count: 4096)) == failure)
        let plus: WireBytes = [Wire.root, .u64(1), .u64(1 << 63), .u32(4096), .u32(4096)]
        #expect(await test.reply(.readdirplus, plus) == failure)
        #expect(test.service.calls == [])
    }
}
