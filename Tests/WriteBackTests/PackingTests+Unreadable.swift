// Files whose journaled bytes can't be read back: what becomes of the others.

import Model
import Synchronization
import Testing

@testable import WriteBack

extension PackingTests {
    /// Files of five bytes each that a start has found in the journal, some of whose bytes can't be read back.
    private func found(_ count: Int, unreadable: Int, _ writeBack: WriteBack<MemorySink>) -> [OpenFileContext] {
        let ids = (1...count).map { FileID(rawValue: UInt64($0)) }
        sink.journal.state.withLock { $0.unreadable = Set(ids.prefix(unreadable)) }
        let files = ids.map { id in
            OpenFileContext(
                attributes: testAttributes(id), sequence: .zero, epochs: epochs,
                journaled: [sink.journal.append(id, 0, WriteSequence(rawValue: 1), [1, 2, 3, 4, 5])])
        }
        for file in files { writeBack.adopt(file) }
        return files
    }

    @Test("a file whose bytes can't be read back is left out for a while, and the others are packed without it")
    func unreadableFile() async throws {
        let writeBack = writeBack()
        let files = found(4, unreadable: 1, writeBack)
        while writeBack.usage.packs < 1 { await Task.yield() }
        #expect(sizes(0) == [5, 5, 2] && packs[0].parts.map(\.file.fileID.rawValue) == [2, 3, 4])
        let failed = writeBack.usage.failedPacks
        #expect(failed >= 1)
        // Whoever asks for it.
        for _ in 0..<Packing.ticksWithoutUnreadable - 1 {
            writeBack.settleJournaled([files[0]])
            writeBack.tick()
        }
        #expect(writeBack.usage.failedPacks == failed && files[0].phase == .resting)
        #expect(sink.state.withLock { $0.lost.isEmpty })
        sink.journal.state.withLock { $0.unreadable = [] }
        writeBack.tick()
        writeBack.settleJournaled([files[0]])
        while !files[0].isClean { await Task.yield() }
        #expect(sink.published(files[0].fileID) == [1, 2, 3, 4, 5])
        #expect(await writeBack.settleAll() == 0)
    }

    @Test("where many can't be read back nothing is packed until a tick; at the end the others are")
    func manyUnreadable() async throws {
        let writeBack = writeBack()
        let files = found(30, unreadable: 20, writeBack)
        func areTried(_ count: Int) async {
            while writeBack.usage.failedPacks < count { await Task.yield() }
            while files.contains(where: \.isTurnComing) { await Task.yield() }
            #expect(writeBack.usage.failedPacks == count)
        }
        await areTried(8)
        writeBack.settleJournaled(files)
        await areTried(8)
        writeBack.tick()
        await areTried(16)
        #expect(writeBack.usage.packs == 0)
        writeBack.tick()
        while files.dropFirst(20).contains(where: { !$0.isClean }) {
            writeBack.settleJournaled(files)
            await Task.yield()
        }
        #expect(writeBack.usage.failedPacks == 20)
        #expect(await writeBack.settleAll() == 0)
        #expect(files.prefix(20).allSatisfy { $0.phase == .resting } && writeBack.usage.openFiles == 20)
    }
}
