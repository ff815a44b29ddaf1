// An open file of a `SimulatedFileSystem`. All state is the file system's; a file only knows its node.

internal import Glibc
public import Platform
internal import Synchronization

/// An open file of a `SimulatedFileSystem`.
public final class SimulatedFile: File, @unchecked Sendable {
    private let disk: SimulatedFileSystem
    private let node: SimulatedNode
    private let isWritable: Bool
    private let isOpen = Atomic(true)

    init(path: String, disk: SimulatedFileSystem, node: SimulatedNode, isWritable: Bool) {
        self.disk = disk
        self.node = node
        self.isWritable = isWritable
        super.init(path: path, descriptor: -1)
    }

    public override func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(IOError) -> Int {
        let target = Borrowed(value: buffer)
        return try disk.call(.read, path, "pread", at: offset, bytes: UnsafeRawBufferPointer(buffer)) {
            _ throws(IOError) in
            guard offset < UInt64(self.node.content.count) else { return 0 }
            let count = min(target.value.count, self.node.content.count - Int(offset))
            self.node.content.withUnsafeBytes { content in
                target.value.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: content[Int(offset)..<Int(offset) + count]))
            }
            return count
        }
    }

    public override func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(IOError) {
        let source = Borrowed(value: bytes)
        let write: (Int) -> Void = { count in
            self.node.write(UnsafeRawBufferPointer(rebasing: source.value.prefix(max(0, count))), at: Int(offset))
        }
        try disk.call(.write, path, "pwrite", at: offset, bytes: bytes, failing: { write($0) }) {
            state throws(IOError) in
            guard self.isWritable else { throw IOError(code: EBADF, operation: "pwrite", path: self.path) }
            let size = self.node.content.count
            let growth = max(0, Int(offset) + source.value.count - size)
            let room = growth == 0 ? 0 : state.room(for: self.path)
            // As on a real disk: what fits is written, then the call fails.
            write(growth <= room ? source.value.count : size + room - Int(offset))
            guard growth <= room else { throw IOError(code: ENOSPC, operation: "pwrite", path: self.path) }
        }
    }

    public override func sync() throws(IOError) {
        try disk.call(.sync, path, "fdatasync") { state throws(IOError) in
            if !state.ignoresSync { self.node.sync() }
        }
    }

    public override func startWriteback(offset: UInt64, count: UInt64) {
        // The call reports nothing, so a fault of it has nobody to tell.
        try? disk.call(.startWriteback, path, "sync_file_range") { _ throws(IOError) in }
    }

    public override func truncate(to size: UInt64) throws(IOError) {
        try disk.call(.truncate, path, "ftruncate", at: size) { _ throws(IOError) in
            guard self.isWritable else { throw IOError(code: EINVAL, operation: "ftruncate", path: self.path) }
            self.node.truncate(to: Int(size))
        }
    }

    public override func size() throws(IOError) -> UInt64 {
        try disk.call(.size, path, "fstat") { _ throws(IOError) in UInt64(self.node.content.count) }
    }

    deinit { giveBack() }

    public override func close() { giveBack() }

    private func giveBack() {
        if isOpen.exchange(false, ordering: .relaxed) { disk.fileWasClosed() }
    }
}

/// Takes a pointer of the caller into a closure that ends before the call does.
private struct Borrowed<Pointer>: @unchecked Sendable { let value: Pointer }
