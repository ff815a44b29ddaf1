// Appends to one internal block on a volume. Data goes into the data file, the checksums of its chunks into
// the checksum file beside it; both only ever grow. The files are made with the first packet.
//
// All variables are touched only on the volume's write thread. After an error the files are in an unknown
// state beyond what was durable, so the writer does nothing more: a failed sync is never retried, since
// Linux marks failed pages clean.

internal import ErasureCoding
internal import Model
internal import Platform

/// Writes an internal block of a `Volume`.
public final class VolumeBlockWriter: BlockWriter, @unchecked Sendable {
    private let volume: Volume
    private let block: BlockID
    private let generationStamp: GenerationStamp

    private var files: (data: File, checksums: File)?
    private var length: UInt64 = 0
    private var durableLength: UInt64 = 0
    private var isNameDurable = false
    private var writebackOffset: UInt64 = 0
    private var failure: BlockWriteError?
    private var isEnded = false

    /// Dirty pages are handed to the disk in pieces of this size, so that a sync finds few of them. Large
    /// enough for a disk to write it in one go.
    private static let writebackBytes: UInt64 = 4 << 20

    init(volume: Volume, block: BlockID, generationStamp: GenerationStamp) {
        self.volume = volume
        self.block = block
        self.generationStamp = generationStamp
    }

    public func append(_ packet: BlockPacket?, sync: Bool, completion: @escaping Completion) {
        submit(completion) { writer throws(IOError) in
            if let packet { try writer.write(packet) }
            if sync { try writer.sync() }
        }
    }

    public func finalize(completion: @escaping Completion) {
        submit(completion) { writer throws(IOError) in
            try writer.sync()
            writer.end()
        }
    }

    public func abort() {
        volume.writeThread.submit { self.end() }
    }

    private func submit(
        _ completion: @escaping Completion,
        _ work: @escaping @Sendable (VolumeBlockWriter) throws(IOError) -> Void
    ) {
        let isQueued = volume.writeThread.submit { completion(self.perform(work)) }
        if !isQueued { completion(.failure(.targetFailed(.closed))) }
    }

    private func perform(
        _ work: (VolumeBlockWriter) throws(IOError) -> Void
    ) -> Result<BlockAcknowledgement, BlockWriteError> {
        if let failure { return .failure(failure) }
        precondition(!isEnded, "\(block) was ended")
        if case .failed(let failure) = volume.state { return fail(.targetFailed(failure)) }
        do throws(IOError) {
            try work(self)
            return .success(BlockAcknowledgement(length: length, durableLength: durableLength))
        } catch {
            if error.isOutOfSpace || error.isShortage { return fail(.noSpace(error)) }
            if error.isAlreadyThere { return fail(.alreadyExists(block)) }
            volume.fail(.inputOutput(error))
            return fail(.targetFailed(.inputOutput(error)))
        }
    }

    private func fail(_ error: BlockWriteError) -> Result<BlockAcknowledgement, BlockWriteError> {
        failure = error
        end()
        return .failure(error)
    }

    private func end() {
        isEnded = true
        files?.data.close()
        files?.checksums.close()
        files = nil
    }

    private func write(_ packet: BlockPacket) throws(IOError) {
        precondition(length % UInt64(Limits.bytesPerChecksum) == 0, "only a block's last packet may end in a chunk")
        let bytes = UnsafeRawBufferPointer(rebasing: packet.buffer.bytes[..<packet.count])
        let files: (data: File, checksums: File)
        if let open = self.files {
            files = open
        } else {
            files = try create()
            self.files = files
        }
        if length == 0 {
            try files.checksums.write(ChecksumFile.checksums(of: bytes, after: ChecksumFile.header), at: 0)
        } else {
            try files.checksums.write(
                ChecksumFile.checksums(of: bytes), at: ChecksumFile.position(ofChunkAt: length))
        }
        try files.data.write(bytes, at: length)
        length += UInt64(packet.count)
        if length - writebackOffset >= Self.writebackBytes {
            files.data.startWriteback(offset: writebackOffset, count: length - writebackOffset)
            writebackOffset = length
        }
    }

    private func create() throws(IOError) -> (data: File, checksums: File) {
        let directory = BlockFiles.subdirectory(volume.directory, of: block) + "/"
        let data = try volume.fileSystem.open(directory + BlockFiles.dataName(block), .createNew)
        let checksums = try volume.fileSystem.open(
            directory + BlockFiles.metaName(block, generationStamp), .createNew)
        return (data, checksums)
    }

    private func sync() throws(IOError) {
        guard let files, durableLength < length else { return }
        try files.data.sync()
        try files.checksums.sync()
        if !isNameDurable {
            try volume.fileSystem.syncDirectory(BlockFiles.subdirectory(volume.directory, of: block))
            isNameDurable = true
        }
        durableLength = length
        writebackOffset = length
    }
}
