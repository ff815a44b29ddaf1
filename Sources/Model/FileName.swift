// Names of directory entries are bytes. Swift's String compares canonically equal texts as equal, an
// NFS server must not (RFC 1813 §3.2: a file name is an opaque string to the server).

/// A directory entry's name: 1 … `Limits.maxNameBytes` bytes without "/" and NUL.
///
/// "." and ".." are representable, since LOOKUP takes them; operations that create or remove refuse them.
public struct FileName: Hashable, Sendable, CustomStringConvertible {
    public let bytes: [UInt8]

    public enum Refusal: Error, Equatable { case empty, tooLong, forbiddenByte }

    public init(_ bytes: [UInt8]) throws(Refusal) {
        guard !bytes.isEmpty else { throw .empty }
        guard bytes.count <= Limits.maxNameBytes else { throw .tooLong }
        guard !bytes.contains(UInt8(ascii: "/")), !bytes.contains(0) else { throw .forbiddenByte }
        self.bytes = bytes
    }

    public var isDot: Bool { bytes == [UInt8(ascii: ".")] }
    public var isDotDot: Bool { bytes == [UInt8(ascii: "."), UInt8(ascii: ".")] }

    public var description: String { String(decoding: bytes, as: UTF8.self) }
}
