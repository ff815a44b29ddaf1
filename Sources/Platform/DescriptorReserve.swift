// One descriptor that is kept for the moment when the process, or the machine, has no other: what must be written then
// is small but decides whether the store goes on. The reserve is an open file that nobody reads; it is closed, and what
// has failed for want of a descriptor is tried again in its place.
//
// Another thread may be quicker to take the descriptor that was given back. So the attempts are repeated for a short
// time; those that hold many of them, connections and reads, also let go of some all the time.
//
// Lock order: `file` is a leaf; no file is opened or closed while it is held.

internal import Glibc
internal import Synchronization

/// Keeps a descriptor, and lends it. May be used by several threads, but one that lends is not helped by what another
/// one has borrowed.
public final class DescriptorReserve: Sendable {
    private let fileSystem: FileSystem
    private let paths: [String]
    private let file = Mutex<File?>(nil)

    private static let attempts = 10
    private static let pauseMicroseconds: UInt32 = 10_000

    /// - Parameter paths: files that can be opened for reading; the first that can be is kept open.
    public init(paths: [String], fileSystem: FileSystem) {
        self.paths = paths
        self.fileSystem = fileSystem
    }

    /// Takes a descriptor for the reserve, if it has none and there is one.
    public func fill() {
        guard !isFull else { return }
        for path in paths {
            // What can't be opened now is looked for again the next time.
            guard let opened = try? fileSystem.open(path, .read) else { continue }
            let surplus = file.withLock { file in
                guard file == nil else { return File?(opened) }
                file = opened
                return nil
            }
            surplus?.close()
            return
        }
    }

    /// Whether there is something to lend.
    public var isFull: Bool { file.withLock { $0 != nil } }

    /// Runs `body`, which opens one file at a time. When it can't for want of a descriptor, gives the reserve back and
    /// runs it again, several times. It must be allowed to run again after such an error.
    public func lend<Value>(_ body: () throws(IOError) -> Value) throws(IOError) -> Value {
        do throws(IOError) {
            return try body()
        } catch {
            guard error.isDescriptorShortage else { throw error }
        }
        defer { fill() }
        for _ in 1..<Self.attempts {
            release()
            do throws(IOError) {
                return try body()
            } catch {
                guard error.isDescriptorShortage else { throw error }
            }
            usleep(Self.pauseMicroseconds)
        }
        return try body()
    }

    /// Closes what is kept. `lend` still works, but has nothing to give.
    public func release() {
        let kept = file.withLock { file in
            defer { file = nil }
            return file
        }
        kept?.close()
    }
}
