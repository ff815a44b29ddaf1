// Keeps clients from filling the log: a complaint is logged once per client and reason, and again at most each minute
// with the number of those that were not. Who has many addresses is bounded too, by lines per minute in all.
//
// Invariant: `seen` has at most `maxSeen` entries. When it is full and nothing in it is older than a minute, complaints
// about others are counted only.

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

/// What is logged and what only counted. Not synchronised.
struct ComplaintLimiter {
    private struct Subject: Hashable {
        let client: ClientAddress?
        let complaint: Complaint
    }

    private struct Record {
        var loggedAtSeconds: Int
        var suppressed = 0
    }

    static let intervalSeconds = 60
    static let maxSeen = 1024
    static let maxLinesPerInterval = 100

    private var seen: [Subject: Record] = [:]
    private var intervalStartSeconds = Int.min / 2
    private var lines = 0

    /// How many like it were not logged, if this one is to be logged; otherwise nil.
    mutating func admit(_ complaint: Complaint, of client: ClientAddress?, atSeconds now: Int) -> Int? {
        if now - intervalStartSeconds >= Self.intervalSeconds {
            intervalStartSeconds = now
            lines = 0
        }
        let subject = Subject(client: client, complaint: complaint)
        if let record = seen[subject] {
            guard now - record.loggedAtSeconds >= Self.intervalSeconds, lines < Self.maxLinesPerInterval else {
                seen[subject]!.suppressed += 1
                return nil
            }
            lines += 1
            seen[subject] = Record(loggedAtSeconds: now)
            return record.suppressed
        }
        guard lines < Self.maxLinesPerInterval else { return nil }
        if seen.count >= Self.maxSeen {
            seen = seen.filter { now - $0.value.loggedAtSeconds < Self.intervalSeconds }
            guard seen.count < Self.maxSeen else { return nil }
        }
        lines += 1
        seen[subject] = Record(loggedAtSeconds: now)
        return 0
    }
}
