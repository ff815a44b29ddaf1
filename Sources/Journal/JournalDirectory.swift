// The files of the journal on one volume: slots, each for one segment at a time.
//
// A slot is written with zeros and synced under another name before it becomes `<number>.segment`, so what has this name
// is whole, and writing a group into it changes no metadata of the file system. A slot that holds nothing live is a spare,
// and is used again in place.
//
// Each directory has threads of its own, made when they are needed: for groups, for reads, and for making and removing
// slots, which takes long. So a disk that hangs holds up nobody else.
//
// A directory is dropped after a failure or a hang. Nothing is written to it any more, and none of its slots is used
// again, as an old write may still arrive there; what it gives back is checked, so it is still read from.
//
// Lock order: `state` is taken alone; nothing is called while it is held but the clock and `WorkThread.init`.

internal import Glibc
internal import Model
internal import Platform
internal import Synchronization

internal import struct NIOCore.ByteBuffer
internal import struct NIOCore.ByteBufferAllocator

/// A file for one segment at a time.
final class Slot: Sendable {
    let directory: JournalDirectory
    let number: UInt64
    /// Knows itself by the name that it was made under, not by `path`.
    let file: File
    let size: UInt64

    /// Its name now.
    var path: String { directory.path(number, JournalDirectory.suffix) }

    init(_ directory: JournalDirectory, number: UInt64, file: File, size: UInt64) {
        self.directory = directory
        self.number = number
        self.file = file
        self.size = size
    }
}

/// Thread-safe. `close` must be called before the last reference goes, if anything but `slots` was.
final class JournalDirectory: Sendable {
    private struct State {
        var volume: JournalVolume
        var clock: SystemClock?
        var nextSlot: UInt64 = 1
        var spares: [Slot] = []
        /// Since when a spare slot has been in the making.
        var sparesSince: Duration?
        var hasNoRoom = false
        var isDropped = false
        var hangs = false
        var isClosed = false
        var threads: [Purpose: WorkThread] = [:]
        var reads: [Int: Read] = [:]
        var lastRead = 0
    }

    private struct Read {
        let continuation: UnsafeContinuation<Result<ByteBuffer, IOError>, Never>
        let since: Duration
    }

    enum Purpose: String { case write, read, prepare }

    let id: VolumeID
    let path: String
    let fileSystem: FileSystem
    private let state: Mutex<State>

    init(_ volume: JournalVolume, _ fileSystem: FileSystem) {
        id = volume.id
        path = volume.directory
        self.fileSystem = fileSystem
        state = Mutex(State(volume: volume))
    }

    /// The journal goes on with this.
    func adopt(_ volume: JournalVolume, clock: SystemClock) {
        state.withLock {
            $0.volume = volume
            $0.clock = clock
        }
    }

    var volume: JournalVolume { state.withLock { $0.volume } }

    // MARK: Health

    var isDropped: Bool { state.withLock { $0.isDropped } }

    /// Whether it may be written to.
    var isUsable: Bool {
        let (volume, isDropped) = state.withLock { ($0.volume, $0.isDropped) }
        return !isDropped && volume.isUsable()
    }

    /// Gives it up. Returns whether it wasn't before.
    func drop(after error: IOError, hangs: Bool) -> Bool {
        let volume = state.withLock { state -> JournalVolume? in
            state.hangs = state.hangs || hangs
            guard !state.isDropped else { return nil }
            state.isDropped = true
            state.spares = []
            return state.volume
        }
        volume?.onFailure(error)
        return volume != nil
    }

    // MARK: Threads

    /// Runs work on one of the threads; false: it is closed, the work will never run.
    @discardableResult
    func submit(_ purpose: Purpose, _ work: @escaping @Sendable () -> Void) -> Bool {
        let thread = state.withLock { state -> WorkThread? in
            guard !state.isClosed else { return nil }
            if let thread = state.threads[purpose] { return thread }
            let thread = WorkThread(name: "journal \(purpose)")
            state.threads[purpose] = thread
            return thread
        }
        return thread?.submit(work) ?? false
    }

    /// Ends the threads; what hangs is left behind. Blocks.
    func close() {
        let (threads, hangs) = state.withLock { state in
            state.isClosed = true
            state.spares = []
            return (state.threads, state.hangs || !state.reads.isEmpty)
        }
        giveUpReads(after: nil)
        // A thread that never ends can't be waited for: it goes with the process.
        if !hangs { for thread in threads.values { thread.stop() } }
    }

