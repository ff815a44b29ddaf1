// The path of an exported directory, from the root of the store. Paths are compared name by name, as bytes.
/// An absolute path without "." and "..".
internal import Model

public struct ExportPath: Hashable, Sendable, CustomStringConvertible {
    /// Why a text is no path of an export.
    public enum Refusal: Error, Hashable, Sendable, CustomStringConvertible {
        case notAbsolute
        case tooLong
        case notAName(String)

        public var description: String {
            switch self {
            case .notAbsolute: "must begin with '/'"
            case .tooLong: "is longer than \(ExportPath.maxBytes) bytes, which MOUNT can't carry"
            case .notAName(let name): "has '\(name)' in it, which is no name"
            }
        }
    }

    /// RFC 1813 §5.1.4: MNTPATHLEN.
    public static let maxBytes = 1024

    public static let root = ExportPath(names: [])

    /// From the root down; none for the root itself.
    let names: [FileName]

    /// - Precondition: none is "." or "..".
    init(names: [FileName]) { self.names = names }

    public init(_ text: String) throws(Refusal) {
        guard text.utf8.first == UInt8(ascii: "/") else { throw .notAbsolute }
        guard text.utf8.count <= Self.maxBytes else { throw .tooLong }
        var names: [FileName] = []
        for component in text.utf8.split(separator: UInt8(ascii: "/")) {
            guard let name = try? FileName(Array(component)), !name.isDot, !name.isDotDot else {
                throw .notAName(String(decoding: component, as: UTF8.self))
            }
            names.append(name)
        }
        self.names = names
    }

    /// As MOUNT shows it (RFC 1813 §5.1.5, dirpath).
    var bytes: [UInt8] {
        names.isEmpty ? [UInt8(ascii: "/")] : names.flatMap { [UInt8(ascii: "/")] + $0.bytes }
    }

    public var description: String { String(decoding: bytes, as: UTF8.self) }
}
