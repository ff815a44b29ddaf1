// A dump file, and the places in it.

internal import ErasureCoding
internal import NIOCore
internal import Platform
internal import Synchronization

/// A file of a `DumpLog`.
final class DumpSegment: @unchecked Sendable {
    let file: File
    /// Which of the log's places it is in.
    let place: Int
    /// Used by the writing thread only.
    var length: UInt64 = 0
    private var isRemoved = false
    /// Places that somebody still needs.
    private let livePlaces = Mutex(0)
    /// Called with the cause when something in it can't be read back.
    let onFailedRead: @Sendable (DumpSegment, String) -> Void
    /// Called when there is none, from any thread.
    private let onDeath: @Sendable (DumpSegment) -> Void

    init(
        _ file: File, place: Int, onFailedRead: @escaping @Sendable (DumpSegment, String) -> Void,
        onDeath: @escaping @Sendable (DumpSegment) -> Void
    ) {
        self.file = file
        self.place = place
        self.onFailedRead = onFailedRead
        self.onDeath = onDeath
    }

    func addPlace() { livePlaces.withLock { $0 += 1 } }

    func removePlace() {
        let left = livePlaces.withLock { count in
            count -= 1
            return count
        }
        if left == 0 { onDeath(self) }
    }

    /// Nothing more comes into it.
    func end() { if livePlaces.withLock({ $0 == 0 }) { onDeath(self) } }

    /// Whether the file is to be removed now: true once. On the writing thread.
    func takeForRemoval() -> Bool {
        guard !isRemoved, livePlaces.withLock({ $0 == 0 }) else { return false }
        isRemoved = true
        return true
    }
}

/// Where the bytes of one payload are in a segment, which stays as long as this is referred to.
final class DumpPlace: Sendable {
    let count: Int
    private let segment: DumpSegment
    private let offset: UInt64
    private let checksum: UInt32
    private let reader: WorkThread

    init(_ segment: DumpSegment, offset: UInt64, count: Int, checksum: UInt32, reader: WorkThread) {
        self.segment = segment
        self.offset = offset
        self.count = count
        self.checksum = checksum
        self.reader = reader
        segment.addPlace()
    }

    deinit { segment.removePlace() }

    /// The whole payload, checked: throws `dumpLost` if the file doesn't give it back, which is told to the log.
    func load() async throws(WriteBackError) -> Payload {
        let payload = await reader.runUnlessStopped { [self] () -> Payload? in
            var buffer = ByteBufferAllocator().buffer(capacity: count)
            var failure: String?
            let found = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { bytes in
                do {
                    return try segment.file.read(
                        into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]), at: offset)
                } catch {
                    failure = "\(error)"
                    return 0
                }
            }
            let what = "\(count) bytes at \(offset)"
            let path = segment.file.path
            if let failure {
                segment.onFailedRead(segment, "\(failure), \(what)")
            } else if found < count {
                segment.onFailedRead(segment, "\(path): of \(what) only \(found) are there")
            } else if buffer.withUnsafeReadableBytes({ CRC32C.checksum($0) }) != checksum {
                segment.onFailedRead(segment, "\(path): \(what) have another checksum than when they were written")
            } else {
                return Payload(buffer)
            }
            return nil
        }
        guard let payload, let payload else { throw .dumpLost }
        return payload
    }
}