    // MARK: Slots

    fileprivate static let suffix = ".segment"
    private static let unfinishedSuffix = ".new"

    fileprivate func path(_ number: UInt64, _ suffix: String) -> String { path + "/\(number)" + suffix }

    private static func number(_ name: String, _ suffix: String) -> UInt64? {
        guard name.hasSuffix(suffix), let number = UInt64(name.dropLast(suffix.utf8.count)), number > 0,
            number < UInt64.max, "\(number)\(suffix)" == name
        else { return nil }
        return number
    }

    /// Opens all slots that are there. Nothing is changed.
    func openSlots() throws(IOError) -> [Slot] {
        guard try fileSystem.status(path) != nil else { return [] }
        let names = try fileSystem.list(path)
        let numbers = names.compactMap { Self.number($0, Self.suffix) }.sorted()
        let unfinished = names.compactMap { Self.number($0, Self.unfinishedSuffix) }
        let last = max(numbers.last ?? 0, unfinished.max() ?? 0)
        state.withLock { $0.nextSlot = max($0.nextSlot, last + 1) }
        var slots: [Slot] = []
        for number in numbers {
            let file = try fileSystem.open(path(number, Self.suffix), .readWrite)
            slots.append(Slot(self, number: number, file: file, size: try file.size()))
        }
        return slots
    }

    /// Removes slots that were never finished. Blocks.
    func removeUnfinished() throws(IOError) {
        guard try fileSystem.status(path) != nil else { return }
        for name in try fileSystem.list(path) where Self.number(name, Self.unfinishedSuffix) != nil {
            try fileSystem.remove(path + "/" + name)
        }
    }

    func takeSpare(bytes: UInt64) -> Slot? {
        state.withLock { state in
            guard !state.isDropped, let index = state.spares.lastIndex(where: { $0.size == bytes }) else { return nil }
            return state.spares.remove(at: index)
        }
    }

    /// Makes a slot; durable on return. Blocks.
    func makeSlot(bytes: UInt64, leaving minFreeBytes: UInt64) throws(IOError) -> Slot {
        if try fileSystem.status(path) == nil {
            do throws(IOError) { try fileSystem.createDirectory(path) } catch {
                if !error.isAlreadyThere { throw error }
            }
        }
        // Always: whoever made it may not have come so far.
        try fileSystem.syncDirectory(parent)
        let free = try fileSystem.space(path).availableBytes
        guard free >= bytes, free - bytes >= minFreeBytes else {
            throw IOError(code: ENOSPC, operation: "make a segment of \(bytes) bytes", path: path)
        }
        let number = state.withLock { state in
            defer { state.nextSlot += 1 }
            return state.nextSlot
        }
        let unfinished = path(number, Self.unfinishedSuffix)
        var isMade = false
        defer {
            // Takes room that nobody has any use for. If it can't be removed now, a start does it.
            if !isMade { try? fileSystem.remove(unfinished) }
        }
        let file = try fileSystem.open(unfinished, .createNew)
        let zeros = AlignedBuffer(count: Int(min(bytes, 1 << 20)))
        _ = zeros.bytes.initializeMemory(as: UInt8.self, repeating: 0)
        var done: UInt64 = 0
        while done < bytes {
            let count = min(bytes - done, UInt64(zeros.bytes.count))
            try file.write(UnsafeRawBufferPointer(rebasing: zeros.bytes[..<Int(count)]), at: done)
            // Little by little, so that the sync of a group on the same disk never waits for all of it.
            file.startWriteback(offset: done, count: count)
            done += count
        }
        try file.sync()
        let final = path(number, Self.suffix)
        try fileSystem.rename(unfinished, to: final)
        isMade = true
        try fileSystem.syncDirectory(path)
        return Slot(self, number: number, file: file, size: bytes)
    }

    private var parent: String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Gives a slot, a spare one at once if there is one; `completion` may be called on any thread.
    func obtainSlot(
        bytes: UInt64, leaving minFreeBytes: UInt64,
        _ completion: @escaping @Sendable (Result<Slot, IOError>) -> Void
    ) {
        if let spare = takeSpare(bytes: bytes) { return completion(.success(spare)) }
        let isQueued = submit(.prepare) { [self] in
            // One may have been made meanwhile.
            if let spare = takeSpare(bytes: bytes) { return completion(.success(spare)) }
            completion(Result { () throws(IOError) in try makeSlot(bytes: bytes, leaving: minFreeBytes) })
        }
        if !isQueued { completion(.failure(IOError(code: EBADF, operation: "use of closed journal", path: path))) }
    }

