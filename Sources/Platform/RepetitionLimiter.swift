// Keeps what others cause, clients and failing disks, from filling the log: a line is written once for its subject, and
// again at most each minute with the number of those that were not. Who has many subjects is bounded too, by lines per
// minute in all.
//
// Invariant: `seen` has at most `maxSeen` entries. When it is full and nothing in it is older than a minute, lines about
// others are dropped.

/// Which lines are logged and which only counted. Not synchronised.
public struct RepetitionLimiter<Subject: Hashable & Sendable>: Sendable {
    private struct Record {
        var loggedAtSeconds: Int
        var suppressed = 0
    }

    static var intervalSeconds: Int { 60 }
    static var maxSeen: Int { 1024 }
    public static var maxLinesPerInterval: Int { 100 }

    private var seen: [Subject: Record] = [:]
    private var intervalStartSeconds = Int.min / 2
    private var lines = 0

    public init() {}

    /// How many like it were not logged, if this one is to be logged; otherwise nil.
    /// - Parameter now: seconds of a clock that doesn't go back.
    public mutating func admit(_ subject: Subject, atSeconds now: Int) -> Int? {
        if now - intervalStartSeconds >= Self.intervalSeconds {
            intervalStartSeconds = now
            lines = 0
        }
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
