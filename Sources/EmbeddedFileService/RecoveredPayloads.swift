// The bytes that were promised and are not striped yet, as the log says at a start: what of the journal's payload counts.
//
// Payload is put into the log in order with truncates, removals and the records that publish extents. So whatever supersedes
// a byte comes later in the log: a smaller size, the removal of the file, an extent or a payload with a higher sequence.
// Sizes and removals are taken note of while the log is gone through; extents are looked at when the file is opened, as the
// file's own then say so; of payloads the one with the highest sequence is on top among pending writes anyway.
//
// What is left becomes pending writes of its file when that is opened; until then it waits here. Nothing is read but the
// log, so a start takes as long as reading the log does.
//
// Lock order: `state` is a leaf; claims are let go after it is released.

internal import Journal
internal import Model
internal import Namespace
internal import Synchronization

/// What the journal holds for files that nobody has opened since the start. Thread-safe.
final class RecoveredPayloads: Sendable {
    /// Of one file.
    fileprivate struct Payloads {
        /// In the order of the log.
        var claims: [JournaledBytes] = []
        /// What the file was truncated to, and how many of the claims were there before.
        var truncates: [(claimCount: Int, size: UInt64)] = []
        /// Where the last of the claims ends at most.
        var end: UInt64 = 0
    }
    private let state: Mutex<[FileID: Payloads]>

    init(_ scan: consuming Scan = Scan()) { state = Mutex(scan.files) }

    /// The bytes of a file that count, to be its pending writes; the caller has them from now on.
    /// - Parameter extents: all of the file.
    func take(_ file: FileID, extents: ExtentMap) -> [JournaledBytes] {
        guard let payloads = state.withLock({ $0.removeValue(forKey: file) }) else { return [] }
        return payloads.current(over: extents)
    }

    /// Whether there may be something of this file.
    func contains(_ file: FileID) -> Bool { state.withLock { $0[file] != nil } }

    /// Some of the files.
    func files(limit: Int) -> [FileID] { state.withLock { Array($0.keys.prefix(limit)) } }

    /// Files.
    var count: Int { state.withLock { $0.count } }

    /// Goes through the log once, in order.
    struct Scan {
        fileprivate var files: [FileID: Payloads] = [:]

        init() {}

        /// - Parameter record: of the entry; nil if it has none.
        mutating func visit(_ record: MetadataRecord?, payloads: [JournaledBytes]) {
            for mutation in record?.mutations ?? [] {
                switch mutation {
                case .removeInode(let file): files[file] = nil
                case .putInode(let inode):
                    // A recorded size is never below what was journaled before, but by a truncate.
                    if let end = files[inode.id]?.end, inode.size < end { files[inode.id]?.truncate(to: inode.size) }
                default: break
                }
            }
            for payload in payloads { files[payload.file, default: Payloads()].append(payload) }
        }
    }
}

extension RecoveredPayloads.Payloads {
    fileprivate mutating func append(_ claim: JournaledBytes) {
        claims.append(claim)
        end = max(end, claim.range.upperBound)
    }

    fileprivate mutating func truncate(to size: UInt64) {
        truncates.append((claims.count, size))
        end = size
    }

    /// What of the claims is neither truncated nor published.
    fileprivate func current(over extents: ExtentMap) -> [JournaledBytes] {
        var result: [JournaledBytes] = []
        // The lowest size after each claim, from the last one to the first.
        var size = UInt64.max
        var rest = truncates[...]
        for index in claims.indices.reversed() {
            while let last = rest.last, last.claimCount > index {
                size = min(size, last.size)
                rest.removeLast()
            }
            let claim = claims[index]
            guard let kept = claim.range.intersection(ByteRange(0, size)) else { continue }
            var position = kept.lowerBound
            func keep(upTo end: UInt64) {
                if position < end { result.append(claim.part(ByteRange(position, end))) }
            }
            for extent in extents.overlapping(kept) where extent.sequence >= claim.sequence {
                keep(upTo: extent.range.lowerBound)
                position = extent.range.upperBound
            }
            keep(upTo: kept.upperBound)
        }
        return result
    }
}
