// The files of a volume that are kept open for reading, the least recently used ones closed first.
// Touched only on the volume's read thread.

internal import Model
internal import Platform

final class ReadDescriptors: @unchecked Sendable {
    struct Files {
        let data: File
        let checksums: File
        fileprivate let generationStamp: GenerationStamp
        fileprivate var lastUse: UInt64
    }

    private let volumeDirectory: String
    private let fileSystem: FileSystem
    private let maxBlocks: Int
    private var files: [BlockID: Files] = [:]
    private var uses: UInt64 = 0

    init(volumeDirectory: String, fileSystem: FileSystem, maxBlocks: Int) {
        precondition(maxBlocks > 0)
        self.volumeDirectory = volumeDirectory
        self.fileSystem = fileSystem
        self.maxBlocks = maxBlocks
    }

    /// The files of a block, opened when they are not. The header of the checksum file has been checked.
    func files(_ block: BlockID, _ generationStamp: GenerationStamp) throws(BlockReadError) -> Files {
        uses += 1
        if var found = files[block], found.generationStamp == generationStamp {
            found.lastUse = uses
            files[block] = found
            return found
        }
        let directory = BlockFiles.subdirectory(volumeDirectory, of: block) + "/"
        let opened: Files
        let header: [UInt8]
        do throws(IOError) {
            opened = Files(
                data: try fileSystem.open(directory + BlockFiles.dataName(block), .read),
                checksums: try fileSystem.open(directory + BlockFiles.metaName(block, generationStamp), .read),
                generationStamp: generationStamp, lastUse: uses)
            header = try opened.checksums.readBytes(count: ChecksumFile.header.count, at: 0)
        } catch {
            throw error.isNotFound ? .missing : .inputOutput(error)
        }
        guard header == ChecksumFile.header else { throw .damagedChecksums }
        if files.count >= maxBlocks, let oldest = files.min(by: { $0.value.lastUse < $1.value.lastUse }) {
            // A scan of a hundred entries is nothing beside the two files that are opened.
            remove(oldest.key)
        }
        remove(block)
        files[block] = opened
        return opened
    }

    func remove(_ block: BlockID) {
        guard let removed = files.removeValue(forKey: block) else { return }
        removed.data.close()
        removed.checksums.close()
    }

    func removeAll() {
        for block in Array(files.keys) { remove(block) }
    }
}
