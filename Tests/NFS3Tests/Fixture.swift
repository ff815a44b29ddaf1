// Files of the tests, as the service has them and as bytes on the wire.

import FileService
import Model
import NIOCore
import ONCRPC
import Platform
import XDR

@testable import NFS3

enum Fixture {
    static let root = FileReference(id: .root, generation: FileGeneration(rawValue: 0x11))
    static let file = FileReference(id: FileID(rawValue: 7), generation: FileGeneration(rawValue: 0x77))
    static let other = FileReference(id: FileID(rawValue: 9), generation: FileGeneration(rawValue: 0x99))

    static let rootAttributes = attributes(of: root, .directory, mode: 0o755, size: 4096)
    static let fileAttributes = attributes(of: file, .regular, mode: 0o644, size: 0x1_0000_0005)
    static let otherAttributes = attributes(of: other, .directory, mode: 0o700, size: 512)

    static func attributes(
        of file: FileReference, _ type: FileType, mode: UInt32, size: UInt64
    ) -> FileAttributes {
        FileAttributes(
            fileID: file.id, type: type, mode: mode, linkCount: 1, uid: 1000, gid: 100, size: size, usedBytes: 4097,
            accessTime: Timestamp(seconds: 21, nanoseconds: 1),
            modificationTime: Timestamp(seconds: 22, nanoseconds: 2),
            changeTime: Timestamp(seconds: 23, nanoseconds: 3))
    }

    static let change = AttributeChange(before: before(size: 5), after: fileAttributes)
    static let otherChange = AttributeChange(before: before(size: 6), after: otherAttributes)
    static let created = CreatedEntry(
        entry: FileEntry(file: file, attributes: fileAttributes),
        directory: AttributeChange(before: before(size: 5), after: rootAttributes))
    static let verifier = WriteVerifier(rawValue: 0x0123_4567_89ab_cdef)
    static let linkTarget = target("../a target")
    static let caller = Credentials(uid: 1000, gid: 100, groups: [4, 24])

    private static func before(size: UInt64) -> FileAttributes {
        var attributes = fileAttributes
        attributes.size = size
        attributes.modificationTime = Timestamp(seconds: 12, nanoseconds: 2)
        attributes.changeTime = Timestamp(seconds: 13, nanoseconds: 3)
        return attributes
    }

    static let storeID = StoreID(rawValue: UniqueID(high: 0xfeed, low: 0x5157_4c55_4943_4521))
    /// The bytes 0, 1, … 15.
    static let key = FileHandleKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)
    static let codec = FileHandleCodec(key: key, storeID: storeID)

    // Handles made by another implementation of SipHash-2-4.
    static let rootHandle = WireBytes.hex(
        "0200000051574c554943452100000000000000010000000000000011000000000000000177774cd3350a0c80")
    static let fileHandle = WireBytes.hex(
        "0200000051574c55494345210000000000000007000000000000007700000000000000014577440836a69347")
    static let otherHandle = WireBytes.hex(
        "0200000051574c5549434521000000000000000900000000000000990000000000000001f887d5194e46bb31")
}

/// What the fixtures are on the wire.
enum Wire {
    static let root = WireBytes.opaque(Fixture.rootHandle.bytes)
    static let file = WireBytes.opaque(Fixture.fileHandle.bytes)
    static let other = WireBytes.opaque(Fixture.otherHandle.bytes)

    // fattr3, RFC 1813 §2.6: type, mode, nlink, uid, gid, size, used, rdev, fsid, fileid, atime, mtime, ctime.
    static let rootAttributes = attributes(type: 2, mode: 0o755, size: 4096, fileID: 1)
    static let fileAttributes = attributes(type: 1, mode: 0o644, size: 0x1_0000_0005, fileID: 7)
    static let otherAttributes = attributes(type: 2, mode: 0o700, size: 512, fileID: 9)

