// What is in the journal, for tests: how much there is, and getting it to where it belongs.

import FileService
import Journal
import Model
import Testing

@testable import EmbeddedFileService
@testable import Namespace
@testable import WriteBack

extension SimulatedStore {
    /// For tests whose clock goes by leaps: no disk of theirs ever hangs.
    static let endlessPatience = Duration.seconds(1 << 40)

    /// The write state of a file.
    func context(of file: FileReference) async throws -> OpenFileContext {
        try await core.node(of: file).regularContext()
    }

    /// Bytes of a file that are in the journal and not striped.
    func journaledBytes(of file: FileReference) async throws -> Int {
        try await context(of: file).snapshot(ByteRange(0, 1 << 62)).pending
            .reduce(0) { $0 + ($1.bytes.isJournaled ? $1.bytes.count : 0) }
    }

    /// Has all that is pending of a file striped, whether that makes full stripes or not.
    func stripe(
        _ file: FileReference, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let context = try await context(of: file)
        await eventually("the file is striped", sourceLocation: sourceLocation) {
            service.writeBack.settle(context)
            service.writeBack.settleJournaled([context])
            return context.isClean
        }
    }

    /// Has all that is pending of all files striped, also of those that nobody has opened since the start, and what it
    /// came to applied to the mirrors. Time stands still.
    func stripeEverything(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let writeBack = service.writeBack
        await eventually("everything is striped", sourceLocation: sourceLocation) {
            service.settleIdleFiles()
            let contexts = core.nodes.all.compactMap(\.context)
            for context in contexts { writeBack.settle(context) }
            writeBack.settleJournaled(contexts)
            return core.recovered.count == 0 && writeBack.usage.openFiles == 0
        }
        try await core.namespace.applyNow()
    }

    /// All block groups that the namespace names.
    func blockGroups() async throws -> [BlockGroup] {
        try await core.transact { transaction throws(FileError) in
            try transaction.groupRows(after: nil, limit: .max)
        }
    }
}
