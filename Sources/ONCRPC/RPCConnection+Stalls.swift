// Clients that stop in the middle: of a record that they send, or of replies that they should take. What they hold is
// others' memory, so their connections are closed. A connection without either may stay for ever: it is a mount.

internal import NIOCore

/// What has moved on a connection, and what had when it was last looked at.
struct StallWatch {
    /// Bytes received, and bytes of replies given to the channel, since the beginning.
    var received = 0
    var flushed = 0
    /// At the last look: `received`, if the rest of a record was waited for; bytes of replies that were taken, if
    /// there were more.
    var receivedBefore: Int?
    var takenBefore: Int?
    var nextLook: Scheduled<Void>?

    mutating func stop() {
        nextLook?.cancel()
        nextLook = nil
    }
}

extension RPCConnection {
    /// Looks again after the timeout, as long as something is under way.
    func watchForStalls() {
        guard stallWatch.nextLook == nil, phase != .closed, isWaitingForRecord || load.unsentBytes > 0 else { return }
        noteProgress()
        stallWatch.nextLook = eventLoop.scheduleTask(in: TimeAmount(bounds.stallTimeout)) {
            self.stallWatch.nextLook = nil
            self.look()
        }
    }

    private func look() {
        guard phase != .closed else { return }
        if isWaitingForRecord, stallWatch.receivedBefore == stallWatch.received {
            RPCCounterCells.increment(counters.stalledRecords)
            complain(.stalledRecord)
            close()
        } else if let taken = takenBytes, stallWatch.takenBefore == taken {
            RPCCounterCells.increment(counters.stalledReplies)
            complain(.stalledReplies)
            close()
        } else {
            watchForStalls()
        }
    }

    private func noteProgress() {
        stallWatch.receivedBefore = isWaitingForRecord ? stallWatch.received : nil
        stallWatch.takenBefore = takenBytes
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
