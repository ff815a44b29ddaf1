// The log of a server about its clients.

internal import Logging
internal import NIOCore
internal import Synchronization

/// Logs complaints, as far as ComplaintLimiter admits them. May be used from any thread; logs without its lock.
final class ComplaintLog: Sendable {
    private let logger: Logger
    private let limiter = Mutex(ComplaintLimiter())

    init(_ logger: Logger) { self.logger = logger }

    func log(_ complaint: Complaint, of client: ClientAddress?, _ metadata: @autoclosure () -> Logger.Metadata) {
        let seconds = Int(NIODeadline.now().uptimeNanoseconds / 1_000_000_000)
        guard let suppressed = limiter.withLock({ $0.admit(complaint, of: client, atSeconds: seconds) }) else { return }
        var metadata = metadata()
        if suppressed > 0 { metadata["more like it"] = "\(suppressed)" }
        logger.warning("\(complaint.rawValue)", metadata: metadata)
    }
}
