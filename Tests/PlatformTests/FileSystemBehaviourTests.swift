// The machine's file system and its simulated twin behave alike, so that what is tested on the twin holds
// on a disk. Every test runs on both.

import FaultInjection
import Glibc
import Platform
import Testing

/// A file system with an empty directory of its own.
struct Place: CustomTestStringConvertible, Sendable {
    let fileSystem: FileSystem
    let directory: String
    let testDescription: String

    static func simulated() -> Place {
        Place(
            fileSystem: SimulatedFileSystem(directories: ["/tmp/place"]), directory: "/tmp/place",
            testDescription: "simulated")
    }

    /// Removed by the test's end through `removeAll`.
    static func real() -> Place {
        var template = Array("/tmp/sluice-platform-XXXXXX".utf8CString)
        precondition(mkdtemp(&template) != nil)
        return Place(
            fileSystem: FileSystem(),
            directory: String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self),
            testDescription: "real")
    }

    func path(_ name: String) -> String { directory + "/" + name }

    func removeAll() { Self.remove(directory) }

    private static func remove(_ path: String) {
        guard let stream = opendir(path) else { return }
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard name != ".", name != ".." else { continue }
            let child = path + "/" + name
            if entry.pointee.d_type == UInt8(DT_DIR) { remove(child) } else { unlink(child) }
        }
        closedir(stream)
        rmdir(path)
    }
}

func bytes(of file: File, from offset: UInt64 = 0, count: Int) throws -> [UInt8] {
    var result = [UInt8](repeating: 0xee, count: count)
    let read = try result.withUnsafeMutableBytes { try file.read(into: $0, at: offset) }
    return Array(result.prefix(read))
}

func write(_ bytes: [UInt8], to file: File, at offset: UInt64 = 0) throws {
    try bytes.withUnsafeBytes { try file.write($0, at: offset) }
}

/// The errno that `body` fails with; 0 when it succeeds.
func failure(_ body: () throws -> Void) -> Int32 {
    do {
        try body()
        return 0
    } catch {
        return (error as? IOError)?.code ?? -1
    }
}

@Suite("Both file systems")
struct FileSystemBehaviourTests {
    enum Kind: CaseIterable { case real, simulated }

    private func with(_ kind: Kind, _ body: (Place) throws -> Void) throws {
        let place = kind == .real ? Place.real() : Place.simulated()
        defer { place.removeAll() }
        try body(place)
    }

    @Test("what is written is read, a gap reads as zeros, and the end cuts a read short", arguments: Kind.allCases)
    func readAndWrite(_ kind: Kind) throws {
        try with(kind) { place in
            let file = try place.fileSystem.open(place.path("a"), .createNew)
            try write([1, 2, 3], to: file)
            try write([9], to: file, at: 5)
            #expect(try file.size() == 6)
            #expect(try bytes(of: file, count: 100) == [1, 2, 3, 0, 0, 9])
            #expect(try bytes(of: file, from: 2, count: 2) == [3, 0])
            #expect(try bytes(of: file, from: 6, count: 1) == [])
            #expect(try bytes(of: file, from: 600, count: 1) == [])
            try write([7, 7], to: file, at: 1)
            #expect(try bytes(of: file, count: 4) == [1, 7, 7, 0])
            try file.sync()
            file.close()
        }
    }

    @Test("truncate cuts and extends with zeros", arguments: Kind.allCases)
    func truncate(_ kind: Kind) throws {
        try with(kind) { place in
            let file = try place.fileSystem.open(place.path("a"), .createOrOpen)
            try write([1, 2, 3, 4], to: file)
            try file.truncate(to: 2)
            #expect(try file.size() == 2)
            try file.truncate(to: 4)
            #expect(try bytes(of: file, count: 10) == [1, 2, 0, 0])
        }
    }

    @Test("each open mode takes what it should and refuses the rest", arguments: Kind.allCases)
    func openModes(_ kind: Kind) throws {
        try with(kind) { place in
            let fileSystem = place.fileSystem
            #expect(failure { _ = try fileSystem.open(place.path("a"), .read) } == ENOENT)
            #expect(failure { _ = try fileSystem.open(place.path("a"), .readWrite) } == ENOENT)
            try write([5], to: fileSystem.open(place.path("a"), .createOrOpen))
            #expect(try bytes(of: fileSystem.open(place.path("a"), .createOrOpen), count: 9) == [5])
            #expect(failure { _ = try fileSystem.open(place.path("a"), .createNew) } == EEXIST)
            let reader = try fileSystem.open(place.path("a"), .read)
            #expect(failure { try write([1], to: reader) } == EBADF)
            #expect(failure { try reader.truncate(to: 0) } == EINVAL)
            #expect(failure { _ = try fileSystem.open(place.path("a/b"), .createNew) } == ENOTDIR)
            #expect(failure { _ = try fileSystem.open(place.path("no/b"), .createNew) } == ENOENT)
            #expect(failure { _ = try fileSystem.open(place.directory, .readWrite) } == EISDIR)
        }
    }

