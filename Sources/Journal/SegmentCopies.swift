// Copies of older segments for volumes that lack them, after a replica was lost: one at a time, one for each tick, on a
// thread of its own. See JournalWriter.swift.

internal import Glibc
internal import Model
internal import Platform
internal import Synchronization

/// Touched on the journal's thread only.
struct SegmentCopies {
    struct Job {
        let number: Int
        let segment: Segment
        let target: JournalDirectory
        let since: Duration
    }

    var job: Job?
    private var lastNumber = 0
    private var thread: WorkThread?
    /// Segments of which no replica gives everything.
    var unreadable: Set<UInt64> = []
    /// Volumes that had no room or hung, and until when they get no copies.
    var avoided: [VolumeID: Duration] = [:]

    static let rest = Duration.seconds(60)

    mutating func begin(_ segment: Segment, _ target: JournalDirectory, at now: Duration) -> Job {
        lastNumber += 1
        let job = Job(number: lastNumber, segment: segment, target: target, since: now)
        self.job = job
        return job
    }

    mutating func submit(_ work: @escaping @Sendable () -> Void) {
        let thread = thread ?? WorkThread(name: "journal copy")
        self.thread = thread
        thread.submit(work)
    }

    /// The thread hangs with a disk: the next copy gets another one.
    mutating func abandon(at now: Duration) {
        guard let job else { return }
        avoided[job.target.id] = now + Self.rest
        self.job = nil
        thread = nil
    }

    mutating func stop() {
        thread?.stop()
        thread = nil
    }
}

extension JournalWriter {
    enum CopyResult {
        case copied
        case unreadable
        case failed(IOError)
    }

    /// Gives up a copy that a disk holds up: who closes the journal waits for it.
    func giveUpHangingCopy() {
        let now = clock.elapsed()
        // A copy is thousands of writes to a cache, and a sync.
        guard let job = copying.job, now - job.since > bounds.patience * 3 else { return }
        copying.abandon(at: now)
        if isEnded { endIfClosing() } else { pump() }
    }

    /// Begins a copy if there is one to be made.
    func copyWhatIsShort() {
        let now = clock.elapsed()
        guard copying.job == nil else { return }
        guard !shared.withLock({ $0.isClosing }) else { return }
        copying.avoided = copying.avoided.filter { $0.value > now }
        for segment in segments
        where segment !== current?.segment && isShortOfReplicas(segment) && !copying.unreadable.contains(segment.number)
        {
            let target = IntentJournal.chooseReplicas(
                directories.map(\.volume), preferred: generation.volumes,
                avoided: segment.volumes + directories.filter(\.isDropped).map(\.id) + Array(copying.avoided.keys),
                count: 1
            ).first.flatMap(directory)
            guard let target else { continue }
            let job = copying.begin(segment, target, at: now)
            target.obtainSlot(bytes: segment.slotBytes, leaving: bounds.minFreeBytes) { [self] result in
                thread.submit { [self] in copy(job, to: result) }
            }
            return
        }
    }

    private func copy(_ job: SegmentCopies.Job, to result: Result<Slot, IOError>) {
        switch result {
        case .failure(let error): copied(job, nil, .failed(error))
        case .success(let slot):
            guard copying.job?.number == job.number, !isEnded else { return copied(job, slot, .unreadable) }
            copying.submit { [self] in
                let result: CopyResult
                do throws(IOError) {
                    result = try SegmentWriting.complete(slot, from: job.segment) ? .copied : .unreadable
                } catch {
                    result = .failed(error)
                }
                thread.submit { [self] in copied(job, slot, result) }
            }
        }
    }

    private func copied(_ job: SegmentCopies.Job, _ slot: Slot?, _ result: CopyResult) {
        guard copying.job?.number == job.number else {
            // Given up as hanging, but it has come to an end.
            if let slot { release(slot) }
            return
        }
        copying.job = nil
        let isLive = segments.contains { $0 === job.segment }
        switch result {
        case .copied where isLive && slot != nil:
            if let slot { job.segment.add(slot) }
        case .copied: if let slot { release(slot) }
        case .unreadable:
            // Also when it was freed meanwhile, and its slots are used again.
            if isLive { copying.unreadable.insert(job.segment.number) }
            if let slot { release(slot) }
        case .failed(let error):
            if error.isOutOfSpace || error.isShortage {
                copying.avoided[job.target.id] = clock.elapsed() + SegmentCopies.rest
                if let slot { release(slot) }
            } else {
                drop(job.target, error)
            }
        }
        publish()
        pump()
    }
}
