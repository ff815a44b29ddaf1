// A volume: one directory, on a disk of its own, that holds internal blocks. BlockFiles.swift shows what
// is where in it.
//
// Each volume has two threads, so that a disk that hangs holds up nobody else, and a read doesn't wait for
// a sync: one for all that changes files, one for reads. On each, work is done in the order it came.
//
// A volume is healthy until a write, a sync or the creation of a file fails with an I/O error; from then on it
// takes no writes until the store is started again, since nobody knows any more what of it is durable. It is
// still read from: what it returns is verified anyway. No room is not a failure, nor is a lack of descriptors or memory.
//
// Lock order: the locks are leaves, nothing is called while one is held.

internal import Glibc
public import Model
public import Platform
internal import Synchronization

/// Why a volume takes no writes any more.
public enum VolumeFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case inputOutput(IOError)
    /// The superblock is gone, damaged or of another version: the directory was deleted or unmounted.
    case superblock(SuperblockError)
    /// Another volume is in its place now.
    case replaced(by: VolumeID)
    /// `close` was called.
    case closed

    public var description: String {
        switch self {
        case .inputOutput(let error): error.description
        case .superblock(let error): error.description
        case .replaced(let other): "another volume, \(other), is in its place"
        case .closed: "closed"
        }
    }
}

/// Why a directory could not be made a volume.
public enum VolumeFormatError: Error, Hashable, Sendable, CustomStringConvertible {
    /// It has a superblock, or what looks like one.
    case alreadyFormatted(path: String)
    case inputOutput(IOError)

    public var description: String {
        switch self {
        case .alreadyFormatted(let path): "\(path) is there: the volume is formatted already"
        case .inputOutput(let error): error.description
        }
    }
}

/// A directory that holds internal blocks. May be used by several threads and tasks at once.
public final class Volume: BlockTarget, BlockSource, Sendable {
    /// Whether the volume takes writes.
    public enum State: Hashable, Sendable {
        case healthy
        case failed(VolumeFailure)
    }

    public let directory: String
    public let id: VolumeID
    public let storeID: StoreID
    /// The volume's number in its store.
    public let index: Int

    let fileSystem: FileSystem
    let writeThread: WorkThread
    let readThread: WorkThread
    let readDescriptors: ReadDescriptors
    private let onFailure: @Sendable (VolumeID, VolumeFailure) -> Void
    private let currentState = Mutex(State.healthy)
    private let currentSuperblock: Mutex<Superblock>

    /// Opens a volume that was formatted. Blocks on the disk.
    ///
    /// - Parameters:
    ///   - maxReadDescriptors: most blocks that are kept open for reading, two files each.
    ///   - onFailure: called once when the volume fails, on the thread that saw the error. Must not block.
    public init(
        directory: String, fileSystem: FileSystem, maxReadDescriptors: Int = 128,
        onFailure: @escaping @Sendable (VolumeID, VolumeFailure) -> Void = { _, _ in }
    ) throws(SuperblockError) {
        let superblock = try Superblock.read(volumeDirectory: directory, fileSystem: fileSystem)
        self.directory = directory
        self.fileSystem = fileSystem
        self.onFailure = onFailure
        id = superblock.volumeID
        storeID = superblock.storeID
        index = superblock.volumeIndex
        currentSuperblock = Mutex(superblock)
        writeThread = WorkThread(name: "volume-\(index)-w")
        readThread = WorkThread(name: "volume-\(index)-r")
        readDescriptors = ReadDescriptors(
            volumeDirectory: directory, fileSystem: fileSystem, maxBlocks: maxReadDescriptors)
    }

    /// Makes a directory a volume: its subdirectories, then, as the last thing, its superblock; all
    /// durable on return. Makes the directory when it is missing. Blocks on the disk.
    public static func format(
        directory: String, superblock: Superblock, fileSystem: FileSystem
    ) throws(VolumeFormatError) {
        let superblockPath = Superblock.path(volumeDirectory: directory)
        do throws(IOError) {
            if try fileSystem.status(superblockPath) == nil {
                try createDirectories(directory, fileSystem: fileSystem)
                try superblock.write(volumeDirectory: directory, fileSystem: fileSystem)
                return
            }
        } catch {
            throw .inputOutput(error)
        }
        throw .alreadyFormatted(path: superblockPath)
    }

    private static func createDirectories(_ directory: String, fileSystem: FileSystem) throws(IOError) {
        func create(_ path: String) throws(IOError) {
            // There when an earlier format was cut short.
            if try fileSystem.status(path)?.isDirectory != true { try fileSystem.createDirectory(path) }
        }
        if try fileSystem.status(directory) == nil {
            try fileSystem.createDirectory(directory)
            try fileSystem.syncDirectory(parent(of: directory))
        }
        let blocks = BlockFiles.blocksDirectory(directory)
        let metadata = BlockFiles.metadataDirectory(directory)
        try create(blocks)
        try create(metadata)
        let subdirectories = (0..<BlockFiles.subdirectoryCount).map { BlockFiles.subdirectory(directory, number: $0) }
        for path in subdirectories { try create(path) }
        for path in subdirectories { try fileSystem.syncDirectory(path) }
        try fileSystem.syncDirectory(blocks)
        try fileSystem.syncDirectory(metadata)
        try fileSystem.syncDirectory(directory)
    }

