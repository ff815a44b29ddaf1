// Seeing to it that what is in the journal gets to block groups: after a start, and when the journal is half full.

internal import FileService
internal import Journal
internal import Model
internal import Namespace
internal import Synchronization
internal import WriteBack

extension EmbeddedFileService {
    /// Files that are opened at a time to be settled: a body of the namespace thread each, some milliseconds in all.
    private static let filesAtOnce = 1024

    /// Opens files that a start found in the journal, a few at a time, so that they are settled as others that rest are; and
    /// has the owners of the oldest segment settled when it is to be freed. Doesn't block.
    func settleJournalSoon() {
        guard let journal = core.journal else { return }
        // Those that are opened leave their places in the table when they are settled.
        let opensRecovered =
            core.recovered.count > 0 && writeBack.usage.openFiles < writeBack.limits.maxOpenContexts / 2
        guard opensRecovered || !journal.ownersOfOldestSegment(limit: 1).isEmpty,
            !isSettlingJournal.exchange(true, ordering: .acquiringAndReleasing)
        else { return }
        Task.detached { [self] in
            if opensRecovered { _ = await open(core.recovered.files(limit: Self.filesAtOnce)) }
            writeBack.settleJournaled(await open(journal.ownersOfOldestSegment(limit: Self.filesAtOnce)))
            isSettlingJournal.store(false, ordering: .releasing)
        }
    }

    /// The write states of files, as far as the files are there.
    private func open(_ files: [FileID]) async -> [OpenFileContext] {
        guard !files.isEmpty else { return [] }
        do throws(FileError) {
            return try await core.look { [core] transaction throws(FileError) in
                var contexts: [OpenFileContext] = []
                for file in files {
                    if let context = core.nodes[file]?.context {
                        contexts.append(context)
                    } else if let inode = try transaction.inodeIfAny(file) {
                        if let context = try core.loadNode(inode, &transaction).context { contexts.append(context) }
                    } else {
                        // Removed; what the journal has of it goes.
                        _ = core.recovered.take(file, extents: ExtentMap())
                    }
                }
                return contexts
            }
        } catch {
            // One file's damaged rows must not keep the others in the journal for ever.
            core.complaints.warning(.unsettledJournal, of: .store, "\(error)")
            return []
        }
    }
}
