internal import Glibc

/// A system call on a file failed.
public struct IOError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The `errno` of the call.
    public let code: Int32
    /// What was tried: "open", "pwrite", …
    public let operation: String
    public let path: String

    public init(code: Int32, operation: String, path: String) {
        self.code = code
        self.operation = operation
        self.path = path
    }

    public var isNotFound: Bool { code == ENOENT }
    public var isAlreadyThere: Bool { code == EEXIST }
    public var isOutOfSpace: Bool { code == ENOSPC || code == EDQUOT }
    /// This process or machine lacks descriptors or memory: says nothing about the file or its disk.
    public var isShortage: Bool { code == EMFILE || code == ENFILE || code == ENOMEM }

    /// No descriptor was left: the call has done nothing, and may be made again.
    public var isDescriptorShortage: Bool { code == EMFILE || code == ENFILE }

    public var description: String { "\(operation) \(path): \(String(cString: strerror(code)))" }
}
