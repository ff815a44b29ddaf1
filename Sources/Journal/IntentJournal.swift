// The intent journal as others see it. What is behind it:
//
//   SegmentFormat, EntryCoding      the bytes
//   JournalDirectory                files on one volume, its threads
//   Segment, SegmentReader          a part of the log with its replicas and claims; reading it
//   Recovery, Leveling              what a start finds and makes of it
//   JournalWriter                   the journal's thread: groups, segments, generations, what is freed

public import Model
public import Platform

/// A volume that may hold a replica.
public struct JournalVolume: Sendable {
    public let id: VolumeID
    /// `<volume>/journal`; made when it is missing.
    public let directory: String
    /// Whether the volume is one that may be written to.
    let isUsable: @Sendable () -> Bool
    /// Is told of an error or a hang of the volume, before anybody is answered who relies on the others.
    let onFailure: @Sendable (IOError) -> Void

    public init(
        id: VolumeID, directory: String, isUsable: @escaping @Sendable () -> Bool = { true },
        onFailure: @escaping @Sendable (IOError) -> Void = { _ in }
    ) {
        self.id = id
        self.directory = directory
        self.isUsable = isUsable
        self.onFailure = onFailure
    }
}

public struct JournalBounds: Sendable {
    public var segmentBytes = 16 << 20
    /// Of all segments together: payload is not taken beyond it.
    public var capacityBytes = 1 << 30
    /// What a new segment leaves free on its file system.
    public var minFreeBytes: UInt64 = 32 << 20
    /// A sync takes milliseconds; a disk that takes longer than this hangs.
    public var patience = Duration.seconds(10)

    public init() {}
}

public struct JournalUsage: Hashable, Sendable {
    public var segments = 0
    public var bytes: UInt64 = 0
    public var capacityBytes: UInt64 = 0
    /// Volumes with a replica of the current segment.
    public var replicas: [VolumeID] = []
    /// Segments that have fewer replicas than they should.
    public var segmentsShortOfReplicas = 0
    /// Since the start.
    public var appendedBytes: UInt64 = 0
    public var groups: UInt64 = 0
    public var entries: UInt64 = 0
    public var failedReplicas: UInt64 = 0

    public init() {}
}

/// An entry that was read back at the start.
public struct RecoveredEntry: Sendable {
    public let number: LogNumber
    public let record: [UInt8]
    /// Claims: whoever needs the bytes keeps them, the others are let go.
    public let payloads: [JournaledBytes]
}

/// Why there is no journal that can be believed.
public struct JournalRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// What a start found. Nothing has been written yet.
public struct RecoveredJournal: Sendable {
    /// Of the last entry; that before `firstNumber` of the generation if there is none behind it.
    public let lastNumber: LogNumber
    /// The lowest number that is there; nil: no entry is.
    public let firstNumber: LogNumber?
    let state: RecoveredState
}

/// The one durable log of a store. Thread-safe.
public final class IntentJournal: Sendable {
    private let writer: JournalWriter

    /// Reads what is on the volumes that are there and gives every entry of the live segments to `visit`, in order.
    ///
    /// - Parameter volumes: of the store, all that are there.
    public static func recover(
        _ volumes: [JournalVolume], generation: JournalGeneration, storeID: StoreID, fileSystem: FileSystem,
        visit: (RecoveredEntry) -> Void
    ) throws(JournalRefusal) -> RecoveredJournal {
        let recovery = try Recovery(volumes, generation: generation, storeID: storeID, fileSystem: fileSystem)
        return try recovery.run(visit)
    }

    /// Brings the replicas of the last segment level: whoever sees one of them later sees all that was recovered. To be
    /// called before a new epoch says where it ends. Volumes that can't be written are told (`onFailure`).
    public static func level(_ recovered: RecoveredJournal) throws(JournalRefusal) {
        try Leveling(state: recovered.state).run()
    }

    /// Goes on behind what was recovered, in a new segment with the given generation's epoch and replicas, which the
    /// superblocks name already.
    ///
    /// - Parameters:
    ///   - replicaCount: m + 1.
    ///   - beginGeneration: makes a new epoch with these replicas durable in the superblocks; nil: it could not. Called on the
    ///     journal's thread; blocks.
    ///   - onPressure: the segments are half full: the owners of the oldest one (`ownersOfOldestSegment`) are to be settled.
    ///     Must not block.
    ///   - onFailure: the journal has failed for good. Called once, before anybody is answered. Must not block.
    public init(
        continuing recovered: RecoveredJournal, generation: JournalGeneration, volumes: [JournalVolume],
        replicaCount: Int, storeID: StoreID, fileSystem: FileSystem, clock: SystemClock,
        bounds: JournalBounds = JournalBounds(),
        beginGeneration: @escaping @Sendable (_ replicas: [VolumeID], _ firstNumber: LogNumber) -> JournalGeneration?,
        onPressure: @escaping @Sendable () -> Void,
        onFailure: @escaping @Sendable (JournalError) -> Void
    ) throws(JournalRefusal) {
        writer = try JournalWriter(
            recovered, generation, volumes, replicaCount: replicaCount, storeID, fileSystem, clock, bounds,
            JournalWriter.Callbacks(
                beginGeneration: beginGeneration, onPressure: onPressure, onFailure: onFailure))
        writer.start()
    }

    /// The volumes that a new generation should have, of those that may be used: those of `preferred` first.
    public static func chooseReplicas(
        _ volumes: [JournalVolume], preferred: [VolumeID], avoided: [VolumeID], count: Int
    ) -> [VolumeID] {
        let usable = volumes.filter { !avoided.contains($0.id) && $0.isUsable() }.map(\.id)
        return Array((preferred.filter(usable.contains) + usable.filter { !preferred.contains($0) }).prefix(count))
    }

    /// Appends an entry. `completion` is called when it is durable on all current replicas, with the claims on its payloads;
    /// or with an error when it never will be: on a thread of the journal's, in the order of the appends. It must not wait
    /// for anything. Doesn't block.
    /// - Parameter isLast: no other follows at once. Others wait for the last one.
    public func append(
        _ entry: JournalEntry, isLast: Bool = true,
        completion: @escaping @Sendable (Result<[JournaledBytes], JournalError>) -> Void
    ) {
        writer.append(entry, isLast: isLast, completion)
    }

    /// Calls `completion` when all that was appended before is durable.
    public func barrier(_ completion: @escaping @Sendable (JournalError?) -> Void) {
        writer.barrier(completion)
    }

    /// All mirrors have applied, durably, the entries up to this one.
    public func noteApplied(through number: LogNumber) {
        writer.noteApplied(through: number)
    }

    /// No entry after this one has been begun by those who append. Who begins one may let go of claims that are still needed if
    /// it doesn't become durable, a removal say: so nothing is freed before it is.
    public func noteBegun(through number: LogNumber) {
        writer.noteBegun(through: number)
    }

    /// Whether so much payload may be appended now. Entries without payload always may.
    public func hasRoom(forPayloadBytes count: Int) -> Bool {
        writer.hasRoom(forPayloadBytes: count)
    }

    /// The files with claims in the oldest segment, if the segments are half full or more; empty otherwise.
    public func ownersOfOldestSegment(limit: Int) -> [FileID] {
        writer.ownersOfOldestSegment(limit: limit)
    }

    /// Gives up replicas that hang, copies older segments to replicas that lack them, a piece at a time. To be called about
    /// once a second; doesn't block.
    public func tick() {
        writer.tick()
    }

    public var usage: JournalUsage { writer.usage }

    /// Finishes what was appended and lets go of the files.
    public func close() async {
        await writer.close()
    }
}
