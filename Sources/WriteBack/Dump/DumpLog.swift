// Where pending bytes wait that memory has no room for (HDFS: the dumper's files): segments, written from one end to the
// other by one thread, shared by all files that are open. It promises nothing: nothing is synced, and a start removes
// what is left. What it frees is memory.
//
// A segment is removed when nothing in it is needed any more. Segments are few, so the files that are open for them are,
// whatever the number of files that are written.
//
// It leaves room for others: it takes no new segment on a file system that is nearly full, since the dump is only a cache,
// and real data may be beside it. There may be several places for segments, on disks of their own: a new one goes to a
// place that has failed least, and of those to the one with the most room. After a failure a place rests for a while.
//
// Invariant: `current`, its end and `buffer` are touched by the writing thread only. Lock order: `state` is taken alone.

internal import ErasureCoding
public import Platform
internal import Synchronization

/// The dump files of a store. Thread-safe. `close` must be called before the last reference goes.
public final class DumpLog: @unchecked Sendable {
    public struct Bounds: Sendable {
        /// Of all segments together; beyond it nothing can be dumped until some are removed.
        public var maxBytes: UInt64 = 4 << 30
        /// Large enough to be written in one go, small enough that one old byte doesn't hold much space.
        public var segmentBytes: UInt64 = 64 << 20
        /// What a new segment leaves free on its file system: well above the 64 MiB that a volume must have for a new block.
        public var minFreeBytes: UInt64 = 1 << 30
        /// How long nothing is dumped to a place after a failure. What has no other place meanwhile is drained.
        public var rest = Duration.seconds(10)
        /// Dumping 16 MiB takes some 10 ms; a disk that takes longer than this hangs.
        public var patience = Duration.seconds(5)

        public init() {}
    }

    /// A directory for segments.
    public struct Place: Sendable {
        let directory: String
        /// Whether the disk is one that may be written to.
        let isUsable: @Sendable () -> Bool

        /// - Parameter directory: this store's alone, and prepared.
        public init(_ directory: String, isUsable: @escaping @Sendable () -> Bool = { true }) {
            self.directory = directory
            self.isUsable = isUsable
        }
    }

    public struct Usage: Hashable, Sendable {
        public var segments = 0
        /// Of the files, live or not.
        public var bytes: UInt64 = 0
        /// Since the start.
        public var dumpedBytes: UInt64 = 0
        /// How often what should have been dumped was not.
        public var failures: UInt64 = 0
        /// How often something could not be read back.
        public var failedReads: UInt64 = 0
    }

    private struct State {
        struct Place {
            var failures = 0
            var restsUntil = Duration.zero
            /// It has not given back what it took: it gets nothing more.
            var isBad = false

            func mayBeUsed(at now: Duration) -> Bool { !isBad && restsUntil <= now }
        }
        var usage = Usage()
        /// As `DumpLog.places`.
        var places: [Place]
        /// All of them.
        var restsUntil = Duration.zero
        var lastFailure: DumpFailure?
        /// Appends that are under way, also those that nobody waits for any more, and since when none has ended.
        var appends = 0
        var lastProgress = Duration.zero
        /// Who waits for an append, by number.
        var waiting: [Int: UnsafeContinuation<[DumpPlace]?, Never>] = [:]
        var lastNumber = 0
    }

    /// Why nothing was dumped.
    private struct Refusal: Error {
        let failure: DumpFailure
        /// Whose fault it is; nil: not that of one place.
        var place: Int?

        init(_ failure: DumpFailure) { self.failure = failure }

        init(_ error: IOError, at place: Int) {
            failure = .inputOutput(error)
            // A lack of descriptors says nothing about the place.
            self.place = error.isShortage ? nil : place
        }
    }

    private let places: [Place]
    private let fileSystem: FileSystem
    private let clock: SystemClock
    private let bounds: Bounds
    /// Called on the writing or the reading thread. Must not block.
    private let onFailure: @Sendable (DumpFailure) -> Void
    private let writer: WorkThread
    /// Readers don't wait for what is being dumped.
    private let reader: WorkThread
    private let state: Mutex<State>
    private var current: DumpSegment?
    private var nextNumber = 1
    /// What is written at once: small payloads are gathered here.
    private let buffer: AlignedBuffer

    /// - Parameter places: in order of preference where there is as much room.
    public init(
        places: [Place], fileSystem: FileSystem, clock: SystemClock, bounds: Bounds = Bounds(),
        onFailure: @escaping @Sendable (DumpFailure) -> Void
    ) {
        precondition(!places.isEmpty)
        self.places = places
        self.fileSystem = fileSystem
        self.clock = clock
        self.bounds = bounds
        self.onFailure = onFailure
        state = Mutex(State(places: places.map { _ in State.Place() }))
        writer = WorkThread(name: "dump")
        reader = WorkThread(name: "dump read")
        buffer = AlignedBuffer(count: 1 << 20)
    }

