// How a command ends that cannot do what it was asked: one line, and an exit code of sysexits.h.

import EmbeddedFileService
import Glibc

/// One clear line for a person, and the exit code for a script.
struct Refusal: Error {
    /// The codes of sysexits.h that are used here.
    enum Code: Int32 {
        /// The command line is wrong.
        case usage = 64
        /// The store is not what it should be: damaged, foreign, incomplete, of another version.
        case store = 65
        /// The address can't be listened on.
        case unavailable = 69
        /// Something failed that should not: an I/O error.
        case inputOutput = 74
        /// Another process serves the store.
        case inUse = 75
        /// The configuration, or what it names, can't be used.
        case configuration = 78
    }

    let code: Code
    let message: String

    /// - Parameter message: may quote what others wrote; it stays a line, and does nothing to a terminal.
    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message.unicodeScalars.reduce(into: "") { line, scalar in
            switch scalar.properties.generalCategory {
            case .control, .lineSeparator, .paragraphSeparator: line += "\\u{\(String(scalar.value, radix: 16))}"
            default: line.unicodeScalars.append(scalar)
            }
        }
    }

    init(_ refusal: StoreRefusal) {
        switch refusal.reason {
        case .cannotRead, .notFormatted, .foreign, .incomplete, .stale, .damaged:
            self.init(.store, refusal.description)
        case .alreadyFormatted, .unusableVolumes: self.init(.usage, refusal.description)
        case .otherVersion, .notWritable: self.init(.configuration, refusal.description)
        case .inUse: self.init(.inUse, refusal.description)
        }
    }

    func exit() -> Never {
        let line = Array("sluice: \(message)\n".utf8)
        _ = write(STDERR_FILENO, line, line.count)
        Glibc.exit(code.rawValue)
    }
}
