// The log of a server about its clients, each of which can be wrong as often as it likes.

internal import Logging
internal import NIOCore
internal import Platform
internal import Synchronization

/// Why a client is complained about.
enum Complaint: String, Hashable, Sendable {
    case badRecord = "bad record"
    case badMessage = "not an RPC message"
    case rejected = "call rejected: RPC version or credential"
    case garbageArguments = "arguments that can't be decoded"
    case stalledRecord = "connection closed: a record stopped arriving"
    case stalledReplies = "connection closed: replies are not taken"
    case notAccepted = "connections can't be accepted"
    case refused = "connection refused: too many, all with calls in flight"
}

/// Logs complaints, as far as RepetitionLimiter admits them. May be used from any thread; logs without its lock.
final class ComplaintLog: Sendable {
    private struct Subject: Hashable {
        let client: ClientAddress?
        let complaint: Complaint
    }

    private let logger: Logger
    private let limiter = Mutex(RepetitionLimiter<Subject>())

    init(_ logger: Logger) { self.logger = logger }

    func log(_ complaint: Complaint, of client: ClientAddress?, _ metadata: @autoclosure () -> Logger.Metadata) {
        let seconds = Int(NIODeadline.now().uptimeNanoseconds / 1_000_000_000)
        let subject = Subject(client: client, complaint: complaint)
        guard let suppressed = limiter.withLock({ $0.admit(subject, atSeconds: seconds) }) else { return }
        var metadata = metadata()
        if suppressed > 0 { metadata["more like it"] = "\(suppressed)" }
        logger.warning("\(complaint.rawValue)", metadata: metadata)
    }
}
