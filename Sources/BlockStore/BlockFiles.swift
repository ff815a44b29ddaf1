// Where the files of a block are in a volume, named as HDFS names them:
//
//     <volume>/superblock
//     <volume>/blocks/<00 … ff>/blk_<id>
//     <volume>/blocks/<00 … ff>/blk_<id>_<generation stamp>.meta
//     <volume>/metadata/
//     <volume>/journal/
//
// 256 groups in a row share a subdirectory, so that the names of groups that are written together are
// made durable together, and a subdirectory of a volume with 64 TiB (half a million blocks) has 4096 files.

internal import Model
internal import Platform

enum BlockFiles {
    /// A simulation starts stores by the thousand, and each start lists all of them.
    static let subdirectoryCount = ThreadScheduler.installed == nil ? 256 : 2

    static func blocksDirectory(_ volumeDirectory: String) -> String { volumeDirectory + "/blocks" }

    static func metadataDirectory(_ volumeDirectory: String) -> String { volumeDirectory + "/metadata" }

    static func journalDirectory(_ volumeDirectory: String) -> String { volumeDirectory + "/journal" }

    static func subdirectory(_ volumeDirectory: String, number: Int) -> String {
        let digits = String(number, radix: 16)
        return blocksDirectory(volumeDirectory) + (digits.count == 1 ? "/0" : "/") + digits
    }

    static func subdirectory(_ volumeDirectory: String, of block: BlockID) -> String {
        subdirectory(volumeDirectory, number: Int(block.group.ordinal / 256 % UInt64(subdirectoryCount)))
    }

    static func dataName(_ block: BlockID) -> String { "blk_\(block.rawValue)" }

    static func metaName(_ block: BlockID, _ generationStamp: GenerationStamp) -> String {
        "blk_\(block.rawValue)_\(generationStamp.rawValue).meta"
    }

    /// What a name in a subdirectory stands for.
    enum Name: Hashable {
        case data(BlockID)
        case meta(BlockID, GenerationStamp)
    }

    /// nil for names that are not a block's.
    static func parse(_ name: String) -> Name? {
        guard name.hasPrefix("blk_") else { return nil }
        if let id = Int64(name.dropFirst(4)) {
            let block = BlockID(rawValue: id)
            return dataName(block) == name ? .data(block) : nil
        }
        guard name.hasSuffix(".meta") else { return nil }
        let parts = name.dropFirst(4).dropLast(5).split(separator: "_", omittingEmptySubsequences: false)
        guard parts.count == 2, let id = Int64(parts[0]), let stamp = UInt64(parts[1]) else { return nil }
        let (block, generationStamp) = (BlockID(rawValue: id), GenerationStamp(rawValue: stamp))
        return metaName(block, generationStamp) == name ? .meta(block, generationStamp) : nil
    }
}
