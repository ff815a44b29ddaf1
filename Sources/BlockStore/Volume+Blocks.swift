// The blocks of a volume as a whole: what is there, and taking them away.

public import Model
public import Platform

/// A block, or what is left of one, as its names and sizes tell; nothing has been verified.
public struct StoredBlock: Hashable, Sendable {
    public let block: BlockID
    /// nil when there is no checksum file.
    public let generationStamp: GenerationStamp?
    /// Bytes of data; nil when there is no data file.
    public let length: UInt64?

    public init(block: BlockID, generationStamp: GenerationStamp?, length: UInt64?) {
        self.block = block
        self.generationStamp = generationStamp
        self.length = length
    }
}

extension Volume {
    /// `listBlocks(inSubdirectory:)` takes 0 ..< this.
    public static var subdirectoryCount: Int { BlockFiles.subdirectoryCount }

    /// The blocks in one of the volume's subdirectories, in order of id and stamp, so that a caller who wants all
    /// needn't hold all. A block with several checksum files is listed once for each.
    public func listBlocks(inSubdirectory number: Int) async throws(IOError) -> [StoredBlock] {
        precondition(number >= 0 && number < BlockFiles.subdirectoryCount)
        return try await run(on: readThread, ifClosed: closedError) { [self] () throws(IOError) in
            let directory = BlockFiles.subdirectory(self.directory, number: number)
            var lengths: [BlockID: UInt64] = [:]
            var stamps: [BlockID: [GenerationStamp]] = [:]
            for name in try fileSystem.list(directory) {
                switch BlockFiles.parse(name) {
                case .data(let block):
                    // nil: deleted since it was listed.
                    lengths[block] = try fileSystem.status(directory + "/" + name)?.size
                case .meta(let block, let stamp):
                    stamps[block, default: []].append(stamp)
                case nil:
                    break
                }
            }
            let blocks = Set(lengths.keys).union(stamps.keys).sorted()
            return blocks.flatMap { block in
                let found: [GenerationStamp?] = stamps[block]?.sorted() ?? [nil]
                return found.map { StoredBlock(block: block, generationStamp: $0, length: lengths[block]) }
            }
        }
    }

    /// Removes the files of a block, also when only some of them are there. Not synced: after a power cut
    /// they may be back, and are then blocks that nobody knows.
    public func delete(_ block: BlockID, generationStamp: GenerationStamp) async throws(IOError) {
        try await run(on: writeThread, ifClosed: closedError) { [self] () throws(IOError) in
            try removeFiles(block, generationStamp)
        }
    }

    /// On the write thread.
    func removeFiles(_ block: BlockID, _ generationStamp: GenerationStamp) throws(IOError) {
        let directory = BlockFiles.subdirectory(self.directory, of: block) + "/"
        forgetReadDescriptors(block)
        for name in [BlockFiles.dataName(block), BlockFiles.metaName(block, generationStamp)] {
            do throws(IOError) {
                try fileSystem.remove(directory + name)
            } catch {
                guard error.isNotFound else { throw error }
            }
        }
    }

    /// After files of a block were removed or replaced. A read that is queued before this gets the old ones.
    func forgetReadDescriptors(_ block: BlockID) {
        readThread.submit { [readDescriptors] in readDescriptors.remove(block) }
    }
}
