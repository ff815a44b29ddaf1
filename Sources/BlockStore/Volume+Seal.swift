// Sealing a block that was open when the gateway died or its stream was given up: what was published of it
// stays, what was appended after that goes.
//
// What was published was synced before, data and checksums. The end of it is verified here, where a disk that lied
// about syncs would have lost something; the rest is verified by whoever reads it, and by the scanner: a start must not
// read all that was being written. Only the checksum of the last chunk may have to be made anew, when the block goes
// on within that chunk.
//
// Crash safety: the new checksum file replaces the old one by rename before the data is cut, and is valid
// for the longer data as far as it goes; so a second run after a crash at any point finds what it needs.

internal import ErasureCoding
public import Model
internal import Platform

/// Why a block could not be sealed. Nothing has been cut then.
public enum BlockSealError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was published is not there any more, or not as it was: the block is to be reconstructed.
    case unreadable(BlockReadError)
    /// The volume takes no writes, or has no room.
    case notWritable(BlockWriteError)

    public var description: String {
        switch self {
        case .unreadable(let error): error.description
        case .notWritable(let error): error.description
        }
    }
}

extension Volume {
    /// Cuts a block to its published length; durable on return. A length of 0 removes it. May be repeated.
    public func sealAfterCrash(
        _ block: BlockID, generationStamp: GenerationStamp, length: UInt64
    ) async throws(BlockSealError) {
        try await run(on: writeThread, ifClosed: .notWritable(.targetFailed(.closed))) {
            [self] () throws(BlockSealError) in
            if case .failed(let failure) = state { throw .notWritable(.targetFailed(failure)) }
            let checksums: [UInt8]
            do throws(BlockReadError) {
                checksums = length == 0 ? [] : try verifiedChecksums(block, generationStamp, length: length)
            } catch {
                throw .unreadable(error)
            }
            do throws(IOError) {
                if length == 0 {
                    try removeFiles(block, generationStamp)
                } else {
                    try cut(block, generationStamp, length: length, checksums: checksums)
                }
            } catch {
                if error.isOutOfSpace || error.isShortage { throw .notWritable(.noSpace(error)) }
                fail(.inputOutput(error))
                throw .notWritable(.targetFailed(.inputOutput(error)))
            }
        }
    }

    /// The checksum file's content for the first `length` bytes of the block, the last of which were verified.
    private func verifiedChecksums(
        _ block: BlockID, _ generationStamp: GenerationStamp, length: UInt64
    ) throws(BlockReadError) -> [UInt8] {
        let chunk = UInt64(Limits.bytesPerChecksum)
        let wholeChunks = length / chunk * chunk
        let checksumFileCount = Int(ChecksumFile.position(ofChunkAt: length + chunk - 1))
        let size: UInt64
        var checksums: [UInt8]
        var mismatch: UInt64?
        let lastChunk: [UInt8]
        do throws(IOError) {
            let directory = BlockFiles.subdirectory(self.directory, of: block) + "/"
            let data = try fileSystem.open(directory + BlockFiles.dataName(block), .read)
            defer { data.close() }
            let file = try fileSystem.open(directory + BlockFiles.metaName(block, generationStamp), .read)
            defer { file.close() }
            size = try data.size()
            checksums = try file.readBytes(count: checksumFileCount, at: 0)
            if size >= length, checksums.count == checksumFileCount {
                mismatch = try Self.firstMismatch(data, length: wholeChunks, checksums: checksums)
            }
            lastChunk = length == wholeChunks ? [] : try data.readBytes(count: Int(chunk), at: wholeChunks)
        } catch {
            throw error.isNotFound ? .missing : .inputOutput(error)
        }
        guard size >= length else { throw .tooShort(length: size) }
        guard checksums.count == checksumFileCount, checksums.starts(with: ChecksumFile.header) else {
            throw .damagedChecksums
        }
        if let mismatch { throw .corrupt(offset: mismatch) }
        if length > wholeChunks {
            // The chunk goes on beyond the cut, or did before an earlier run that was interrupted.
            let stored = Array(checksums.suffix(ChecksumFile.checksumBytes))
            let kept = Array(lastChunk.prefix(Int(length - wholeChunks)))
            let cut = kept.withUnsafeBytes { ChecksumFile.checksums(of: $0) }
            let whole = lastChunk.withUnsafeBytes { ChecksumFile.checksums(of: $0) }
            guard kept.count == Int(length - wholeChunks), stored == cut || stored == whole else {
                throw .corrupt(offset: wholeChunks)
            }
            checksums.replaceSubrange((checksumFileCount - ChecksumFile.checksumBytes)..., with: cut)
        }
        return checksums
    }

    /// As large as HDFS's cells, and a multiple of the chunk: what a sync at the end of a stripe made durable last.
    private static let verifiedBytes: UInt64 = 1 << 20

    /// The first chunk among the last of the first `length` bytes of `data` that doesn't have its checksum.
    private static func firstMismatch(
        _ data: File, length: UInt64, checksums: [UInt8]
    ) throws(IOError) -> UInt64? {
        let offset = length - min(length, verifiedBytes)
        guard length > offset else { return nil }
        let bytes = try data.readBytes(count: Int(length - offset), at: offset)
        let position = Int(ChecksumFile.position(ofChunkAt: offset))
        let mismatch = bytes.withUnsafeBytes { bytes in
            checksums[position...].withUnsafeBytes { ChecksumFile.firstMismatch(bytes, checksums: $0) }
        }
        if let mismatch { return offset + UInt64(mismatch) }
        return bytes.count < Int(length - offset) ? offset + UInt64(bytes.count) : nil
    }

    private func cut(
        _ block: BlockID, _ generationStamp: GenerationStamp, length: UInt64, checksums: [UInt8]
    ) throws(IOError) {
        let directory = BlockFiles.subdirectory(self.directory, of: block)
        let checksumPath = directory + "/" + BlockFiles.metaName(block, generationStamp)
        let temporary = checksumPath + ".new"
        forgetReadDescriptors(block)
        let file = try fileSystem.open(temporary, .createOrOpen)
        defer { file.close() }
        try file.truncate(to: 0)
        try file.write(checksums, at: 0)
        try file.sync()
        try fileSystem.rename(temporary, to: checksumPath)
        try fileSystem.syncDirectory(directory)

        let data = try fileSystem.open(directory + "/" + BlockFiles.dataName(block), .readWrite)
        defer { data.close() }
        try data.truncate(to: length)
        try data.sync()
    }
}
