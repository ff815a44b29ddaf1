// Block groups that are being appended to: those of one file, and those that files share (packing groups).
//
// A file has a group of its own once it is worth one; what comes before, and the tails of files that rest, goes into groups
// that they share. Any drain may take a shared group that nobody uses at the moment, and gives it back at a stripe boundary.
//
// Lock order: `state` is a leaf.

internal import BlockStore
internal import Model
internal import Namespace
internal import Striping
internal import Synchronization

/// A group that drains append to, one at a time.
final class GroupOutput: @unchecked Sendable {
    let stream: StripedOutputStream<Volume>
    /// The row as it will be recorded, apart from length, seal and live bytes.
    let row: BlockGroup
    /// Bytes that may be appended in all.
    let capacity: UInt64
    /// Whether the namespace has the row.
    var isRecorded = false

    init(stream: StripedOutputStream<Volume>, row: BlockGroup, capacity: UInt64) {
        self.stream = stream
        self.row = row
        self.capacity = capacity
    }

    /// Bytes that may still be appended.
    var remaining: UInt64 { min(stream.remaining, capacity - min(capacity, stream.length)) }

    func carryOut(
        _ work: (StripedOutputStream<Volume>) async throws(StripingError) -> Void
    ) async throws(DrainFailure) {
        do throws(StripingError) {
            try await work(stream)
        } catch {
            guard case .targetsFailed(let failures) = error else {
                preconditionFailure("a stream that has begun fails by its targets")
            }
            throw .targets(failures, locations: row.locations)
        }
    }
}

/// The groups that are open between drains. May be used from any thread.
final class GroupOutputs: Sendable {
    private struct State {
        var own: [FileID: GroupOutput] = [:]
        /// Those that no drain uses now.
        var shared: [GroupOutput] = []
    }
    private let state = Mutex(State())

    /// A file's own group.
    subscript(file: FileID) -> GroupOutput? {
        get { state.withLock { $0.own[file] } }
        set { state.withLock { $0.own[file] = newValue } }
    }

    func take(_ file: FileID) -> GroupOutput? { state.withLock { $0.own.removeValue(forKey: file) } }

    /// One that the caller alone uses until it gives it back or ends it: the fullest, so that few stay open.
    func takeShared() -> GroupOutput? {
        state.withLock { state in
            guard let index = state.shared.indices.min(by: { state.shared[$0].remaining < state.shared[$1].remaining })
            else { return nil }
            return state.shared.remove(at: index)
        }
    }

    func giveBack(_ output: GroupOutput) { state.withLock { $0.shared.append(output) } }

    /// Those of the groups that files share that no drain uses now and `isTaken` says so of.
    func takeShared(where isTaken: (GroupOutput) -> Bool) -> [GroupOutput] {
        state.withLock { state in
            let taken = state.shared.filter(isTaken)
            state.shared.removeAll { output in taken.contains { $0 === output } }
            return taken
        }
    }

    var count: Int { state.withLock { $0.own.count + $0.shared.count } }
}
