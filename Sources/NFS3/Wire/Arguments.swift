// What the arguments of several procedures are made of, decoded. Decoding says only whether the bytes
// are XDR of the right shape (else GARBAGE_ARGS); whether the values are acceptable is decided later, by
// methods that throw the status that the procedure answers.

internal import FileService
internal import Model
internal import XDR

/// A handle and a name in it (RFC 1813 §2.6, diropargs3).
struct DirectoryArguments: Sendable {
    let directory: FileHandle
    private let name: [UInt8]

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        directory = try decoder.fileHandle()
        // filename3 is a string<> without a bound: what fits the record is decoded, and refused as too long.
        name = try decoder.opaque(maxCount: decoder.remaining)
    }

    /// The name, or what RFC 1813 §3.2 says about it: NFS3ERR_ACCES for an empty one (item 1) and for
    /// characters that the server cannot handle (item 5), NFS3ERR_NAMETOOLONG (item 4).
    func fileName() throws(NFSStatus) -> FileName {
        do throws(FileName.Refusal) {
            return try FileName(name)
        } catch {
            switch error {
            case .empty, .forbiddenByte: throw .accessDenied
            case .tooLong: throw .nameTooLong
            }
        }
    }

    /// The name of something to create, remove or rename: not one of the aliases that each directory has.
    func ownFileName(dot: NFSStatus, dotDot: NFSStatus) throws(NFSStatus) -> FileName {
        let name = try fileName()
        if name.isDot { throw dot }
        if name.isDotDot { throw dotDot }
        return name
    }
}

/// A time as it came (RFC 1813 §2.6, nfstime3): the nanoseconds may be out of range.
struct TimeArgument: Sendable {
    let seconds: UInt32
    let nanoseconds: UInt32

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        seconds = try decoder.uint32()
        nanoseconds = try decoder.uint32()
    }

    func timestamp() throws(NFSStatus) -> Timestamp {
        guard nanoseconds < 1_000_000_000 else { throw .invalidArgument }
        return Timestamp(seconds: Int64(seconds), nanoseconds: nanoseconds)
    }
}

/// The attributes that a client sets (RFC 1813 §2.6, sattr3).
struct SetAttributesArgument: Sendable {
    private enum Time {
        case unchanged
        case toServerTime
        case to(TimeArgument)
    }

    private let mode: UInt32?
    private let uid: UInt32?
    private let gid: UInt32?
    private let size: UInt64?
    private let accessTime: Time
    private let modificationTime: Time

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        mode = try decoder.bool() ? decoder.uint32() : nil
        uid = try decoder.bool() ? decoder.uint32() : nil
        gid = try decoder.bool() ? decoder.uint32() : nil
        size = try decoder.bool() ? decoder.uint64() : nil
        accessTime = try Self.time(from: &decoder)
        modificationTime = try Self.time(from: &decoder)
    }

    private static func time(from decoder: inout XDRDecoder) throws(XDRError) -> Time {
        switch try decoder.uint32() {
        case 0: return .unchanged
        case 1: return .toServerTime
        case 2: return .to(try TimeArgument(from: &decoder))
        default: throw .invalidValue
        }
    }

    func update() throws(NFSStatus) -> AttributeUpdate {
        if let size, size > Limits.maxFileBytes { throw .fileTooBig }
        return AttributeUpdate(
            // mode3 has no more than these bits (§2.6); clients that send st_mode include the file type.
            mode: mode.map { $0 & 0o7777 }, uid: uid, gid: gid, size: size,
            accessTime: try Self.change(accessTime), modificationTime: try Self.change(modificationTime))
    }

    private static func change(_ time: Time) throws(NFSStatus) -> TimeChange {
        switch time {
        case .unchanged: .unchanged
        case .toServerTime: .toServerTime
        case .to(let time): .to(try time.timestamp())
        }
    }
}

extension XDRDecoder {
    /// nfs_fh3 (RFC 1813 §2.6).
    mutating func fileHandle() throws(XDRError) -> FileHandle {
        FileHandle(try opaque(maxCount: FileHandle.maxBytes))
    }
}
