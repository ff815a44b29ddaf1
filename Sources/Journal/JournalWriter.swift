// The journal's thread. All that happens is an event on it: something was appended, a replica has ended a write, a clock
// has ticked. It never waits for a disk, so a disk that hangs is noticed.
//
// One group at a time is under way, the flight; what is appended meanwhile is the next one. A flight first needs a place: in
// the current segment, in a new one on the same replicas, or, when one of them is lost, in a new one of a new generation.
// Then it is written to all replicas, and only when all have synced it the completions are called. A replica that fails is
// dropped, and when the others have ended theirs, the flight looks for another place.
//
// Where all goes well a group needs no thread of its own: who appends writes it on if none is under way, and the replica that
// ends last answers, both in place of the journal's thread while that has nothing to do (`WorkThread.runIfIdle`). Waking it
// twice would take as long as the disk. Whatever else is to be done then is left to the thread: it may call out, and wait.
//
// Invariant: everything but `shared` is touched on the journal's thread only, or in its place. Lock order: `shared` is taken
// alone; nothing is called while it is held.

internal import Model
internal import Platform
internal import Synchronization

final class JournalWriter: @unchecked Sendable {
    typealias Completion = @Sendable (Result<[JournaledBytes], JournalError>) -> Void

    struct Callbacks: Sendable {
        let beginGeneration: @Sendable ([VolumeID], LogNumber) -> JournalGeneration?
        let onPressure: @Sendable () -> Void
        let onFailure: @Sendable (JournalError) -> Void
    }

    enum Item {
        case entry(JournalEntry, Completion)
        case barrier(@Sendable (JournalError?) -> Void)
    }

    /// What other threads see.
    struct Shared {
        var queue: [Item] = []
        var isPumpDue = false
        var isCleaningDue = false
        var isTickDue = false
        var lastAppended: LogNumber
        /// Of payloads that are not durable yet.
        var queuedBytes: UInt64 = 0
        var applied = LogNumber(rawValue: 0)
        var segments: [Segment] = []
        var usage = JournalUsage()
        /// A current replica can't make its next segment.
        var isShortOfSlots = false
        var failure: JournalError?
        var closing: [UnsafeContinuation<Void, Never>] = []
        var isClosing = false
    }

    /// The segment that is written to.
    struct Current {
        let segment: Segment
        let slots: [Slot]
        var position: UInt64
    }

    /// A segment that nobody needs if the entries that had been begun by then are durable: one of them may be why.
    struct Freed {
        let segment: Segment
        let begun: LogNumber
    }

    let storeID: StoreID
    let clock: SystemClock
    let bounds: JournalBounds
    let replicaCount: Int
    let callbacks: Callbacks
    let thread: WorkThread
    let shared: Mutex<Shared>
    /// The last entry that somebody has begun. The store pairs with the loads in `freeSegments` and `oldestLive`: who let go of a
    /// claim, which the claim's lock orders before them, had stored it before.
    let begun: Atomic<UInt64>
    /// In the order of the volumes.
    let directories: [JournalDirectory]
    /// Those of volumes that are no more, with what was recovered from them.
    private let former: [JournalDirectory]

    var generation: JournalGeneration
    var nextSegment: UInt64
    /// Those that are needed, in order; the last one may be the current one.
    var segments: [Segment]
    var current: Current?
    /// Not needed any more, but no durable group says so.
    var freed: [Freed] = []
    var waiting: [Item] = []
    var flight: Flight?
    var lastAttempt = 0
    var buffer: GroupBuffer
    /// Below it a group was durable, and so whoever comes next begins.
    var nextNumber: LogNumber
    var copying = SegmentCopies()
    var isEnded = false
    /// What runs now does so in place of the thread: it must call nobody but completions, and wait for nothing.
    private(set) var isInPlaceOfThread = false

