// Clients that stop in the middle: of a record that they send, or of replies that they should take. What they hold is
// others' memory, so their connections are closed: after a minute, and while somebody waits for what they hold after
// some seconds, or when they hardly move. A connection without either may stay for ever: it is a mount.
//
// Each connection looks after itself, four times per timeout. So of those that have stalled for long when somebody
// begins to wait the first to look is the first to be closed; then who has stalled longest is.

internal import NIOCore
internal import Synchronization

/// How a record or replies have moved on.
struct Progress {
    /// What has moved since the beginning of the connection, and of what; nothing is under way without it.
    struct Position: Equatable {
        var bytes: Int
        var records = 0
    }

    /// The first look since which less than the least has moved.
    private var slow: (since: NIODeadline, at: Position)
    /// The first look since which nothing has.
    private var still: (since: NIODeadline, at: Position)

    init(at position: Position, _ now: NIODeadline) {
        slow = (now, position)
        still = slow
    }

    mutating func look(_ position: Position, minBytes: Int, _ now: NIODeadline) {
        if position != still.at { still = (now, position) }
        if position.records != slow.at.records || position.bytes - slow.at.bytes >= minBytes { slow = (now, position) }
    }

    /// Nothing has moved for as long as would be too long if somebody waited for it.
    func stands(_ bounds: RPCBounds, _ now: NIODeadline) -> Bool {
        now - still.since >= TimeAmount(bounds.contendedStallTimeout)
    }

    /// - Parameter isContended: somebody waits for it.
    func isStalled(_ bounds: RPCBounds, isContended: Bool, _ now: NIODeadline) -> Bool {
        now - still.since >= TimeAmount(bounds.stallTimeout)
            || isContended && now - slow.since >= TimeAmount(bounds.contendedStallTimeout)
    }
}

/// What moves on a connection.
struct StallWatch {
    /// Bytes and records received, and bytes of replies given to the channel, since the beginning.
    var received = 0
    var records = 0
    var flushed = 0
    var record: Progress?
    var replies: Progress?
    var nextLook: Scheduled<Void>?

    mutating func stop() {
        nextLook?.cancel()
        nextLook = nil
    }
}

extension RPCConnection {
    /// Looks again after a while, as long as something is under way.
    func watchForStalls() {
        guard stallWatch.nextLook == nil, phase != .closed else { return }
        guard isWaitingForRecord || load.unsentBytes > 0 else {
            hasStalled.store(false, ordering: .relaxed)
            return
        }
        let interval = min(bounds.stallTimeout, bounds.contendedStallTimeout) / 4
        update(.now())
        stallWatch.nextLook = eventLoop.scheduleTask(in: TimeAmount(interval)) {
            self.stallWatch.nextLook = nil
            self.look()
        }
    }

    private func look() {
        guard phase != .closed else { return }
        let now = NIODeadline.now()
        update(now)
        let isRecordContended = reservedBytes > 0 && recordBudget.isContended
        if stallWatch.record?.isStalled(bounds, isContended: isRecordContended, now) == true {
            RPCCounterCells.increment(counters.stalledRecords)
            complain(.stalledRecord)
            close()
        } else if stallWatch.replies?.isStalled(bounds, isContended: load.budget.isContended, now) == true {
            RPCCounterCells.increment(counters.stalledReplies)
            complain(.stalledReplies)
            close()
        } else {
            watchForStalls()
        }
    }

    /// Also what the registry is told, which is up to a look old.
    private func update(_ now: NIODeadline) {
        let record =
            isWaitingForRecord ? Progress.Position(bytes: stallWatch.received, records: stallWatch.records) : nil
        let replies = takenBytes.map { Progress.Position(bytes: $0) }
        note(record, &stallWatch.record, now)
        note(replies, &stallWatch.replies, now)
        let stands = stallWatch.record?.stands(bounds, now) == true || stallWatch.replies?.stands(bounds, now) == true
        hasStalled.store(stands, ordering: .relaxed)
    }

    private func note(_ position: Progress.Position?, _ progress: inout Progress?, _ now: NIODeadline) {
        guard let position else {
            progress = nil
            return
        }
        if progress == nil { progress = Progress(at: position, now) }
        progress?.look(position, minBytes: bounds.minProgressBytes, now)
    }

    /// The client has to send the rest of a record, and nothing here keeps it from that.
    private var isWaitingForRecord: Bool { phase == .serving && wantsBytes && reader.isInsideRecord }

    /// How many bytes of replies the kernel has taken; nil if it has all.
    private var takenBytes: Int? {
        guard let options = context?.channel.syncOptions,
            let buffered = try? options.getOption(.bufferedWritableBytes), buffered > 0
        else { return nil }
        return stallWatch.flushed - buffered
    }
}
