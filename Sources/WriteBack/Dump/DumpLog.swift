// Where pending bytes wait that memory has no room for (HDFS: the dumper's files): segments, written from one end to the
// other by one thread, shared by all files that are open. It promises nothing: nothing is synced, and a start removes
// what is left. What it frees is memory.
//
// A segment is removed when nothing in it is needed any more. Segments are few, so the files that are open for them are,
// whatever the number of files that are written.
//
// Invariant: `current` and its end are touched by the writing thread only. Lock order: `state` is taken alone.

internal import ErasureCoding
internal import Glibc
public import Platform
internal import Synchronization

/// The dump files of a store. Thread-safe. `close` must be called before the last reference goes.
public final class DumpLog: @unchecked Sendable {
    public struct Bounds: Sendable {
        /// Of all segments together; beyond it nothing can be dumped until some are removed.
        public var maxBytes: UInt64 = 4 << 30
        /// Large enough to be written in one go, small enough that one old byte doesn't hold much space.
        public var segmentBytes: UInt64 = 64 << 20

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

    private let directory: String
    private let fileSystem: FileSystem
    private let bounds: Bounds
    /// Called on the writing thread when something could not be dumped.
    private let onFailure: @Sendable (IOError) -> Void
    private let writer = WorkThread(name: "dump")
    /// Readers don't wait for what is being dumped.
    private let reader = WorkThread(name: "dump read")
    private let state = Mutex(Usage())
    private var current: DumpSegment?
    private var nextNumber = 1
    /// What is written at once: small payloads are gathered here.
    private let buffer = AlignedBuffer(count: 1 << 20)

    /// Makes the directory if it is missing, and removes what an earlier run left in it.
    public init(
        directory: String, fileSystem: FileSystem, bounds: Bounds = Bounds(),
        onFailure: @escaping @Sendable (IOError) -> Void
    ) throws(IOError) {
        self.directory = directory
        self.fileSystem = fileSystem
        self.bounds = bounds
        self.onFailure = onFailure
        if try fileSystem.status(directory) == nil { try fileSystem.createDirectory(directory) }
        try Self.clean(directory, fileSystem)
    }

    /// Removes what an earlier run left in the directory, if it is there.
    public static func clean(_ directory: String, _ fileSystem: FileSystem) throws(IOError) {
        guard try fileSystem.status(directory) != nil else { return }
        for name in try fileSystem.list(directory) where name.hasSuffix(suffix) {
            try fileSystem.remove(directory + "/" + name)
        }
    }

    private static let suffix = ".dump"

    public var usage: Usage { state.withLock { $0 } }

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
                state.withLock { $0.failures += 1 }
                onFailure(error)
                return nil
            }
        } ?? nil
    }

    private func write(_ payloads: [Payload]) throws(IOError) -> [DumpPlace] {
        var places: [DumpPlace] = []
        for payload in payloads {
            let segment = try segment(for: payload.count)
            let offset = segment.length
            var checksum = CRC32C()
            var done = 0
            while done < payload.count {
                let count = min(payload.count - done, buffer.bytes.count)
                payload.slice(done..<done + count).copy(
                    to: UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<count]))
                let bytes = UnsafeRawBufferPointer(rebasing: buffer.bytes[..<count])
                checksum.update(bytes)
                try segment.file.write(bytes, at: offset + UInt64(done))
                done += count
            }
            segment.length += UInt64(payload.count)
            places.append(
                DumpPlace(segment, offset: offset, count: payload.count, checksum: checksum.value, reader: reader))
            state.withLock { usage in
                usage.bytes += UInt64(payload.count)
                usage.dumpedBytes += UInt64(payload.count)
            }
        }
        return places
    }

    /// The segment that takes so many bytes.
    private func segment(for count: Int) throws(IOError) -> DumpSegment {
        if let current, current.length + UInt64(count) <= bounds.segmentBytes { return current }
        current?.end()
        current = nil
        guard state.withLock({ $0.bytes }) + UInt64(count) <= bounds.maxBytes else {
            throw IOError(code: ENOSPC, operation: "dump", path: directory)
        }
        let path = directory + "/\(nextNumber)\(Self.suffix)"
        nextNumber += 1
        // Not the log itself: it is closed before the last place goes.
        let segment = DumpSegment(try fileSystem.open(path, .createNew)) { [writer, weak self] segment in
            writer.submit { [weak self] in self?.remove(segment) }
        }
        state.withLock { $0.segments += 1 }
        current = segment
        return segment
    }

    /// A segment in which nothing lives any more. On the writing thread, which is the one that could put something in.
    private func remove(_ segment: DumpSegment) {
        guard segment.takeForRemoval() else { return }
        if current === segment { current = nil }
        segment.file.close()
        try? fileSystem.remove(segment.file.path)
        state.withLock { usage in
            usage.segments -= 1
            usage.bytes -= segment.length
        }
    }
}