    private static func parent(of path: String) -> String {
        guard let lastCharacter = path.lastIndex(where: { $0 != "/" }) else { return "/" }
        guard let slash = path[...lastCharacter].lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Does what is queued, then ends the threads. All that is asked for later fails. Blocks; not from a
    /// completion.
    public func close() {
        currentState.withLock { if case .healthy = $0 { $0 = .failed(.closed) } }
        writeThread.stop()
        readThread.submit { [readDescriptors] in readDescriptors.removeAll() }
        readThread.stop()
    }

    /// `<directory>/metadata`, for the namespace's mirror.
    public var metadataDirectory: String { Self.metadataDirectory(of: directory) }

    /// The metadata directory of the volume in `directory`.
    public static func metadataDirectory(of directory: String) -> String { BlockFiles.metadataDirectory(directory) }

    /// `<directory>/journal`, for a replica of the journal.
    public var journalDirectory: String { BlockFiles.journalDirectory(directory) }

    public var state: State { currentState.withLock { $0 } }

    public var isHealthy: Bool { state == .healthy }

    /// The superblock as it was read or written last.
    public var superblock: Superblock { currentSuperblock.withLock { $0 } }

    /// Replaces the superblock; durable on return. An I/O error fails the volume; a lack of descriptors or memory says
    /// nothing about it and doesn't: the volume then is one that lacks this superblock. Blocks on the disk; callers
    /// take turns.
    /// - Parameter reserve: lends a descriptor when there is no other.
    public func writeSuperblock(
        _ superblock: Superblock, reserve: DescriptorReserve? = nil
    ) throws(VolumeFailure) {
        precondition(superblock.volumeID == id && superblock.storeID == storeID)
        if case .failed(let failure) = state { throw failure }
        do throws(IOError) {
            try superblock.write(volumeDirectory: directory, fileSystem: fileSystem, reserve: reserve)
        } catch {
            if error.isShortage { throw .inputOutput(error) }
            // Even without room: the volume may now lack the epoch that the others have.
            fail(.inputOutput(error))
            throw .inputOutput(error)
        }
        currentSuperblock.withLock { $0 = superblock }
    }

    /// Declares the volume failed, because of an error seen elsewhere on it: in the namespace's mirror, say.
    public func fail(_ failure: VolumeFailure) {
        let isFirst = currentState.withLock { state in
            guard case .healthy = state else { return false }
            state = .failed(failure)
            return true
        }
        if isFirst { onFailure(id, failure) }
    }

    /// Looks whether the volume is still what it was when it was opened, and fails it if not: open files
    /// hide that their directory was deleted or its disk unmounted.
    @discardableResult
    public func check() async -> State {
        do throws(SuperblockError) {
            let found = try await run(on: readThread, ifClosed: .inputOutput(closedError)) {
                [self] () throws(SuperblockError) in
                try Superblock.read(volumeDirectory: directory, fileSystem: fileSystem)
            }
            if found.volumeID != id || found.storeID != storeID { fail(.replaced(by: found.volumeID)) }
        } catch {
            if case .inputOutput(let error) = error, error.isShortage { return state }
            fail(.superblock(error))
        }
        return state
    }

    /// Room on the volume's file system.
    public func space() async throws(IOError) -> FileSystem.Space {
        try await run(on: readThread, ifClosed: closedError) { [self] () throws(IOError) in
            try fileSystem.space(directory)
        }
    }

    /// The device that the volume is on, to see volumes that share one.
    public func device() async throws(IOError) -> UInt64? {
        try await run(on: readThread, ifClosed: closedError) { [self] () throws(IOError) in
            try fileSystem.status(directory)?.device
        }
    }

    public func open(_ block: BlockID, generationStamp: GenerationStamp) -> VolumeBlockWriter {
        VolumeBlockWriter(volume: self, block: block, generationStamp: generationStamp)
    }

    /// What I/O answers after `close`.
    var closedError: IOError { IOError(code: EBADF, operation: "use of closed volume", path: directory) }

    /// Like `WorkThread.run`, but fails after `close`, where that would wait for ever.
    func run<Value: Sendable, Failure: Error>(
        on thread: WorkThread, ifClosed failure: Failure, _ body: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        let result: Result<Value, Failure> = await withUnsafeContinuation { continuation in
            let isQueued = thread.submit {
                continuation.resume(returning: Result { () throws(Failure) in try body() })
            }
            if !isQueued { continuation.resume(returning: .failure(failure)) }
        }
        return try result.get()
    }
}
