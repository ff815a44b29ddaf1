// File handles (RFC 1813 §2.6, nfs_fh3): what a client holds instead of a path. They survive restarts
// and cannot be forged. 44 bytes, all numbers big-endian:
//
//     0  version 2, then three zero bytes
//     4  the low 8 bytes of the store's id
//    12  file id
//    20  generation
//    28  file id of the root of the export that the handle was given out in
//    36  SipHash-2-4 of bytes 0 ..< 36 under the store's handle key
//
// The export is signed too, so that a client can't carry a handle into an export with other rules. Version 1 had no
// export; its handles are refused as bad.
//
// Invariant: `decode` succeeds only for bytes that a codec with the same key and store made.

public import FileService
public import Model

/// A handle as it came from a client: opaque bytes, believed only after `FileHandleCodec.reference(of:)`.
public struct FileHandle: Hashable, Sendable {
    /// RFC 1813 §2.4: NFS3_FHSIZE.
    public static let maxBytes = 64

    public let bytes: [UInt8]

    public init(_ bytes: [UInt8]) { self.bytes = bytes }
}

/// The key under which a store signs its handles: 16 random bytes, made at format and kept secret.
public struct FileHandleKey: Sendable {
    let k0: UInt64
    let k1: UInt64

    public init(_ k0: UInt64, _ k1: UInt64) {
        self.k0 = k0
        self.k1 = k1
    }
}

/// Makes and checks the handles of one store.
public struct FileHandleCodec: Sendable {
    /// The bytes of each handle that this codec makes.
    static let handleBytes = 44
    private static let signedBytes = 36
    private static let version: UInt32 = 2 << 24

    private let key: FileHandleKey
    /// Tells the store from others.
    let storeTag: UInt64

    public init(key: FileHandleKey, storeID: StoreID) {
        self.key = key
        storeTag = storeID.rawValue.low
    }

    /// The handle of a file for the clients of the export with this root; by default, of the whole store.
    public func handle(of file: FileReference, exportRoot: FileID = .root) -> FileHandle {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.handleBytes)
        Self.append(Self.version, to: &bytes)
        Self.append(storeTag, to: &bytes)
        Self.append(file.id.rawValue, to: &bytes)
        Self.append(file.generation.rawValue, to: &bytes)
        Self.append(exportRoot.rawValue, to: &bytes)
        Self.append(tag(of: bytes), to: &bytes)
        return FileHandle(bytes)
    }

    /// The file that a handle names, and the root of the export that it was given out in.
    ///
    /// Throws `badHandle` when this codec cannot have made it, and `stale` when it belongs to another store,
    /// whose key is not known here: the client then looks the file up anew, as after a `format`.
    func decode(_ handle: FileHandle) throws(NFSStatus) -> (file: FileReference, exportRoot: FileID) {
        let bytes = handle.bytes
        guard bytes.count == Self.handleBytes, Self.integer(UInt32.self, in: bytes, at: 0) == Self.version else {
            throw .badHandle
        }
        guard Self.integer(UInt64.self, in: bytes, at: 4) == storeTag else { throw .stale }
        // One comparison of whole words: its time says nothing about how many bytes of a guess were right.
        let expected = tag(of: bytes[..<Self.signedBytes])
        guard Self.integer(UInt64.self, in: bytes, at: Self.signedBytes) ^ expected == 0 else { throw .badHandle }
        let file = FileReference(
            id: FileID(rawValue: Self.integer(UInt64.self, in: bytes, at: 12)),
            generation: FileGeneration(rawValue: Self.integer(UInt64.self, in: bytes, at: 20)))
        return (file, FileID(rawValue: Self.integer(UInt64.self, in: bytes, at: 28)))
    }

    /// The file alone.
    public func reference(of handle: FileHandle) throws(NFSStatus) -> FileReference { try decode(handle).file }

    private func tag(of bytes: some Collection<UInt8>) -> UInt64 {
        SipHash.hash(bytes, k0: key.k0, k1: key.k1)
    }

    private static func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }

    private static func integer<Value: FixedWidthInteger>(_: Value.Type, in bytes: [UInt8], at offset: Int) -> Value {
        bytes.withUnsafeBytes { Value(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self)) }
    }
}
