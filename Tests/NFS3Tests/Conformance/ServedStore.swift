// The programs over a real store on simulated disks. Replies are compared whole, byte for byte. The oracle is GETATTR,
// whose own fields are tested one by one: what another reply says of a file must be what GETATTR said before the call
// (wcc_data's first half) or says after it.

import EmbeddedFileService
import FaultInjection
import FileService
import Logging
import Model
import NFS3
import ONCRPC
import Platform
import Testing

/// A small tree behind the programs.
final class ServedStore {
    static let owner = Credentials(uid: 1000, gid: 100, groups: [24])
    static let stranger = Credentials(uid: 2000, gid: 200, groups: [])
    static let superuser = Credentials(uid: 0, gid: 0, groups: [])

    private let paths = ["/v0", "/v1", "/v2"]
    private let disk: SimulatedFileSystem
    private let allowsDevices: Bool
    let clock = StandingClock()
    private var service: EmbeddedFileService
    private var programs: NFSPrograms<EmbeddedFileService>
    /// The handle of "/", as an `opaque<>`; so are all handles here.
    private(set) var root = WireBytes()

    init(allowsDevices: Bool = false) async throws {
        disk = SimulatedFileSystem(directories: paths)
        self.allowsDevices = allowsDevices
        var random = SeededGenerator(seed: 1)
        try EmbeddedFileService.format(
            volumes: paths, policy: ErasureCodingPolicy("XOR-2-1-4k"), fileSystem: disk, clock: clock, random: &random)
        (service, programs) = try await Self.open(paths, disk, clock, allowsDevices)
        root = try await rootHandle()
    }

    private static func open(
        _ paths: [String], _ disk: SimulatedFileSystem, _ clock: StandingClock, _ allowsDevices: Bool
    ) async throws -> (EmbeddedFileService, NFSPrograms<EmbeddedFileService>) {
        var log = Logger(label: "test")
        log.logLevel = .critical
        let service = try await EmbeddedFileService.open(
            volumes: paths, fileSystem: disk, clock: clock, log: log, allowsDevices: allowsDevices)
        let key = service.handleKey
        let handles = FileHandleCodec(key: FileHandleKey(key.k0, key.k1), storeID: service.storeID)
        return (service, NFSPrograms(service: service, handles: handles))
    }

    private func rootHandle() async throws -> WireBytes {
        let call = Programs.call(1, .string("/"), program: 100005, credential: .system(Self.superuser, machineName: []))
        return try #require(Programs.results(await programs.handle(call))).opaque(at: 4)
    }

    func close() async { _ = await service.close() }

    func restart() async throws {
        await close()
        (service, programs) = try await Self.open(paths, disk, clock, allowsDevices)
    }

    // MARK: Calls

    /// The whole results; nil if the RPC was refused.
    func call(
        _ procedure: NFSProcedure, _ arguments: WireBytes, as caller: Credentials = superuser
    ) async -> WireBytes? {
        let call = Programs.call(
            procedure.rawValue, arguments, credential: .system(caller, machineName: []))
        return Programs.results(await programs.handle(call))
    }