    @Test("names come and go, and status tells what they are", arguments: Kind.allCases)
    func names(_ kind: Kind) throws {
        try with(kind) { place in
            let fileSystem = place.fileSystem
            try fileSystem.createDirectory(place.path("d"))
            #expect(failure { try fileSystem.createDirectory(place.path("d")) } == EEXIST)
            #expect(failure { try fileSystem.createDirectory(place.path("no/d")) } == ENOENT)
            try write([1, 2], to: fileSystem.open(place.path("d/é"), .createNew))
            #expect(try fileSystem.list(place.path("d")) == ["é"])
            #expect(try fileSystem.status(place.path("d"))?.isDirectory == true)
            #expect(try fileSystem.status(place.path("d/é"))?.size == 2)
            #expect(try fileSystem.status(place.path("d/é"))?.isDirectory == false)
            #expect(try fileSystem.status(place.path("d/none")) == nil)
            #expect(try fileSystem.status(place.path("d/é/none")) == nil)
            #expect(failure { _ = try fileSystem.list(place.path("none")) } == ENOENT)
            #expect(failure { _ = try fileSystem.list(place.path("d/é")) } == ENOTDIR)
            #expect(failure { try fileSystem.remove(place.path("d/none")) } == ENOENT)
            #expect(failure { try fileSystem.remove(place.path("d")) } == EISDIR)
            try fileSystem.remove(place.path("d/é"))
            #expect(try fileSystem.list(place.path("d")) == [])
            try fileSystem.syncDirectory(place.path("d"))
            #expect(failure { try fileSystem.syncDirectory(place.path("none")) } == ENOENT)
        }
    }

    @Test("a rename replaces its target as a whole and keeps open files", arguments: Kind.allCases)
    func rename(_ kind: Kind) throws {
        try with(kind) { place in
            let fileSystem = place.fileSystem
            let file = try fileSystem.open(place.path("a"), .createNew)
            try write([1], to: file)
            try write([2, 2], to: fileSystem.open(place.path("b"), .createNew))
            try fileSystem.rename(place.path("a"), to: place.path("b"))
            #expect(try fileSystem.list(place.directory) == ["b"])
            try write([3], to: file, at: 1)
            #expect(try bytes(of: fileSystem.open(place.path("b"), .read), count: 9) == [1, 3])
            #expect(failure { try fileSystem.rename(place.path("a"), to: place.path("c")) } == ENOENT)
            try fileSystem.createDirectory(place.path("d"))
            try fileSystem.createDirectory(place.path("d/sub"))
            #expect(failure { try fileSystem.rename(place.path("b"), to: place.path("d")) } == EISDIR)
            #expect(failure { try fileSystem.rename(place.path("d"), to: place.path("b")) } == ENOTDIR)
            try fileSystem.createDirectory(place.path("e"))
            #expect(failure { try fileSystem.rename(place.path("e"), to: place.path("d")) } == ENOTEMPTY)
            try fileSystem.rename(place.path("d"), to: place.path("e"))
            #expect(try fileSystem.list(place.path("e")) == ["sub"])
        }
    }

    @Test("a removed file stays readable through an open file", arguments: Kind.allCases)
    func removedWhileOpen(_ kind: Kind) throws {
        try with(kind) { place in
            let file = try place.fileSystem.open(place.path("a"), .createNew)
            try write([4], to: file)
            try place.fileSystem.remove(place.path("a"))
            #expect(try bytes(of: file, count: 2) == [4])
        }
    }

    @Test("free space is at most the whole", arguments: Kind.allCases)
    func space(_ kind: Kind) throws {
        try with(kind) { place in
            let space = try place.fileSystem.space(place.directory)
            #expect(space.totalBytes > 0)
            #expect(space.availableBytes <= space.freeBytes && space.freeBytes <= space.totalBytes)
            #expect(failure { _ = try place.fileSystem.space(place.path("none")) } == ENOENT)
        }
    }
}
