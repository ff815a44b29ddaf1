// An open file. Reads and writes carry their offset, so one `File` can be used by several threads; the
// owner sees to it that `close` comes last.

internal import CLinux
internal import Glibc

/// An open file of a `FileSystem`.
open class File: @unchecked Sendable {
    public let path: String
    private let descriptor: Int32
    private var isOpen = true

    /// Takes over the descriptor; the file closes it. A twin without one passes -1 and overrides everything.
    public init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }

    deinit { closeDescriptor() }  // not `close`: a subclass's part of the object is gone by now

    /// Fills `buffer` from `offset`; returns fewer bytes than asked for only at the end of the file.
    open func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(IOError) -> Int {
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            if count < 0 {
                if errno == EINTR { continue }
                throw IOError(code: errno, operation: "pread", path: path)
            }
            if count == 0 { break }
            done += count
        }
        return done
    }

    /// Writes all of `bytes` at `offset`. After an error any part of them may have been written.
    open func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(IOError) {
        var done = 0
        while done < bytes.count {
            let count = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset) + off_t(done))
            if count < 0 {
                if errno == EINTR { continue }
                throw IOError(code: errno, operation: "pwrite", path: path)
            }
            done += count
        }
    }

    /// Makes content and size durable. An error means that it is unknown what is: never retry, give the
    /// file up (Linux marks failed pages clean).
    open func sync() throws(IOError) {
        guard fdatasync(descriptor) == 0 else { throw IOError(code: errno, operation: "fdatasync", path: path) }
    }

    /// A hint: begins writing dirty pages of the range, so that a later `sync` has less to wait for.
    /// Promises nothing and reports nothing.
    open func startWriteback(offset: UInt64, count: UInt64) {
        _ = sync_file_range(descriptor, off_t(offset), off_t(count), SLUICE_SYNC_FILE_RANGE_WRITE)
    }

    open func truncate(to size: UInt64) throws(IOError) {
        guard ftruncate(descriptor, off_t(size)) == 0 else {
            throw IOError(code: errno, operation: "ftruncate", path: path)
        }
    }

    open func size() throws(IOError) -> UInt64 {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw IOError(code: errno, operation: "fstat", path: path) }
        return UInt64(status.st_size)
    }

    /// Further calls are a programmer's error. Closing twice is allowed.
    open func close() { closeDescriptor() }

    private func closeDescriptor() {
        guard isOpen else { return }
        isOpen = false
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
    }
}