    /// A call that must succeed.
    @discardableResult
    func succeed(
        _ procedure: NFSProcedure, _ arguments: WireBytes, as caller: Credentials = superuser,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> WireBytes {
        let reply = try #require(await call(procedure, arguments, as: caller), sourceLocation: sourceLocation)
        try #require(reply.u32(at: 0) == 0, "\(procedure): \(reply.u32(at: 0))", sourceLocation: sourceLocation)
        return reply
    }

    func status(
        _ procedure: NFSProcedure, _ arguments: WireBytes, as caller: Credentials = superuser
    ) async -> UInt32? {
        await call(procedure, arguments, as: caller)?.u32(at: 0)
    }

    /// fattr3 of a file, 84 bytes; nil when it is gone.
    func attributes(_ file: WireBytes) async -> WireBytes? {
        guard let reply = await call(.getattr, file), reply.u32(at: 0) == 0 else { return nil }
        return WireBytes(bytes: Array(reply.bytes.dropFirst(4)))
    }

    /// post_op_attr of a file as it is now.
    func postOp(_ file: WireBytes) async -> WireBytes {
        if let attributes = await attributes(file) { [.yes, attributes] } else { .no }
    }

    // MARK: Making files

    /// CREATE, MKDIR, SYMLINK and MKNOD answer post_op_fh3 first.
    private func handle(in reply: WireBytes) -> WireBytes { reply.opaque(at: 8) }

    @discardableResult
    func makeFile(
        _ name: String, in directory: WireBytes? = nil, mode: UInt32 = 0o644, bytes: [UInt8] = [],
        as caller: Credentials = owner
    ) async throws -> WireBytes {
        let file = handle(
            in: try await succeed(
                .create, [directory ?? root, .string(name), .u32(1), .mode(mode)],
                as: directory == nil ? Self.superuser : caller))
        if directory == nil { try await give(file, to: caller, mode: mode) }
        if !bytes.isEmpty {
            try await succeed(.write, [file, .u64(0), .u32(UInt32(bytes.count)), .u32(2), .opaque(bytes)])
        }
        return file
    }

    @discardableResult
    func makeDirectory(
        _ name: String, in directory: WireBytes? = nil, mode: UInt32 = 0o755, as caller: Credentials = owner
    ) async throws -> WireBytes {
        let made = handle(in: try await succeed(.mkdir, [directory ?? root, .string(name), .mode(mode)]))
        try await give(made, to: caller, mode: mode)
        return made
    }

    /// The root directory belongs to the superuser, so what is made there has to be given away.
    private func give(_ file: WireBytes, to caller: Credentials, mode: UInt32) async throws {
        let attributes: WireBytes = [
            .yes, .u32(mode), .yes, .u32(caller.uid), .yes, .u32(caller.gid), .no, .u32(0), .u32(0),
        ]
        try await succeed(.setattr, [file, attributes, .no])
    }

    @discardableResult
    func makeLink(_ name: String, to target: String) async throws -> WireBytes {
        handle(in: try await succeed(.symlink, [root, .string(name), .mode(0o777), .string(target)]))
    }

    @discardableResult
    func makeFIFO(_ name: String) async throws -> WireBytes {
        handle(in: try await succeed(.mknod, [root, .string(name), .u32(7), .mode(0o666)]))
    }

    func find(_ name: String, in directory: WireBytes? = nil) async throws -> WireBytes {
        try await succeed(.lookup, [directory ?? root, .string(name)]).opaque(at: 4)
    }
}

/// Time that stands still: what must move (the change time) moves by itself.
final class StandingClock: SystemClock, @unchecked Sendable {
    override func now() -> Timestamp { Timestamp(seconds: 1000, nanoseconds: 5) }
    override func elapsed() -> Duration { .zero }
}

extension WireBytes {
    /// sattr3 with a mode and nothing else.
    static func mode(_ mode: UInt32) -> WireBytes { [.yes, .u32(mode), .no, .no, .no, .u32(0), .u32(0)] }

    /// sattr3 with a size and nothing else.
    static func size(_ size: UInt64) -> WireBytes { [.no, .no, .no, .yes, .u64(size), .u32(0), .u32(0)] }

    func u32(at offset: Int) -> UInt32 {
        bytes[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) }
    }

    func u64(at offset: Int) -> UInt64 {
        bytes[offset..<offset + 8].reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// A whole `opaque<>`, with count and padding.
    func opaque(at offset: Int) -> WireBytes {
        WireBytes(bytes: Array(bytes[offset..<offset + 4 + (Int(u32(at: offset)) + 3) / 4 * 4]))
    }

    // Fields of fattr3 (RFC 1813 §2.6).
    var mode: UInt32 { u32(at: 4) }
    var linkCount: UInt32 { u32(at: 8) }
    var uid: UInt32 { u32(at: 12) }
    var gid: UInt32 { u32(at: 16) }
    var size: UInt64 { u64(at: 20) }
    var fileID: UInt64 { u64(at: 52) }
    var accessTime: UInt64 { u64(at: 60) }
    var modificationTime: UInt64 { u64(at: 68) }
    var changeTime: UInt64 { u64(at: 76) }

    /// pre_op_attr of fattr3: wcc_attr is size, mtime, ctime.
    var before: WireBytes { [.yes, .u64(size), .u64(modificationTime), .u64(changeTime)] }
}
