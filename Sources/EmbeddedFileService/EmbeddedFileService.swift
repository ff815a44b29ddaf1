// The file service over a store of this machine's directories: the namespace for names and attributes, open
// file contexts for what is being written, block groups on volumes for bytes.
//
// Where things happen: bodies given to `transact` run on the namespace thread, one after the other, in the
// order of the metadata log; they change the rows and, at the same moment, the nodes in memory. WRITE only
// touches its file's context. So for each file the order of WRITE, truncate, remove and publish is the one in
// which the namespace thread and the context's lock saw them.
//
// Lock order: none is held while another is taken, but for the node table's, which may take a node's.

internal import BlockStore
public import FileService
internal import Journal
internal import Logging
public import Model
internal import Namespace
public import Platform
internal import Synchronization
internal import WriteBack

/// A store's files, embedded in this process. May be used from any thread.
public final class EmbeddedFileService: FileService {
    let core: StoreCore
    let sink: GroupSink
    let writeBack: WriteBack<GroupSink>
    /// Whether somebody sees to the files in the journal.
    let isSettlingJournal = Atomic(false)
    let dump: DumpLog?
    let log: Logger
    /// Whether MKNOD makes devices.
    let allowsDevices: Bool

    init(core: StoreCore, limits: WriteBackLimits, dump: DumpLog?, allowsDevices: Bool = false) {
        self.core = core
        self.dump = dump
        self.allowsDevices = allowsDevices
        log = core.log
        sink = GroupSink(core: core)
        writeBack = WriteBack(sink: sink, clock: core.clock, limits: limits, epochs: core.writeEpochs, dump: dump)
        core.adoptRecovered.setReceiver { [weak writeBack] in writeBack?.adopt($0) }
        core.journalPressure.setReceiver { [weak self] in self?.settleJournalSoon() }
    }

    /// The policy of the store.
    public var policy: ErasureCodingPolicy { core.policy }

    /// Names the store in file handles.
    public var storeID: StoreID { core.storeID }

    /// Signs file handles; the same on all volumes, for ever.
    public var handleKey: (k0: UInt64, k1: UInt64) { (core.handleKey.k0, core.handleKey.k1) }

    /// Settles files that rest; to be called about once a second, whatever the disks do: it waits for none.
    public func settleIdleFiles() {
        core.journal?.tick()
        core.epochs.tick()
        core.namespace.tick()
        writeBack.tick()
        settleJournalSoon()
        checkDump()
        let usage = writeBack.usage
        if usage.isStuck {
            core.complaints.warning(
                .stuckStore, of: .store, "\(usage.pendingBytes >> 20) MiB are pending in \(usage.openFiles) files")
        }
    }

    /// Sees to volumes, mirrors and groups that are not needed any more; to be called about once a second, when the last call has returned.
    public func checkVolumes() async {
        await core.checkVolumes()
        await core.restoreMirrors()
        await sink.sealDeadShared()
    }

    /// Returns why the store has failed for good, when it has: nothing can be made durable any more, and it should be
    /// closed. nil when the task is cancelled before.
    public func waitForFailure() async -> String? { await core.failure.wait() }

    /// Why the store has failed for good; nil while it goes on.
    public var failure: String? { core.failure.reason }

    /// To be called about once a second from `prepareToClose` on until `close` has returned, in place of the above: whatever hangs
    /// is given up. Waits for nothing.
    public func giveUpWhatHangs() {
        core.journal?.tick()
        core.epochs.tick()
        core.namespace.tick()
        dump?.giveUpHanging()
    }

    /// To be called before the last calls are waited for: none of them is held back any more.
    public func prepareToClose() { writeBack.stopHoldingBack() }

    /// Makes everything durable and lets go of the volumes. No call may be under way or follow.
    /// Returns how many files' last bytes could not be made durable.
    public func close() async -> Int {
        let failures = await writeBack.settleAll()
        await sink.sealShared()
        await dump?.close()
        await core.close()
        return failures
    }

    // MARK: Files

    public func root() async throws(FileError) -> FileEntry {
        try await core.look { transaction throws(FileError) in
            let root = try transaction.existing(.root)
            return FileEntry(file: root.reference, attributes: root.attributes)
        }
    }

