/// Why bytes are not the XDR that was expected (RFC 4506).
public enum XDRError: Error, Hashable, Sendable {
    /// The bytes end inside a field.
    case truncated
    /// A variable-length field announces more than its type allows.
    case tooLong
    /// A value that its type doesn't have: a bool or enum (RFC 4506 §4.3, §4.4), or one that a body checks.
    case invalidValue
}