    /// Makes the directory if it is missing, and removes what an earlier run left in it.
    public static func prepare(_ directory: String, _ fileSystem: FileSystem) throws(IOError) {
        if try fileSystem.status(directory) == nil { try fileSystem.createDirectory(directory) }
        try clean(directory, fileSystem)
    }

    /// Removes what an earlier run left in the directory, if it is there; nothing that isn't named as segments are.
    public static func clean(_ directory: String, _ fileSystem: FileSystem) throws(IOError) {
        guard try fileSystem.status(directory) != nil else { return }
        for name in try fileSystem.list(directory) where isSegment(name) {
            try fileSystem.remove(directory + "/" + name)
        }
    }

    private static let suffix = ".dump"

    private static func isSegment(_ name: String) -> Bool {
        let number = name.utf8.dropLast(suffix.utf8.count)
        return name.hasSuffix(suffix) && !number.isEmpty
            && number.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    public var usage: Usage { state.withLock { $0.usage } }

    /// Whether it is worth trying to dump something now.
    var isReady: Bool { obstacle == nil }

    /// Whether nothing can be dumped now, for another reason than that the disk hangs: then what is in it can be read.
    var isOutOfUse: Bool {
        switch obstacle {
        case nil, .hangs: false
        default: true
        }
    }

    /// Why nothing can be dumped now, as far as is known without trying.
    public var obstacle: DumpFailure? {
        let now = clock.elapsed()
        let (hanging, awake, lastFailure) = state.withLock { state in
            let hanging = state.appends > 0 ? now - state.lastProgress : .zero
            return (
                hanging, state.restsUntil <= now ? state.places.map { $0.mayBeUsed(at: now) } : [], state.lastFailure
            )
        }
        if hanging > bounds.patience { return .hangs(hanging) }
        for (place, isAwake) in zip(places, awake) where isAwake && place.isUsable() { return nil }
        return places.contains { $0.isUsable() } ? lastFailure : .noPlace
    }

    /// Waits for what is under way, and removes all segments. Whoever comes later is told that nothing can be dumped or
    /// read.
    public func close() async {
        let isFirst: Void? = await writer.runUnlessStopped { [self] in endSegment() }
        guard isFirst != nil else { return }
        writer.stop()
        reader.stop()
        // What can't be removed is by the next start.
        for place in places { try? Self.clean(place.directory, fileSystem) }
    }

    /// Returns when what was under way, removals as well, is done.
    func settled() async { _ = await writer.runUnlessStopped {} }

    // MARK: Writing

    /// Dumps the payloads; nil if that is not possible now, for lack of space or because the disk fails or hangs.
    func append(_ payloads: [Payload]) async -> [DumpPlace]? {
        let start = clock.elapsed()
        return await withUnsafeContinuation { continuation in
            let number = state.withLock { state in
                if state.appends == 0 { state.lastProgress = start }
                state.appends += 1
                state.lastNumber += 1
                state.waiting[state.lastNumber] = continuation
                return state.lastNumber
            }
            let isQueued = writer.submit { [self] in
                // If nobody waits any more, there is nothing to do.
                let isWaitedFor = state.withLock { $0.waiting[number] != nil }
                end(number, isWaitedFor ? writeOrRest(payloads) : nil)
            }
            if !isQueued { end(number, nil) }
        }
    }

    /// Ends an append. If it was given up, the places go with this, and their segment when it is the last.
    private func end(_ number: Int, _ places: [DumpPlace]?) {
        let now = clock.elapsed()
        let continuation = state.withLock { state in
            state.lastProgress = now
            state.appends -= 1
            return state.waiting.removeValue(forKey: number)
        }
        continuation?.resume(returning: places)
    }

    /// If the disk hangs, whoever waits for an append is told that it isn't possible. To be called about once a second.
    public func giveUpHanging() {
        guard case .hangs? = obstacle else { return }
        let given = state.withLock { state in
            defer { state.waiting = [:] }
            state.usage.failures += UInt64(state.waiting.count)
            return Array(state.waiting.values)
        }
        for continuation in given { continuation.resume(returning: nil) }
    }

    private func writeOrRest(_ payloads: [Payload]) -> [DumpPlace]? {
        do throws(Refusal) {
            return try write(payloads)
        } catch {
            // What is in the segment stays, nothing more comes to it.
            endSegment()
            state.withLock { $0.usage.failures += 1 }
            rest(error.place, after: error.failure)
            return nil
        }
    }

    /// Lets a place, or all of them, rest.
    private func rest(_ place: Int?, after failure: DumpFailure) {
        let until = clock.elapsed() + bounds.rest
        state.withLock { state in
            if let place {
                state.places[place].failures += 1
                state.places[place].restsUntil = until
            } else {
                state.restsUntil = until
            }
            state.lastFailure = failure
        }
        onFailure(failure)
    }

    private func endSegment() {
        current?.end()
        current = nil
    }

    private func write(_ payloads: [Payload]) throws(Refusal) -> [DumpPlace] {
        var dumped: [DumpPlace] = []
        /// Bytes in `buffer`, which belong at the end of the segment.
        var gathered = 0
        func flush(_ segment: DumpSegment) throws(Refusal) {
            guard gathered > 0 else { return }
            do throws(IOError) {
                try segment.file.write(
                    UnsafeRawBufferPointer(rebasing: buffer.bytes[..<gathered]), at: segment.length - UInt64(gathered))
            } catch {
                throw Refusal(error, at: segment.place)
            }
            gathered = 0
        }
        if let current, !mayUse(current.place) { endSegment() }
        for payload in payloads {
            guard usage.bytes + UInt64(payload.count) <= bounds.maxBytes else {
                throw Refusal(.full(bytes: bounds.maxBytes))
            }
            if let current, current.length + UInt64(payload.count) > bounds.segmentBytes {
                try flush(current)
                endSegment()
            }
            let segment: DumpSegment
            if let current { segment = current } else { segment = try newSegment() }
            let offset = segment.length
            var checksum = CRC32C()
            var done = 0
            while done < payload.count {
                if gathered == buffer.bytes.count { try flush(segment) }
                let count = min(payload.count - done, buffer.bytes.count - gathered)
                let part = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[gathered..<gathered + count])
                payload.slice(done..<done + count).copy(to: part)
                checksum.update(UnsafeRawBufferPointer(part))
                gathered += count
                done += count
                segment.length += UInt64(count)
                state.withLock { $0.usage.bytes += UInt64(count) }
            }
            dumped.append(
                DumpPlace(segment, offset: offset, count: payload.count, checksum: checksum.value, reader: reader))
        }
        if let current { try flush(current) }
        state.withLock { $0.usage.dumpedBytes += payloads.reduce(0) { $0 + UInt64($1.count) } }
        return dumped
    }

