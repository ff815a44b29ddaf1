// Writes a block group: takes a stream of bytes, lays it out in cells as HDFS does (StripeLayout), adds
// parity and hands the cells to the k + m targets.
//
// Bytes are copied once, into the cells. When a stripe is full its parity is made on the caller's task and all
// its cells are handed on; checksums and writes run on the targets' threads while the next stripe fills.
// An internal block gets its cells in order, since its writer keeps the order.
//
// Invariants: between stripes the stream owns no buffer. Parity never changes once written. A target that gets no
// bytes leaves no file. After an error nothing more is sent, but what is under way ends by itself and gives
// its buffers back.
//
// One caller at a time. What the targets' threads touch is in a StripeFlight.

public import BlockStore
public import ErasureCoding
public import Model
public import Platform

/// The stream of bytes of one new block group. Not synchronised: one task at a time calls it.
public final class StripedOutputStream<Target: BlockTarget>: @unchecked Sendable {
    public let group: BlockGroupID
    public let generationStamp: GenerationStamp
    public let policy: ErasureCodingPolicy
    /// Bytes appended.
    public private(set) var length: UInt64 = 0
    /// Bytes that a `synchronize` or `seal` made durable on all targets.
    public private(set) var durableLength: UInt64 = 0

    private enum State { case open, failed, ended }

    private let coder: ErasureCoder
    private let writers: [Target.Writer?]
    private let pool: CellBufferPool
    private let maxBytesInFlight: Int
    private let flight: StripeFlight
    /// The cells of the stripe that is being filled.
    private var stripe: [AlignedBuffer]?
    private var state = State.open

    /// Begins a group.
    ///
    /// - Parameters:
    ///   - targets: one for each internal block, by index; nil for one that is missing.
    ///   - minimumTargets: fewest that must be there; k + 1 unless given, so that a byte survives a loss.
    ///   - pool: of cells of the policy's size, at least one stripe.
    ///   - maxBytesInFlight: most bytes, with parity, that are handed on and not yet written; one stripe is always allowed.
    public init(
        group: BlockGroupID, generationStamp: GenerationStamp, coder: ErasureCoder, targets: [Target?],
        minimumTargets: Int? = nil, pool: CellBufferPool, maxBytesInFlight: Int = 64 << 20
    ) throws(StripingError) {
        policy = coder.policy
        precondition(targets.count == policy.totalUnits && pool.cellSizeBytes == policy.cellSizeBytes)
        precondition(pool.capacity >= policy.totalUnits)
        let present = targets.count { $0 != nil }
        let needed = max(minimumTargets ?? policy.dataUnits + 1, policy.dataUnits)
        guard present >= needed else { throw .tooFewTargets(present: present, needed: needed) }
        self.group = group
        self.generationStamp = generationStamp
        self.coder = coder
        self.pool = pool
        self.maxBytesInFlight = maxBytesInFlight
        flight = StripeFlight(pool: pool)
        writers = targets.enumerated().map { index, target in
            target?.open(group.internalBlock(index), generationStamp: generationStamp)
        }
    }

    deinit { abort() }

    /// Whether the stream ends with a full stripe (or is empty), as `synchronize` needs it.
    public var isAtStripeBoundary: Bool { length % UInt64(policy.stripeSizeBytes) == 0 }

    /// Bytes that the group still has room for.
    public var remaining: UInt64 { StripeLayout(policy).maxGroupLength - length }

    /// Appends bytes. On return they are in cells, not yet durable.
    ///
    /// Waits for cells, and for targets when too much is under way. Throws only `targetsFailed`.
    /// - Precondition: not more than `remaining`; the stream has neither been sealed nor aborted.
    public func append(_ payload: Payload) async throws(StripingError) {
        precondition(state != .ended && UInt64(payload.count) <= remaining)
        var position = 0
        while position < payload.count {
            try await throwIfFailed()
            let inStripe = Int(length % UInt64(policy.stripeSizeBytes))
            let cells: [AlignedBuffer]
            if let stripe {
                cells = stripe
            } else {
                cells = try await beginStripe()
            }
            let inCell = inStripe % policy.cellSizeBytes
            let count = min(policy.cellSizeBytes - inCell, payload.count - position)
            let cell = cells[inStripe / policy.cellSizeBytes].bytes
            payload.slice(position..<(position + count)).copy(
                to: UnsafeMutableRawBufferPointer(rebasing: cell[inCell..<(inCell + count)]))
            position += count
            length += UInt64(count)
            if isAtStripeBoundary { sendStripe(cells, dataBytes: policy.stripeSizeBytes) }
        }
    }