    init(
        _ recovered: RecoveredJournal, _ generation: JournalGeneration, _ volumes: [JournalVolume], replicaCount: Int,
        _ storeID: StoreID, _ fileSystem: FileSystem, _ clock: SystemClock, _ bounds: JournalBounds,
        _ callbacks: Callbacks
    ) throws(JournalRefusal) {
        let state = recovered.state
        guard generation.epoch > state.generation.epoch || state.generation.volumes.isEmpty,
            generation.firstNumber == recovered.lastNumber.next
        else {
            throw JournalRefusal(
                "epoch \(generation.epoch) from entry \(generation.firstNumber) on can't follow what was recovered")
        }
        let ids = volumes.map(\.id)
        guard replicaCount > 0, Set(generation.volumes).count >= replicaCount,
            generation.volumes.allSatisfy(ids.contains)
        else { throw JournalRefusal("the journal needs \(replicaCount) replicas, on volumes that are there") }
        let directories = volumes.map { volume in
            let directory =
                state.directories.first { $0.id == volume.id && $0.path == volume.directory }
                ?? JournalDirectory(volume, fileSystem)
            directory.adopt(volume, clock: clock)
            return directory
        }
        self.directories = directories
        thread = WorkThread(name: "journal")
        former = state.directories.filter { found in !directories.contains { $0 === found } }
        self.generation = generation
        self.replicaCount = replicaCount
        self.storeID = storeID
        self.clock = clock
        self.bounds = bounds
        self.callbacks = callbacks
        segments = state.segments
        nextSegment = state.nextSegment
        nextNumber = generation.firstNumber
        buffer = GroupBuffer(storeID)
        shared = Mutex(Shared(lastAppended: recovered.lastNumber))
        begun = Atomic(recovered.lastNumber.rawValue)
        // Those that leveling has used are a segment's now.
        let live = Set(state.segments.flatMap(\.replicas).map { ObjectIdentifier($0.slot) })
        for slot in state.spareSlots where !live.contains(ObjectIdentifier(slot)) { release(slot) }
    }

    /// To be called once, when nothing else has been.
    func start() {
        for segment in segments { watch(segment) }
        publish()
        thread.submit { [self] in
            for directory in directories where directory.isUsable {
                // What was not finished takes room, no more; a disk that fails here will be noticed when it is needed.
                directory.submit(.prepare) { try? directory.removeUnfinished() }
            }
            prepareSpares()
            if isHalfFull { callbacks.onPressure() }
        }
    }

    // MARK: From other threads

    func append(_ entry: JournalEntry, isLast: Bool, _ completion: @escaping Completion) {
        let bytes = entry.payloads.reduce(0) { $0 + UInt64($1.bytes.count) }
        enqueue(.entry(entry, completion), isLast: isLast) { shared in
            precondition(entry.number == shared.lastAppended.next, "entries are appended in order")
            precondition(entry.payloads.allSatisfy { !$0.bytes.isEmpty })
            shared.lastAppended = entry.number
            shared.queuedBytes += bytes
        }
    }

    func barrier(_ completion: @escaping @Sendable (JournalError?) -> Void) {
        enqueue(.barrier(completion), isLast: true) { _ in }
    }

    private func enqueue(_ item: Item, isLast: Bool, _ note: (inout Shared) -> Void) {
        let (obstacle, isPumpNeeded): (JournalError?, Bool) = shared.withLock { shared in
            if let obstacle = shared.failure ?? (shared.isClosing ? .closed : nil) { return (obstacle, false) }
            note(&shared)
            shared.queue.append(item)
            guard isLast else { return (nil, false) }
            defer { shared.isPumpDue = true }
            return (nil, !shared.isPumpDue)
        }
        if let obstacle {
            // Not here if that can be helped: the caller may hold a lock.
            if !thread.submit({ Self.fail(item, obstacle) }) { Self.fail(item, obstacle) }
        } else if isPumpNeeded, !thread.runIfIdle({ inPlaceOfThread { pumpIfDue() } }) {
            thread.submit { [self] in pumpIfDue() }
        }
    }

    private func pumpIfDue() {
        shared.withLock { $0.isPumpDue = false }
        pump()
    }

    func inPlaceOfThread(_ work: () -> Void) {
        isInPlaceOfThread = true
        work()
        isInPlaceOfThread = false
    }

    /// Before somebody is called who may wait, or call back.
    func mayCallOut() { precondition(!isInPlaceOfThread, "to be left to the thread") }

    static func fail(_ item: Item, _ error: JournalError) {
        switch item {
        case .entry(_, let completion): completion(.failure(error))
        case .barrier(let completion): completion(error)
        }
    }

    func noteApplied(through number: LogNumber) {
        shared.withLock { $0.applied = max($0.applied, number) }
        cleanSoon()
    }

    func noteBegun(through number: LogNumber) { begun.store(number.rawValue, ordering: .releasing) }

    /// Looks soon for what can be freed.
    func cleanSoon() {
        let isFirst = shared.withLock { shared in
            defer { shared.isCleaningDue = true }
            return !shared.isCleaningDue
        }
        guard isFirst else { return }
        thread.submit { [self] in
            shared.withLock { $0.isCleaningDue = false }
            freeSegments()
        }
    }

