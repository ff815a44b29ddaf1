// A journal in memory for the tests of write-back: a list of what was recorded, in order, and of the claims that are live.
//
// Lock order: `state` is taken last, also by a claim that goes.

import Journal
import Model
import Platform
import Synchronization

@testable import WriteBack

final class MemoryJournal: Sendable {
    struct Record {
        let file: FileID
        let offset: UInt64
        let sequence: WriteSequence
        let bytes: [UInt8]
        var isLive = true
    }
    enum Entry {
        case payload(Record)
        case truncate(FileID, size: UInt64)
    }
    struct State {
        var entries: [Entry] = []
        var liveClaims = 0
        var liveBytes = 0
        var appended = 0
        var loads = 0
        var nextLoadsFail = 0
        /// Whose bytes can't be read back.
        var unreadable: Set<FileID> = []
    }
    let state = Mutex(State())
    private let roomBytes: Atomic<Int>

    init(capacity: Int = .max) { roomBytes = Atomic(capacity) }

    /// Of live bytes.
    func setCapacity(_ count: Int) { roomBytes.store(count, ordering: .relaxed) }

    func hasRoom(for count: Int) -> Bool {
        state.withLock { count <= roomBytes.load(ordering: .relaxed) - $0.liveBytes }
    }

    func append(_ file: FileID, _ offset: UInt64, _ sequence: WriteSequence, _ bytes: [UInt8]) -> JournaledBytes {
        let record = Record(file: file, offset: offset, sequence: sequence, bytes: bytes)
        let index = state.withLock { state in
            state.entries.append(.payload(record))
            state.liveClaims += 1
            state.liveBytes += bytes.count
            state.appended += 1
            return state.entries.count - 1
        }
        return Claim(self, index, record)
    }

    func truncate(_ file: FileID, to size: UInt64) {
        state.withLock { $0.entries.append(.truncate(file, size: size)) }
    }

    /// What a start would find of the file: the records in order, clipped by what was truncated after them.
    /// - Parameter includesDead: also those that nobody claims any more, which a segment may have all the same.
    func recovered(_ file: FileID, includesDead: Bool) -> [Record] {
        var result: [Record] = []
        for entry in state.withLock({ $0.entries }) {
            switch entry {
            case .payload(let record):
                if record.file == file && (record.isLive || includesDead) { result.append(record) }
            case .truncate(let truncated, let size):
                guard truncated == file else { continue }
                result = result.compactMap { record in
                    guard record.offset < size else { return nil }
                    let kept = min(record.bytes.count, Int(size - record.offset))
                    return Record(
                        file: file, offset: record.offset, sequence: record.sequence,
                        bytes: Array(record.bytes.prefix(kept)), isLive: record.isLive)
                }
            }
        }
        return result
    }

    private func load(_ index: Int) -> [UInt8]? {
        state.withLock { state in
            state.loads += 1
            if state.nextLoadsFail > 0 {
                state.nextLoadsFail -= 1
                return nil
            }
            guard case .payload(let record) = state.entries[index], record.isLive else {
                preconditionFailure("what nobody claims is read")
            }
            return state.unreadable.contains(record.file) ? nil : record.bytes
        }
    }

    private func letGo(_ index: Int) {
        state.withLock { state in
            guard case .payload(var record) = state.entries[index], record.isLive else {
                preconditionFailure("a claim goes twice")
            }
            record.isLive = false
            state.entries[index] = .payload(record)
            state.liveClaims -= 1
            state.liveBytes -= record.bytes.count
        }
    }

    private final class Claim: JournaledBytes, @unchecked Sendable {
        private let journal: MemoryJournal
        private let index: Int

        init(_ journal: MemoryJournal, _ index: Int, _ record: Record) {
            self.journal = journal
            self.index = index
            super.init(
                file: record.file, offset: record.offset, count: record.bytes.count, sequence: record.sequence)
        }

        deinit { journal.letGo(index) }

        override func load() async throws(JournalError) -> Payload {
            guard let bytes = journal.load(index) else { throw .unreadable("as the test wants it") }
            return Payload(bytes: bytes)
        }
    }
}