    /// Sees to it that there will be a spare slot.
    func prepareSpare(bytes: UInt64, leaving minFreeBytes: UInt64, onFailure: @escaping @Sendable (IOError) -> Void) {
        let isNeeded = state.withLock { state in
            guard !state.isDropped, !state.isClosed, state.sparesSince == nil,
                !state.spares.contains(where: { $0.size == bytes })
            else { return false }
            state.sparesSince = state.clock?.elapsed() ?? .zero
            return true
        }
        guard isNeeded else { return }
        submit(.prepare) { [self] in
            do throws(IOError) {
                let slot = try makeSlot(bytes: bytes, leaving: minFreeBytes)
                state.withLock { state in
                    state.sparesSince = nil
                    state.hasNoRoom = false
                    if !state.isDropped, !state.isClosed { state.spares.append(slot) }
                }
            } catch {
                state.withLock {
                    $0.sparesSince = nil
                    $0.hasNoRoom = error.isOutOfSpace
                }
                onFailure(error)
            }
        }
    }

    /// The error to drop it with if a spare slot has been in the making for so long.
    func overdue(after patience: Duration) -> IOError? {
        state.withLock { state in
            guard !state.isDropped, let since = state.sparesSince, let clock = state.clock,
                clock.elapsed() - since > patience
            else { return nil }
            return IOError(code: ETIMEDOUT, operation: "make a segment", path: path)
        }
    }

    /// Whether there is no spare slot, nor room to make one.
    var isFull: Bool { state.withLock { $0.hasNoRoom && $0.spares.isEmpty } }

    /// The slot holds nothing live any more.
    /// - Parameter keep: so many spare ones are kept, of this size; others are removed.
    func release(_ slot: Slot, bytes: UInt64, keep: Int) {
        let isToBeRemoved = state.withLock { state in
            guard !state.isDropped, !state.isClosed else { return false }
            guard slot.size == bytes, state.spares.count < keep else { return true }
            state.spares.append(slot)
            state.hasNoRoom = false
            return false
        }
        // If it can't be removed it stays until the next start, which sees that nothing in it is live.
        if isToBeRemoved { submit(.prepare) { [self] in try? fileSystem.remove(slot.path) } }
    }

    // MARK: Reading

    /// Reads for who can wait; fewer bytes at the end of the file. A read that hangs is given up by `giveUpReads`.
    func read(_ slot: Slot, at offset: UInt64, count: Int) async -> Result<ByteBuffer, IOError> {
        await withUnsafeContinuation { continuation in
            let number = state.withLock { state in
                state.lastRead += 1
                state.reads[state.lastRead] = Read(
                    continuation: continuation, since: state.clock?.elapsed() ?? .zero)
                return state.lastRead
            }
            let isQueued = submit(.read) { [self] in
                guard state.withLock({ $0.reads[number] != nil }) else { return }
                end(number, Result { () throws(IOError) in try Self.read(slot.file, at: offset, count: count) })
            }
            if !isQueued {
                end(number, .failure(IOError(code: EBADF, operation: "use of closed journal", path: path)))
            }
        }
    }

    private func end(_ number: Int, _ result: Result<ByteBuffer, IOError>) {
        state.withLock { $0.reads.removeValue(forKey: number) }?.continuation.resume(returning: result)
    }

    private static func read(_ file: File, at offset: UInt64, count: Int) throws(IOError) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: count)
        var failure: IOError?
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { bytes in
            do throws(IOError) {
                return try file.read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]), at: offset)
            } catch {
                failure = error
                return 0
            }
        }
        if let failure { throw failure }
        return buffer
    }

    /// Whoever waits for so long is told that the disk hangs; nil: whoever waits.
    func giveUpReads(after patience: Duration?) {
        let given = state.withLock { state in
            let now = state.clock?.elapsed() ?? .zero
            let late = state.reads.filter { patience == nil || now - $0.value.since > patience! }
            for number in late.keys { state.reads[number] = nil }
            if patience != nil, !late.isEmpty { state.hangs = true }
            return late.values.map(\.continuation)
        }
        let error = IOError(code: ETIMEDOUT, operation: "pread", path: path)
        for continuation in given { continuation.resume(returning: .failure(error)) }
    }
}