    /// Makes everything that was appended durable on all targets.
    ///
    /// Throws only `targetsFailed`.
    /// - Precondition: `isAtStripeBoundary`; the stream has neither been sealed nor aborted.
    public func synchronize() async throws(StripingError) {
        precondition(state != .ended && isAtStripeBoundary)
        if length > durableLength {
            for index in writers.indices {
                call(index, bytes: 0, buffer: nil) { $0.append(nil, sync: true, completion: $1) }
            }
        }
        await flight.waitForAll()
        try await throwIfFailed()
        durableLength = length
    }

    /// Ends the group: writes what there is of the last stripe, with its parity, and makes all durable.
    ///
    /// Throws only `targetsFailed`.
    /// - Precondition: the stream has neither been sealed nor aborted.
    public func seal() async throws(StripingError) {
        precondition(state != .ended)
        try await throwIfFailed()
        if let stripe {
            sendStripe(stripe, dataBytes: Int(length % UInt64(policy.stripeSizeBytes)))
        }
        for index in writers.indices {
            call(index, bytes: 0, buffer: nil) { $0.finalize(completion: $1) }
        }
        await flight.waitForAll()
        try await throwIfFailed()
        state = .ended
        durableLength = length
    }

    /// Gives the group up, without waiting for what is under way. What was synchronized stays durable; the
    /// blocks stay where they are until they are deleted, or cut to what was published of them.
    public func abort() {
        guard state != .ended else { return }
        state = .ended
        if let stripe {
            pool.give(back: stripe)
            self.stripe = nil
        }
        for writer in writers { writer?.abort() }
    }

    private func beginStripe() async throws(StripingError) -> [AlignedBuffer] {
        let stripeBytes = policy.totalUnits * policy.cellSizeBytes
        await flight.wait(maxBytes: max(0, maxBytesInFlight - stripeBytes))
        try await throwIfFailed()
        let cells = await pool.take(policy.totalUnits)
        stripe = cells
        return cells
    }

    /// Makes the parity of the stripe and hands its cells on. In a partial last stripe parity is as long as the
    /// longest data cell, the first; shorter ones count as filled up with zeros, of which none is written.
    private func sendStripe(_ cells: [AlignedBuffer], dataBytes: Int) {
        let k = policy.dataUnits
        let parityCount = min(dataBytes, policy.cellSizeBytes)
        let counts = (0..<policy.totalUnits).map { index in
            index < k
                ? min(max(0, dataBytes - index * policy.cellSizeBytes), policy.cellSizeBytes) : parityCount
        }
        for index in 0..<k where counts[index] < parityCount {
            let padding = cells[index].bytes[counts[index]..<parityCount]
            UnsafeMutableRawBufferPointer(rebasing: padding).initializeMemory(as: UInt8.self, repeating: 0)
        }
        coder.encode(
            data: cells[..<k].map { UnsafeRawPointer($0.bytes.baseAddress!) },
            parity: cells[k...].map { $0.bytes.baseAddress! }, count: parityCount)
        stripe = nil
        for (index, cell) in cells.enumerated() {
            let count = counts[index]
            if count > 0, writers[index] != nil {
                call(index, bytes: count, buffer: cell) {
                    $0.append(BlockPacket(buffer: cell, count: count), sync: false, completion: $1)
                }
            } else {
                pool.give(back: [cell])
            }
        }
    }

    /// Calls a writer, if there is one.
    private func call(
        _ index: Int, bytes: Int, buffer: AlignedBuffer?,
        _ body: (Target.Writer, @escaping BlockWriter.Completion) -> Void
    ) {
        guard let writer = writers[index] else { return }
        flight.begin(bytes: bytes)
        body(writer) { [flight] result in flight.end(index, bytes: bytes, buffer: buffer, result) }
    }

    /// Throws when a target has failed, after waiting for all others, so that all that failed are named.
    private func throwIfFailed() async throws(StripingError) {
        guard flight.hasFailed else { return }
        state = .failed
        if let stripe {
            pool.give(back: stripe)
            self.stripe = nil
        }
        await flight.waitForAll()
        throw .targetsFailed(flight.failures)
    }
}
