// The volumes of a store: finding them, choosing where a new group goes, noticing when one is gone.

internal import BlockStore
internal import Logging
internal import Model
internal import Platform
internal import Synchronization

/// The volumes that were there when the store was opened.
final class VolumeSet: Sendable {
    /// By index. Volumes that were missing at the start are not in here.
    let present: [Volume]
    /// Every volume that the store counts on.
    let registered: [Superblock.RegisteredVolume]
    private let byID: [VolumeID: Volume]
    private let nextCheck = Mutex(Duration.zero)

    /// Volumes with less room get no new data: the metadata, the journal, and settling what the journal holds, need some. A
    /// hundredth of a small disk.
    private static let reservedBytes: UInt64 = 64 << 20
    /// The part of that which settling leaves to metadata and journal.
    private static let reservedFromSettling: UInt64 = 16 << 20

    /// Room on the fullest of the volumes that a group would be on, as it was measured last.
    private let room = Atomic<UInt64>(.max)

    /// Looking at each superblock costs some 50 µs a volume.
    private static let checkInterval = Duration.seconds(10)

    init(present: [Volume], registered: [Superblock.RegisteredVolume]) {
        self.present = present.sorted { $0.index < $1.index }
        self.registered = registered
        byID = Dictionary(uniqueKeysWithValues: present.map { ($0.id, $0) })
    }

    subscript(id: VolumeID) -> Volume? { byID[id] }

    /// The targets of a new group, by index of internal block; nil where there is no volume for one. `excluded`
    /// ones had no room a moment ago. What is only settled may take a part of the reserve.
    ///
    /// The group's ordinal turns the order, so that parity and load spread over the volumes. Where volumes are
    /// missing it is the last indices, parity, that go without.
    func targets(
        for group: BlockGroupID, policy: ErasureCodingPolicy, excluding excluded: Set<VolumeID>, isSettling: Bool
    ) async -> [Volume?] {
        let reserved = isSettling ? Self.reservedFromSettling : Self.reservedBytes
        var candidates: [Volume] = []
        for step in 0..<present.count {
            let volume = present[Int((group.ordinal + UInt64(step)) % UInt64(present.count))]
            guard candidates.count < policy.totalUnits else { break }
            guard volume.isHealthy, !excluded.contains(volume.id) else { continue }
            do throws(IOError) {
                if try await volume.space().availableBytes >= reserved { candidates.append(volume) }
            } catch {
                // A disk that can't even say how much room it has is no full one: the group goes without it.
                if !error.isShortage { volume.fail(.inputOutput(error)) }
            }
        }
        return (0..<policy.totalUnits).map { $0 < candidates.count ? candidates[$0] : nil }
    }

    /// With fewer targets than this a group is not begun: with only k, no byte would survive the next loss.
    static func minimumTargets(_ policy: ErasureCodingPolicy) -> Int { policy.dataUnits + 1 }

    /// How many targets a group must have now. Those of failed and missing volumes may be lacking, since that is
    /// known and shown. A healthy volume that is full is no reason for less redundancy: then there is no room.
    func neededTargets(_ policy: ErasureCodingPolicy) -> Int {
        max(Self.minimumTargets(policy), min(policy.totalUnits, present.count { $0.isHealthy }))
    }

    /// Whether enough volumes are healthy. Refusing a WRITE at once beats taking it and failing its COMMIT.
    func canTakeWrites(_ policy: ErasureCodingPolicy) -> Bool {
        present.count { $0.isHealthy } >= Self.minimumTargets(policy)
    }

    /// Whether new data may come in.
    var hasRoomForData: Bool { hasRoom(forEach: 0) }

    /// Whether each volume of a group would have room for so many bytes beside what is reserved.
    func hasRoom(forEach bytes: UInt64) -> Bool { room.load(ordering: .relaxed) >= Self.reservedBytes + bytes }

    /// Takes note of how much room there is. To be called about once a second: no disk fills its reserve faster.
    func measureRoom(_ policy: ErasureCodingPolicy) async {
        let available = await spaces().map(\.availableBytes).sorted(by: >)
        guard !available.isEmpty else { return }
        // With fewer volumes than a group has blocks, all of them are needed.
        room.store(available[min(policy.totalUnits, available.count) - 1], ordering: .relaxed)
    }

    /// The room on each healthy volume.
    func spaces() async -> [FileSystem.Space] {
        var spaces: [FileSystem.Space] = []
        for volume in present where volume.isHealthy {
            if let space = try? await volume.space() { spaces.append(space) }
        }
        return spaces
    }

    /// Looks at all volumes, if it is time again.
    func check(now: Duration) async {
        let isTime = nextCheck.withLock { next in
            guard now >= next else { return false }
            next = now + Self.checkInterval
            return true
        }
        if isTime { await checkAll() }
    }

    /// Fails volumes whose directory is gone or is another's.
    func checkAll() async {
        for volume in present where volume.isHealthy { await volume.check() }
    }

    func close() {
        for volume in present { volume.close() }
    }
}
