// Verified reads. A chunk can be verified only as a whole, so the whole chunks that a range touches are
// read, into the buffer that the caller gets a slice of.

internal import ErasureCoding
public import Model
public import NIOCore
internal import Platform

extension Volume {
    public func read(
        _ block: BlockID, generationStamp: GenerationStamp, range: ByteRange, expectedLength: UInt64
    ) async throws(BlockReadError) -> ByteBuffer {
        precondition(!range.isEmpty && range.upperBound <= expectedLength)
        return try await run(on: readThread, ifClosed: .inputOutput(closedError)) {
            [self] () throws(BlockReadError) in
            do throws(BlockReadError) {
                return try readVerified(block, generationStamp, range, expectedLength: expectedLength)
            } catch {
                // Perhaps the descriptors are at fault: the next read opens the files anew.
                readDescriptors.remove(block)
                throw error
            }
        }
    }

    private func readVerified(
        _ block: BlockID, _ generationStamp: GenerationStamp, _ range: ByteRange, expectedLength: UInt64
    ) throws(BlockReadError) -> ByteBuffer {
        let chunk = UInt64(Limits.bytesPerChecksum)
        let low = range.lowerBound / chunk * chunk
        let high = min(expectedLength, (range.upperBound + chunk - 1) / chunk * chunk)
        let count = Int(high - low)
        let files = try readDescriptors.files(block, generationStamp)

        var buffer = ByteBufferAllocator().buffer(capacity: count)
        let found: Int
        let checksums: [UInt8]
        do throws(Platform.IOError) {
            found = try buffer.read(count, from: files.data, at: low)
            checksums = try files.checksums.readBytes(
                count: ChecksumFile.chunks(count) * ChecksumFile.checksumBytes,
                at: ChecksumFile.position(ofChunkAt: low))
        } catch {
            throw .inputOutput(error)
        }
        guard found == count else { throw .tooShort(length: low + UInt64(found)) }
        guard checksums.count == ChecksumFile.chunks(count) * ChecksumFile.checksumBytes else {
            throw .damagedChecksums
        }
        let mismatch = buffer.withUnsafeReadableBytes { bytes in
            checksums.withUnsafeBytes { ChecksumFile.firstMismatch(bytes, checksums: $0) }
        }
        if let mismatch { throw .corrupt(offset: low + UInt64(mismatch)) }
        buffer.moveReaderIndex(forwardBy: Int(range.lowerBound - low))
        buffer.moveWriterIndex(to: Int(range.upperBound - low))
        return buffer
    }
}

extension ByteBuffer {
    /// Appends up to `count` bytes of the file; fewer only at its end.
    fileprivate mutating func read(_ count: Int, from file: File, at offset: UInt64) throws(Platform.IOError) -> Int {
        try writeWithUnsafeMutableBytes(minimumWritableBytes: count) { memory throws(Platform.IOError) in
            try file.read(into: UnsafeMutableRawBufferPointer(rebasing: memory[..<count]), at: offset)
        }
    }
}
