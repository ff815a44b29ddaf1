// Where pending bytes wait that memory has no room for (HDFS: the dumper's files): segments, written from one end to the
// other by one thread, shared by all files that are open. It promises nothing: nothing is synced, and a start removes
// what is left. What it frees is memory.
//
// A segment is removed when nothing in it is needed any more. Segments are few, so the files that are open for them are,
// whatever the number of files that are written.
//
// It leaves room for others: it takes no new segment on a file system that is nearly full, since the dump is only a cache,
// and real data may be beside it. After a failure it rests for a while.
//
// Invariant: `current`, its end and `buffer` are touched by the writing thread only. Lock order: `state` is taken alone.

internal import ErasureCoding
internal import Glibc
public import Platform
internal import Synchronization

/// The dump files of a store, in a directory of its own. Thread-safe. `close` must be called before the last reference goes.
public final class DumpLog: @unchecked Sendable {
    public struct Bounds: Sendable {
        /// Of all segments together; beyond it nothing can be dumped until some are removed.
        public var maxBytes: UInt64 = 4 << 30
        /// Large enough to be written in one go, small enough that one old byte doesn't hold much space.
        public var segmentBytes: UInt64 = 64 << 20
        /// What a new segment leaves free on its file system: well above the 64 MiB that a volume must have for a new block.
        public var minFreeBytes: UInt64 = 1 << 30
        /// How long nothing is dumped after a failure. Meanwhile what memory has no room for is drained.
        public var rest = Duration.seconds(10)

        public init() {}
    }

    public struct Usage: Hashable, Sendable {
        public var segments = 0
        /// Of the files, live or not.
        public var bytes: UInt64 = 0
        /// Since the start.
        public var dumpedBytes: UInt64 = 0
        public var failures: UInt64 = 0
    }

    private struct State {
        var usage = Usage()
        var restsUntil = Duration.zero
    }

    private let directory: String
    private let fileSystem: FileSystem
    private let clock: SystemClock
    private let bounds: Bounds
    /// Whether the disk is one that may be written to.
    private let isUsable: @Sendable () -> Bool
    /// Called on the writing thread when something could not be dumped.
    private let onFailure: @Sendable (IOError) -> Void
    private let writer: WorkThread
    /// Readers don't wait for what is being dumped.
    private let reader: WorkThread
    private let state = Mutex(State())
    private var current: DumpSegment?
    private var nextNumber = 1
    /// What is written at once: small payloads are gathered here.
    private let buffer: AlignedBuffer

    /// Makes the directory if it is missing, and removes what an earlier run left in it.
    /// - Parameter directory: this store's alone.
    public init(
        directory: String, fileSystem: FileSystem, clock: SystemClock, bounds: Bounds = Bounds(),
        isUsable: @escaping @Sendable () -> Bool = { true }, onFailure: @escaping @Sendable (IOError) -> Void
    ) throws(IOError) {
        if try fileSystem.status(directory) == nil { try fileSystem.createDirectory(directory) }
        try Self.clean(directory, fileSystem)
        self.directory = directory
        self.fileSystem = fileSystem
        self.clock = clock
        self.bounds = bounds
        self.isUsable = isUsable
        self.onFailure = onFailure
        writer = WorkThread(name: "dump")
        reader = WorkThread(name: "dump read")
        buffer = AlignedBuffer(count: 1 << 20)
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
    var isReady: Bool {
        let now = clock.elapsed()
        return isUsable() && state.withLock { $0.restsUntil <= now }
    }

    /// Waits for what is under way, and removes all segments. Whoever comes later is told that nothing can be dumped or
    /// read.
    public func close() async {
        let isFirst: Void? = await writer.runUnlessStopped { [self] in
            current?.end()
            current = nil
        }
        guard isFirst != nil else { return }
        writer.stop()
        reader.stop()
        // What can't be removed is by the next start.
        try? Self.clean(directory, fileSystem)
    }

    /// Returns when what was under way, removals as well, is done.
    func settled() async { _ = await writer.runUnlessStopped {} }

    // MARK: Writing

    /// Dumps the payloads; nil if that is not possible now, for lack of space or because the disk fails.
    func append(_ payloads: [Payload]) async -> [DumpPlace]? {
        await writer.runUnlessStopped { [self] () -> [DumpPlace]? in
            do throws(IOError) {
                return try write(payloads)
            } catch {
                // What is in the segment stays, nothing more comes to it.
                current?.end()
                current = nil
                let now = clock.elapsed()
                state.withLock { state in
                    state.usage.failures += 1
                    state.restsUntil = now + bounds.rest
                }
                onFailure(error)
                return nil
            }
        } ?? nil
    }

    private func write(_ payloads: [Payload]) throws(IOError) -> [DumpPlace] {
        var places: [DumpPlace] = []
        /// Bytes in `buffer`, which belong at the end of the segment.
        var gathered = 0
        func flush(_ segment: DumpSegment) throws(IOError) {
            guard gathered > 0 else { return }
            try segment.file.write(
                UnsafeRawBufferPointer(rebasing: buffer.bytes[..<gathered]), at: segment.length - UInt64(gathered))
            gathered = 0
        }
        for payload in payloads {
            if let current, current.length + UInt64(payload.count) > bounds.segmentBytes { try flush(current) }
            let segment = try segment(for: payload.count)
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
            places.append(
                DumpPlace(segment, offset: offset, count: payload.count, checksum: checksum.value, reader: reader))
        }
        if let current { try flush(current) }
        state.withLock { $0.usage.dumpedBytes += payloads.reduce(0) { $0 + UInt64($1.count) } }
        return places
    }

    /// The segment that takes so many bytes.
    private func segment(for count: Int) throws(IOError) -> DumpSegment {
        guard state.withLock({ $0.usage.bytes }) + UInt64(count) <= bounds.maxBytes else {
            throw IOError(code: ENOSPC, operation: "dump", path: directory)
        }
        if let current, current.length + UInt64(count) <= bounds.segmentBytes { return current }
        current?.end()
        current = nil
        guard try fileSystem.space(directory).availableBytes >= bounds.minFreeBytes + bounds.segmentBytes else {
            throw IOError(code: ENOSPC, operation: "dump", path: directory)
        }
        let path = directory + "/\(nextNumber)\(Self.suffix)"
        nextNumber += 1
        // Not the log itself: it is closed before the last place goes.
        let segment = DumpSegment(try fileSystem.open(path, .createNew)) { [writer, weak self] segment in
            writer.submit { [weak self] in self?.remove(segment) }
        }
        state.withLock { $0.usage.segments += 1 }
        current = segment
        return segment
    }

    /// A segment in which nothing lives any more. On the writing thread, which is the one that could put something in.
    private func remove(_ segment: DumpSegment) {
        guard segment.takeForRemoval() else { return }
        if current === segment { current = nil }
        do throws(IOError) {
            // Its bytes go with the name, whoever still has it open.
            try fileSystem.remove(segment.file.path)
        } catch {
            onFailure(error)
        }
        segment.file.close()
        state.withLock { state in
            state.usage.segments -= 1
            state.usage.bytes -= segment.length
        }
    }
}