    static func attributes(type: UInt32, mode: UInt32, size: UInt64, fileID: UInt64) -> WireBytes {
        [
            .u32(type), .u32(mode), .u32(1), .u32(1000), .u32(100), .u64(size), .u64(4097), .u32(0), .u32(0),
            .u64(0x5157_4c55_4943_4521), .u64(fileID), .u32(21), .u32(1), .u32(22), .u32(2), .u32(23), .u32(3),
        ]
    }

    // wcc_data with wcc_attr: size, mtime, ctime.
    static let fileChange: WireBytes = change(sizeBefore: 5, after: fileAttributes)
    static let rootChange: WireBytes = change(sizeBefore: 5, after: rootAttributes)
    static let otherChange: WireBytes = change(sizeBefore: 6, after: otherAttributes)

    private static func change(sizeBefore: UInt64, after: WireBytes) -> WireBytes {
        [.yes, .u64(sizeBefore), .u32(12), .u32(2), .u32(13), .u32(3), .yes, after]
    }

    /// sattr3 that sets nothing.
    static let noAttributes: WireBytes = [.no, .no, .no, .no, .u32(0), .u32(0)]
}

/// The programs over a recording service.
struct Programs {
    let service: RecordingService
    let programs: NFSPrograms<RecordingService>

    init(
        exports: ExportTable = ExportTable(), _ change: (inout RecordingService.State) -> Void = { _ in }
    ) {
        service = RecordingService(change)
        programs = NFSPrograms(service: service, handles: Fixture.codec, exports: exports)
    }

    static func call(
        _ procedure: UInt32, _ arguments: WireBytes, program: UInt32 = 100003,
        credential: RPCCredential = .system(Fixture.caller, machineName: []), from client: SocketAddress? = nil
    ) -> RPCCall {
        RPCCall(
            xid: 1, program: program, version: 3, procedure: procedure, credential: credential, clientAddress: client,
            arguments: Payload(bytes: arguments.bytes))
    }

    func outcome(_ procedure: NFSProcedure, _ arguments: WireBytes) async -> RPCOutcome {
        await programs.handle(Self.call(procedure.rawValue, arguments))
    }

    /// The whole results of a call, with the payload and its padding; nil if the RPC was refused.
    func reply(_ procedure: NFSProcedure, _ arguments: WireBytes) async -> WireBytes? {
        Self.results(await outcome(procedure, arguments))
    }

    func mountReply(
        _ procedure: MountProcedure, _ arguments: WireBytes, from client: SocketAddress? = nil
    ) async -> WireBytes? {
        Self.results(await programs.handle(Self.call(procedure.rawValue, arguments, program: 100005, from: client)))
    }

    func reply(
        _ procedure: NFSProcedure, _ arguments: WireBytes, from client: SocketAddress?,
        credential: RPCCredential = .system(Fixture.caller, machineName: [])
    ) async -> WireBytes? {
        Self.results(
            await programs.handle(Self.call(procedure.rawValue, arguments, credential: credential, from: client)))
    }

    static func results(_ outcome: RPCOutcome) -> WireBytes? {
        guard case .success(let body) = outcome else { return nil }
        var bytes = Array(body.header.readableBytesView)
        if let payload = body.payload { bytes += payload.bytes }
        while bytes.count % 4 != 0 { bytes.append(0) }
        return WireBytes(bytes: bytes)
    }

    static func isGarbage(_ outcome: RPCOutcome) -> Bool {
        if case .garbageArguments = outcome { true } else { false }
    }
}

/// A name that is known to be one.
func name(_ text: String) -> FileName {
    do {
        return try FileName(Array(text.utf8))
    } catch {
        preconditionFailure("\(text) is no name: \(error)")
    }
}

/// A target that is known to be one.
func target(_ text: String) -> LinkTarget {
    do {
        return try LinkTarget(Array(text.utf8))
    } catch {
        preconditionFailure("\(text) is no target: \(error)")
    }
}

/// A client at an address, with a privileged port unless said otherwise.
func client(_ address: String, port: Int = 700) throws -> SocketAddress {
    try SocketAddress(ipAddress: address, port: port)
}
