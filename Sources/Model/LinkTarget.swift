// What a symbolic link says. It means something to clients only: the server never follows it (RFC 1813
// §3.3.5), so any bytes that a client can follow are kept as they are.

/// The text of a symbolic link: 1 … `Limits.maxLinkTargetBytes` bytes without NUL.
public struct LinkTarget: Hashable, Sendable, CustomStringConvertible {
    public let bytes: [UInt8]

    public enum Refusal: Error, Equatable { case empty, tooLong, forbiddenByte }

    /// NUL ends a path for every client that could follow the link: what comes after it would be lost without
    /// a word, or be taken for part of something else. An empty path leads nowhere, as symlink(2) says.
    public init(_ bytes: [UInt8]) throws(Refusal) {
        guard !bytes.isEmpty else { throw .empty }
        guard bytes.count <= Limits.maxLinkTargetBytes else { throw .tooLong }
        guard !bytes.contains(0) else { throw .forbiddenByte }
        self.bytes = bytes
    }

    public var description: String { String(decoding: bytes, as: UTF8.self) }
}