    public func attributes(of file: FileReference) async throws(FileError) -> FileAttributes {
        try await core.attributes(of: file)
    }

    public func access(
        to file: FileReference, rights: AccessRights, as caller: Credentials
    ) async throws(FileError) -> (granted: AccessRights, attributes: FileAttributes) {
        let attributes = try await core.attributes(of: file)
        return (attributes.granted(rights, to: caller), attributes)
    }

    public func read(
        _ file: FileReference, offset: UInt64, count: Int, as caller: Credentials
    ) async throws(FileError) -> ReadResult {
        let node = try await core.node(of: file)
        let context = try node.regularContext()
        guard node.attributes.allowsReadingData(by: caller) else { throw .accessDenied }
        return try await FileReader(core: core, node: node, context: context).read(offset: offset, count: count)
    }

    public func write(
        _ payload: Payload, to file: FileReference, offset: UInt64, stability: WriteStability, as caller: Credentials
    ) async throws(FileError) -> WriteResult {
        let node = try await core.node(of: file)
        // The table forgets a clean node that nobody holds; it must be held until the bytes are in.
        defer { withExtendedLifetime(node) {} }
        let context = try node.regularContext()
        let attributes = node.attributes
        guard attributes.allowsWritingData(by: caller) else { throw .accessDenied }
        guard offset <= Limits.maxFileBytes, UInt64(payload.count) <= Limits.maxFileBytes - offset else {
            throw .fileTooBig
        }
        // Sampled before the bytes go in: if they are lost later, the verifier of a COMMIT differs. And before the
        // store's failure is asked for, see there.
        let verifier = core.verifier.current
        guard !core.failure.hasOccurred else { throw .inputOutput }
        guard core.volumes.canTakeWrites(core.policy) else { throw .readOnly }
        do throws(WriteBackError) {
            let change = try await writeBack.write(
                payload, to: context, at: offset, isStable: stability != .unstable,
                clearingModeBits: attributes.modeBitsClearedByWriting(by: caller))
            // While this waited for its bytes to be durable, the used bytes became those of the extents. Anything else
            // that is new is another call's, and would have a new change time.
            let now = node.attributes
            let after = now.changeTime == change.after.changeTime ? now : change.after
            return WriteResult(
                stability: stability == .unstable ? .unstable : .fileSync, verifier: verifier,
                change: AttributeChange(before: change.before, after: after))
        } catch {
            throw FileError(error)
        }
    }

    public func commit(
        _ file: FileReference, offset: UInt64, count: UInt64, as caller: Credentials
    ) async throws(FileError) -> CommitResult {
        // The range is not looked at: everything that was written to the file becomes durable, which
        // covers any range (RFC 1813 §3.3.21 allows it).
        let node = try await core.node(of: file)
        let context = try node.regularContext()
        guard node.attributes.allowsWritingData(by: caller) else { throw .accessDenied }
        do throws(WriteBackError) {
            try await writeBack.commit(context)
        } catch {
            throw FileError(error)
        }
        // Also of a file whose bytes are all durable: the store answers for nothing any more.
        guard !core.failure.hasOccurred else { throw .inputOutput }
        // Sampled after the bytes are durable.
        let verifier = core.verifier.current
        // Others may have written meanwhile. Attributes from before the wait would make a client take their
        // changes for its own; equal ones tell it what is true: nothing changed in this moment.
        let now = node.attributes
        return CommitResult(verifier: verifier, change: AttributeChange(before: now, after: now))
    }

    public func space() async throws(FileError) -> FileSystemSpace {
        await core.space()
    }
}

extension FileNode {
    /// What READ, WRITE and COMMIT need: RFC 1813 §3.3.6 answers NFS3ERR_ISDIR for a directory and
    /// NFS3ERR_INVAL for what is neither.
    func regularContext() throws(FileError) -> OpenFileContext {
        if let context { return context }
        throw type == .directory ? .isDirectory : .invalidArgument
    }
}

extension FileError {
    init(_ error: WriteBackError) {
        switch error {
        case .inputOutput: self = .inputOutput
        case .noSpace: self = .noSpace
        case .removed: self = .stale
        // Whoever asks again is answered by what the store has, or brings the bytes again.
        case .dumpLost, .busy: self = .busy
        }
    }
}
