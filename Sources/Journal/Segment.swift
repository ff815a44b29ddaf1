// A segment of the log that is still needed: where its replicas are, how far it goes, and who claims bytes in it.
//
// A replica is complete when it holds all groups up to `end`. One that isn't, or that has given back something else than
// was written, is kept as long as the segment: it may hold the only copy of something.
//
// Lock order: `state` is taken alone; nothing is called while it is held.

internal import ErasureCoding
internal import Model
internal import Platform
internal import Synchronization

internal import struct NIOCore.ByteBuffer

/// Thread-safe.
final class Segment: Sendable {
    struct Replica: Sendable {
        let slot: Slot
        var isComplete: Bool
    }

    private struct State {
        var replicas: [Replica] = []
        /// Behind the last group that counts.
        var end: UInt64
        /// Of the last entry; that before `firstNumber` if there is none.
        var lastNumber: UInt64
        var claims: [FileID: Int] = [:]
        /// Called when the last claim is let go.
        var onUnclaimed: (@Sendable () -> Void)?
    }

    let header: SegmentHeader
    let storeID: StoreID
    /// What it takes on each disk.
    let slotBytes: UInt64
    private let state: Mutex<State>

    var identity: SegmentIdentity { header.identity }
    var number: UInt64 { header.identity.number }

    init(_ header: SegmentHeader, _ storeID: StoreID, slotBytes: UInt64, replicas: [Replica]) {
        self.header = header
        self.storeID = storeID
        self.slotBytes = slotBytes
        state = Mutex(
            State(
                replicas: replicas, end: UInt64(SegmentFormat.unit),
                lastNumber: header.firstNumber.rawValue &- 1))
    }

    // MARK: How far it goes

    var end: UInt64 { state.withLock { $0.end } }
    var lastNumber: UInt64 { state.withLock { $0.lastNumber } }
    var hasGroups: Bool { end > UInt64(SegmentFormat.unit) }

    func extend(by group: GroupHeader) {
        state.withLock {
            $0.end = group.position + UInt64(group.byteCount)
            $0.lastNumber = group.nextNumber.rawValue &- 1
        }
    }

    /// What is at or beyond `limit` is void.
    func clip(to limit: LogNumber) { state.withLock { $0.lastNumber = min($0.lastNumber, limit.rawValue &- 1) } }

    // MARK: Replicas

    var replicas: [Replica] { state.withLock { $0.replicas } }

    /// Those worth reading from, best first.
    var readableReplicas: [Slot] {
        let replicas = replicas
        let isGood = replicas.map { $0.isComplete && $0.slot.directory.isUsable }
        return zip(replicas, isGood).filter(\.1).map(\.0.slot) + zip(replicas, isGood).filter { !$0.1 }.map(\.0.slot)
    }

    /// The volumes that hold all of it and may be relied on.
    var volumes: [VolumeID] {
        replicas.filter { $0.isComplete && $0.slot.directory.isUsable }.map(\.slot.directory.id)
    }

    func add(_ slot: Slot) { state.withLock { $0.replicas.append(Replica(slot: slot, isComplete: true)) } }

    func setComplete(_ slot: Slot, _ isComplete: Bool) {
        state.withLock { state in
            for index in state.replicas.indices where state.replicas[index].slot === slot {
                state.replicas[index].isComplete = isComplete
            }
        }
    }

    // MARK: Claims

    func claim(_ place: PayloadPlace, groupAt position: UInt64) -> SegmentBytes {
        state.withLock { $0.claims[place.file, default: 0] += 1 }
        return SegmentBytes(self, place, groupAt: position)
    }

    fileprivate func letGo(_ file: FileID) {
        let onUnclaimed = state.withLock { state -> (@Sendable () -> Void)? in
            if let count = state.claims[file], count > 1 {
                state.claims[file] = count - 1
                return nil
            }
            state.claims[file] = nil
            return state.claims.isEmpty ? state.onUnclaimed : nil
        }
        onUnclaimed?()
    }

    func whenUnclaimed(_ body: (@Sendable () -> Void)?) { state.withLock { $0.onUnclaimed = body } }

    var isClaimed: Bool { state.withLock { !$0.claims.isEmpty } }

    func owners(limit: Int) -> [FileID] { state.withLock { Array($0.claims.keys.prefix(limit)) } }
}

/// A claim on bytes in a segment.
final class SegmentBytes: JournaledBytes, @unchecked Sendable {
    private let segment: Segment
    private let position: UInt64
    private let checksum: UInt32

    fileprivate init(_ segment: Segment, _ place: PayloadPlace, groupAt position: UInt64) {
        self.segment = segment
        self.position = position + UInt64(place.position)
        checksum = place.checksum
        super.init(file: place.file, offset: place.offset, count: place.count, sequence: place.sequence)
    }

    deinit { segment.letGo(file) }

    override func load() async throws(JournalError) -> Payload {
        var reasons: [String] = []
        for slot in segment.readableReplicas {
            switch await slot.directory.read(slot, at: position, count: count) {
            case .failure(let error): reasons.append("\(error)")
            case .success(let buffer):
                let found = buffer.withUnsafeReadableBytes { CRC32C.checksum($0) }
                if buffer.readableBytes == count, found == checksum { return Payload(buffer) }
                // Sought again elsewhere by whoever counts replicas.
                segment.setComplete(slot, false)
                reasons.append("\(slot.path): \(count) bytes at \(position) are not what was written")
            }
        }
        throw .unreadable(
            reasons.isEmpty ? "no replica of \(segment.identity) is there" : reasons.joined(separator: "; "))
    }
}