    var usage: JournalUsage { shared.withLock { $0.usage } }

    func tick() {
        let isFirst = shared.withLock { shared in
            defer { shared.isTickDue = true }
            return !shared.isTickDue
        }
        guard isFirst else { return }
        thread.submit { [self] in
            shared.withLock { $0.isTickDue = false }
            ticked()
        }
    }

    func close() async {
        let isFirst = shared.withLock { shared in
            defer { shared.isClosing = true }
            return !shared.isClosing
        }
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            let isQueued = thread.submit { [self] in
                shared.withLock { $0.closing.append(continuation) }
                pump()
            }
            if !isQueued { continuation.resume() }
        }
        guard isFirst else { return }
        thread.stop()
        copying.stop()
        for directory in directories + former { directory.close() }
    }

    // MARK: The next group

    /// Begins the next flight if there is something to write and none is under way.
    func pump() {
        guard flight == nil, !isEnded else { return endIfClosing() }
        shared.withLock { shared in
            if waiting.isEmpty {
                swap(&waiting, &shared.queue)
            } else {
                waiting += shared.queue
                shared.queue = []
            }
        }
        // Nothing is before these that isn't durable.
        while case .barrier(let completion)? = waiting.first {
            if isInPlaceOfThread { return leaveToThread { $0.pump() } }
            waiting.removeFirst()
            completion(nil)
        }
        guard !waiting.isEmpty else { return endIfClosing() }
        let room = current.map { $0.segment.slotBytes - $0.position } ?? 0
        let count = buffer.fill(
            waiting, first: nextNumber, room: Int(room), segmentBytes: bounds.segmentBytes - SegmentFormat.unit)
        flight = Flight(items: Array(waiting[..<count]))
        waiting.removeFirst(count)
        place()
    }

    func endIfClosing() {
        guard flight == nil, waiting.isEmpty, copying.job == nil else { return }
        let closing: [UnsafeContinuation<Void, Never>] = shared.withLock { shared in
            guard shared.isClosing, shared.queue.isEmpty || isEnded else { return [] }
            defer { shared.closing = [] }
            return shared.closing
        }
        guard !closing.isEmpty else { return }
        isEnded = true
        for segment in segments { segment.whenUnclaimed(nil) }
        for continuation in closing { continuation.resume() }
    }

    /// All of the flight is durable everywhere.
    func flightLanded(_ header: GroupHeader) {
        guard let flight, var current else { preconditionFailure("no flight") }
        current.segment.extend(by: header)
        current.position += UInt64(header.byteCount)
        self.current = current
        nextNumber = header.nextNumber
        self.flight = nil
        var payloadBytes: UInt64 = 0
        var entries: UInt64 = 0
        // Claimed before anything can be freed.
        let claims = buffer.places.map { places in
            places.map { place in
                payloadBytes += UInt64(place.count)
                return current.segment.claim(place, groupAt: header.position) as JournaledBytes
            }
        }
        entries = UInt64(claims.count)
        shared.withLock { shared in
            shared.queuedBytes -= payloadBytes
            shared.usage.appendedBytes += UInt64(header.byteCount)
            shared.usage.groups += 1
            shared.usage.entries += entries
        }
        for slot in flight.abandoned { release(slot) }
        releaseFreed(before: header.oldestLive)
        if flight.beganSegment { publish() }
        var index = 0
        for item in flight.items {
            switch item {
            case .entry(_, let completion):
                completion(.success(claims[index]))
                index += 1
            case .barrier(let completion): completion(nil)
            }
        }
        if flight.beganSegment {
            if isInPlaceOfThread { leaveToThread { $0.segmentBegan() } } else { segmentBegan() }
        }
        pump()
    }

    private func segmentBegan() {
        mayCallOut()
        freeSegments()
        prepareSpares()
        if isHalfFull { callbacks.onPressure() }
    }

    func leaveToThread(_ work: @escaping @Sendable (JournalWriter) -> Void) {
        thread.submit { [self] in work(self) }
    }

    /// Nothing can be made durable any more.
    func fail(_ reason: String) {
        let error = JournalError.failed(reason)
        let queue = shared.withLock { shared in
            shared.failure = error
            shared.queuedBytes = 0
            defer { shared.queue = [] }
            return shared.queue
        }
        mayCallOut()
        callbacks.onFailure(error)
        let items = (flight?.items ?? []) + waiting + queue
        flight = nil
        waiting = []
        isEnded = true
        for item in items { Self.fail(item, error) }
        endIfClosing()
    }
}
