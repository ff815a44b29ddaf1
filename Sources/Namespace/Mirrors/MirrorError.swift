// How a mirror fails.

internal import Platform

/// A mirror cannot be used, or one of its rows cannot.
enum MirrorError: Error, CustomStringConvertible {
    /// SQLite gave up, with its extended result code; `cause` is the call on a file that made it, if one did.
    case sqlite(code: Int32, message: String, cause: IOError?)
    /// A row's bytes are not those that were written.
    case damagedRow(String)
    /// SQLite reads well but holds something else than a mirror.
    case notAMirror(String)

    var description: String {
        switch self {
        case .sqlite(let code, let message, let cause):
            "SQLite: \(message) (\(code))" + (cause.map { ": \($0)" } ?? "")
        case .damagedRow(let row): "damaged \(row)"
        case .notAMirror(let reason): reason
        }
    }
}
