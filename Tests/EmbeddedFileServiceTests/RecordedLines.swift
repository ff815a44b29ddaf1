// A log in memory, for tests of what an operator is told.

import Logging
import Synchronization

/// A log in memory: each line is the message, then the metadata.
final class RecordedLines: LogHandler {
    private let recorded: Mutex<[String]> = Mutex([])
    var lines: [String] { recorded.withLock { $0 } }

    /// A logger that writes here.
    var logger: Logger { Logger(label: "test", factory: { _ in self }) }

    /// How many lines begin so.
    func count(_ beginning: String) -> Int { lines.count { $0.hasPrefix(beginning) } }

    func log(event: LogEvent) {
        let metadata = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }
        recorded.withLock { $0.append("\(event.message)" + metadata.joined()) }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }
    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    var logLevel: Logger.Level {
        get { .info }
        set {}
    }
}