    private func mayUse(_ place: Int) -> Bool {
        let now = clock.elapsed()
        return state.withLock { $0.places[place].mayBeUsed(at: now) } && places[place].isUsable()
    }

    private func newSegment() throws(Refusal) -> DumpSegment {
        let place = try bestPlace()
        let path = places[place].directory + "/\(nextNumber)\(Self.suffix)"
        nextNumber += 1
        let file: File
        do throws(IOError) {
            file = try fileSystem.open(path, .createNew)
        } catch {
            throw Refusal(error, at: place)
        }
        // Not the log itself: it is closed before the last place goes.
        let segment = DumpSegment(file, place: place) { [weak self] segment, cause in
            self?.note(cause, in: segment)
        } onDeath: { [writer, weak self] segment in
            writer.submit { [weak self] in self?.remove(segment) }
        }
        state.withLock { $0.usage.segments += 1 }
        current = segment
        return segment
    }

    /// Where a new segment goes.
    private func bestPlace() throws(Refusal) -> Int {
        var best: (place: Int, failures: Int, room: UInt64)?
        var problem: DumpFailure?
        for (index, place) in places.enumerated() where mayUse(index) {
            let room: UInt64
            do throws(IOError) {
                room = try fileSystem.space(place.directory).availableBytes
            } catch {
                // Like one that can't be written to.
                let refusal = Refusal(error, at: index)
                if refusal.place != nil { rest(index, after: refusal.failure) }
                problem = refusal.failure
                continue
            }
            guard room >= bounds.minFreeBytes + bounds.segmentBytes else {
                problem = .noRoom(directory: place.directory)
                continue
            }
            let failures = state.withLock { $0.places[index].failures }
            if let best, (failures, best.room) >= (best.failures, room) { continue }
            best = (index, failures, room)
        }
        if let best { return best.place }
        // Another's append has failed since this one was begun.
        throw Refusal(problem ?? obstacle ?? .noPlace)
    }

    /// Something in the segment could not be read back. On the reading thread.
    private func note(_ cause: String, in segment: DumpSegment) {
        state.withLock { $0.usage.failedReads += 1 }
        // What is dumped from now on goes elsewhere; what is lost there would only come again, to be lost again.
        state.withLock { $0.places[segment.place].isBad = true }
        rest(segment.place, after: .notRead(cause))
    }

    /// A segment in which nothing lives any more. On the writing thread, which is the one that could put something in.
    private func remove(_ segment: DumpSegment) {
        guard segment.takeForRemoval() else { return }
        if current === segment { current = nil }
        do throws(IOError) {
            // Its bytes go with the name, whoever still has it open.
            try fileSystem.remove(segment.file.path)
        } catch {
            // The next start does it.
            onFailure(.notRemoved(error))
        }
        segment.file.close()
        state.withLock { state in
            state.usage.segments -= 1
            state.usage.bytes -= segment.length
        }
    }
}
