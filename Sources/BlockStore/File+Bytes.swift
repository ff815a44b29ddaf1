// Files and Swift arrays, for the small things: superblocks and checksums.

internal import Platform

extension File {
    /// Up to `count` bytes from `offset`; fewer only at the end of the file.
    func readBytes(count: Int, at offset: UInt64) throws(IOError) -> [UInt8] {
        var failure: IOError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { memory, initialized in
            do throws(IOError) {
                initialized = try read(into: UnsafeMutableRawBufferPointer(memory), at: offset)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    func write(_ bytes: [UInt8], at offset: UInt64) throws(IOError) {
        let result = bytes.withUnsafeBytes { bytes in
            Result { () throws(IOError) in try write(bytes, at: offset) }
        }
        try result.get()
    }
}
