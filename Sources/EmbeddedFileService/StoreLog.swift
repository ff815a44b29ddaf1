// The store's log of what goes wrong as often as clients call: each READ of a lost group, each WRITE to a full store. A
// line is written once a minute for its file or volume, with the number of those that were not.
//
// Each kind has bounds of its own, so that many failed reads don't drown the one line about bytes that were lost.
//
// Lock order: `limiters` is a leaf; nothing is logged with it held.

internal import Logging
internal import Model
internal import Platform
internal import Synchronization

/// Why a line is logged; its text is how it begins.
enum StoreComplaint: String, Hashable, Sendable {
    case failedRead = "a read failed"
    case unreadableForNow = "a block could not be read for now"
    case tooFewTargets = "a write failed"
    case rewrittenGroup = "a block group is written anew"
    case lostBytes = "acknowledged unstable bytes were lost, the write verifier has changed"
    case unknownAttributes = "a file's attributes cannot be read"
    case keptDeadBlock = "a dead block was not removed"
    case stuckStore = "the disks take nothing, so writers are told to come again later"
    case failedDump = "pending bytes cannot be dumped and are drained out of order"
    case unreadableDump = "dumped bytes cannot be read back"
    case keptDumpFile = "a dump file was not removed"
    case unsealedGroup = "a block group could not be sealed"
    case unsettledJournal = "files in the journal could not be opened to be settled"
}

/// Logs complaints, as far as RepetitionLimiter admits them. May be used from any thread.
final class StoreLog: Sendable {
    /// What a line is about.
    enum Subject: Hashable, Sendable {
        case file(FileID)
        case blockGroup(BlockGroupID)
        case volume(VolumeID)
        case store

        fileprivate var metadata: Logger.Metadata {
            switch self {
            case .file(let file): ["file": "\(file.rawValue)"]
            case .blockGroup(let group): ["group": "\(group)"]
            case .volume(let volume): ["volume": "\(volume)"]
            case .store: [:]
            }
        }
    }

    private let logger: Logger
    private let clock: SystemClock
    private let limiters = Mutex<[StoreComplaint: RepetitionLimiter<Subject>]>([:])

    init(_ logger: Logger, clock: SystemClock) {
        self.logger = logger
        self.clock = clock
    }

    func error(_ complaint: StoreComplaint, of subject: Subject, _ reason: @autoclosure () -> String) {
        log(.error, complaint, subject, reason)
    }

    func warning(_ complaint: StoreComplaint, of subject: Subject, _ reason: @autoclosure () -> String) {
        log(.warning, complaint, subject, reason)
    }

    private func log(_ level: Logger.Level, _ complaint: StoreComplaint, _ subject: Subject, _ reason: () -> String) {
        let seconds = Int(clock.elapsed().components.seconds)
        let suppressed = limiters.withLock {
            $0[complaint, default: RepetitionLimiter()].admit(subject, atSeconds: seconds)
        }
        guard let suppressed else { return }
        var metadata = subject.metadata
        if suppressed > 0 { metadata["more like it"] = "\(suppressed)" }
        logger.log(level: level, "\(complaint.rawValue): \(reason())", metadata: metadata)
    }
}
