// Copies of the metadata that are made while the store is served, and what happens when that fails; rows that contradict
// each other.

import BlockStore
import FaultInjection
import FileService
import Glibc
import Model
import Testing

@testable import EmbeddedFileService
@testable import Namespace

@Suite("Copies of the metadata while serving", .timeLimit(.minutes(10)))
struct MirrorRestoreTests {
    private func mirrors(_ store: SimulatedStore) async throws -> Set<Int> {
        let volumes = try await store.core.namespace.mirrorVolumes()
        #expect(Set(volumes).count == volumes.count)
        return Set(volumes.compactMap { store.core.volumes[$0]?.index })
    }

    private func recorded(_ store: SimulatedStore) -> Set<Int> {
        Set(store.core.epochs.mirrorSet.compactMap { store.core.volumes[$0]?.index })
    }

    /// A tick `seconds` later.
    private func tick(_ store: SimulatedStore, after seconds: Int64 = 1) async {
        store.clock.advance(seconds: seconds)
        await store.service.tick()
    }

    private func copies(_ store: SimulatedStore, _ volume: Int) -> Int {
        store.disk.callCount(.open, under: "/v\(volume)/metadata/namespace.sqlite.new")
    }

    @Test("a copy that fails is made on another volume, and later where it failed, but not in a tight loop")
    func retries() async throws {
        let store = try SimulatedStore()
        try await store.open()
        #expect(try await mirrors(store) == [0, 1, 2])
        store.disk.inject(Fault("/v1/metadata/", .sync, code: EIO))
        for volume in [3, 4] { store.disk.inject(Fault("/v\(volume)/metadata/", .write, code: ENOSPC)) }
        try await store.service.make("a")
        try await store.core.namespace.applyNow()
        #expect(try await mirrors(store) == [0, 2])
        await tick(store)
        let first = copies(store, 3)
        #expect(first > 0 && copies(store, 4) == 0)
        for _ in 0..<5 { await store.service.tick() }
        #expect(copies(store, 3) == first && copies(store, 4) == 0)
        await tick(store, after: 2)
        let second = copies(store, 4)
        #expect(copies(store, 3) == first && second > 0)
        #expect(try await mirrors(store) == [0, 2] && recorded(store) == [0, 2])
        // What failed has taken its bytes away.
        for volume in [3, 4] { #expect(try store.disk.list("/v\(volume)/metadata") == []) }
        for _ in 0..<20 { await tick(store) }
        #expect(copies(store, 3) == first && copies(store, 4) == second)
        // Names are changed all the while.
        try await store.service.make("b")
        // There is room again: in the end all three are there, on a volume that failed.
        store.disk.removeFaults()
        for _ in 0..<60 { await tick(store) }
        #expect(try await mirrors(store).count == 3 && recorded(store).count == 3)
        #expect(try await mirrors(store) == recorded(store))
        #expect(store.core.volumes.present.allSatisfy { $0.isHealthy })
        let others = Set(0..<5).subtracting(try await mirrors(store))
        await store.crash(seed: 1)
        try await store.open(without: [0, 2])
        _ = try await store.service.find("b")
        #expect(others.count == 2)
        await store.close()
    }

    @Test("where every other volume fails, one whose mirror failed gets another one after a time")
    func failedVolumeAgain() async throws {
        let store = try SimulatedStore("XOR-2-1-4k")
        try await store.open()
        #expect(try await mirrors(store) == [0, 1])
        store.disk.inject(Fault("/v2/metadata/", .write, code: ENOSPC))
        store.disk.inject(Fault("/v1/metadata/", .sync, code: EIO, count: 1))
        try await store.service.make("a")
        try await store.core.namespace.applyNow()
        for _ in 0..<30 { await tick(store) }
        #expect(try await mirrors(store) == [0])
        for _ in 0..<60 { await tick(store) }
        #expect(try await mirrors(store) == [0, 1] && recorded(store) == [0, 1])
        await store.crash(seed: 2)
        try await store.open(without: [0])
        _ = try await store.service.find("a")
        await store.close()
    }

    @Test("a new mirror whose superblock can't be written is none, and a start that sees it alone refuses")
    func unrecordedCopy() async throws {
        let store = try SimulatedStore()
        try await store.open()
        store.disk.inject(Fault("/v1/metadata/", .sync, code: EIO))
        try await store.service.make("a")
        try await store.core.namespace.applyNow()
        // Its promise is written; its epoch isn't.
        store.disk.inject(Fault("/v3/superblock", .rename, code: EIO, afterCalls: 1))
        await tick(store)
        #expect(try await mirrors(store) == [0, 2] && recorded(store) == [0, 2])
        await tick(store, after: 2)
        #expect(try await mirrors(store) == [0, 2, 4] && recorded(store) == [0, 2, 4])
        try await store.service.make("b")
        await store.crash(seed: 3)
        for missing in [[0, 2], [0, 4], [2, 4]] as [Set<Int>] {
            let copy = store.copyOfDisk()
            try await store.open(without: missing)
            _ = try await store.service.find("b")
            await store.close()
            store.use(copy)
        }
    }

    @Test("a mirror fails when no descriptor is left: the new epoch is written all the same, and no volume fails")
    func withoutDescriptors() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let epoch = store.core.epochs.epoch
        store.disk.inject(Fault("/v1/metadata/", .sync, code: EIO))
        store.disk.maxOpenFiles = store.disk.openFileCount
        try await store.service.make("a")
        try await store.core.namespace.applyNow()
        #expect(store.core.epochs.epoch == epoch.next && recorded(store) == [0, 2])
        // Nor does the copy that can't be made.
        await tick(store)
        #expect(try await mirrors(store) == [0, 2])
        try await store.service.make("b")
        #expect(store.core.volumes.present.allSatisfy(\.isHealthy) && store.service.failure == nil)
        store.disk.maxOpenFiles = nil
        for _ in 0..<5 { await tick(store) }
        #expect(try await mirrors(store).count == 3)
        await store.close()
    }

    /// The highest epoch, and whether "b" is on its mirrors: both answers, when they are not level.
    private func level(_ store: SimulatedStore) async throws -> (epoch: Epoch, answers: Set<Bool>) {
        let superblocks = try store.paths.map { try Superblock.read(volumeDirectory: $0, fileSystem: store.disk) }
        let highest = try #require(superblocks.max { $0.epoch < $1.epoch })
        var answers: Set<Bool> = []
        for (path, superblock) in zip(store.paths, superblocks)
        where superblock.epoch == highest.epoch && highest.mirrorSet.contains(superblock.volumeID) {
            let location = MirrorLocation(volume: superblock.volumeID, directory: path + "/metadata")
            guard case .verified(let position) = Namespace.inspect(location, fileSystem: store.disk) else { continue }
            let namespace = try Namespace.open(
                [location], records: [], lastNumber: position.logNumber, fileSystem: store.disk,
                storeID: superblock.storeID, epoch: position.epoch, log: nil, logger: SimulatedStore.quiet,
                onMirrorFailure: { _, _ in false })
            let found = try await namespace.read { transaction throws(NamespaceError) in
                try transaction.entry(.root, name("b")) != nil
            }
            answers.insert(found)
            await namespace.close()
        }
        return (highest.epoch, answers)
    }

    @Test("where too few volumes take writes for a new epoch, mirrors that still work are kept, and all can be read")
    func tooFewForAnEpoch() async throws {
        // The journal is on volumes 3, 4 and 5.
        let store = try SimulatedStore(volumes: 7)
        try await store.open()
        let file = try await store.service.make("a")
        let bytes = pattern(30_000, seed: 6)
        try await store.service.write(bytes, to: file, .fileSync)
        for volume in [0, 1, 2, 6] { store.disk.inject(Fault("/v\(volume)/blocks/", .sync, code: EIO)) }
        try await store.service.write(pattern(30_000, seed: 8), to: file, at: 30_000)
        await #expect(throws: FileError.inputOutput) { try await store.service.commit(file) }
        #expect(store.core.volumes.present.map(\.isHealthy) == [false, false, false, true, true, true, false])
        for _ in 0..<3 { await tick(store) }
        #expect(try await mirrors(store) == [0, 1, 2] && store.service.failure == nil)
        #expect(try await store.service.bytes(of: file) == bytes)
        await #expect(throws: FileError.readOnly) { try await store.service.write([1], to: file) }
        try await store.service.make("b")
        try await store.core.namespace.applyNow()
        #expect(try await mirrors(store) == [0, 1, 2] && store.service.failure == nil)
        await store.close()
    }

    @Test("the last mirror is kept though its volume has failed, until another one has been made of it")
    func lastMirror() async throws {
        let store = try SimulatedStore("XOR-2-1-4k", volumes: 4)
        try await store.open()
        let file = try await store.service.make("a")
        store.disk.inject(Fault("/v1/metadata/", .sync, code: EIO))
        for volume in [2, 3] { store.disk.inject(Fault("/v\(volume)/metadata/", .write, code: ENOSPC)) }
        store.disk.inject(Fault("/v0/blocks/", .write, code: EIO))
        try await store.service.make("b")
        try await store.core.namespace.applyNow()
        try await store.service.write(pattern(30_000, seed: 7), to: file)
        try await store.service.commit(file)
        #expect(store.core.volumes.present.map(\.isHealthy) == [false, true, true, true])
        for _ in 0..<10 { await tick(store) }
        #expect(try await mirrors(store) == [0] && store.service.failure == nil)
        try await store.service.make("c")
        store.disk.removeFaults()
        for _ in 0..<200 { await tick(store) }
        let now = try await mirrors(store)
        #expect(now.count == 2 && !now.contains(0) && recorded(store) == now)
        await store.crash(seed: 4)
        try await store.open(without: [0])
        _ = try await store.service.find("c")
        await store.close()
    }

    @Test("mirrors that are behind at a start are brought level by the journal, also when that start is cut off")
    func behind() async throws {
        var unevenStarts = 0
        for seed in 0..<40 as Range<UInt64> {
            let store = try SimulatedStore("XOR-2-1-4k")
            try await store.open()
            try await store.service.make("a")
            try await store.core.namespace.applyNow()
            try await store.service.make("b")
            // The power goes when one of the two mirrors has the last name.
            let disk = store.disk
            disk.before(.sync, under: "/v0/metadata/") { disk.losePower(afterCalls: 0) }
            try? await store.core.namespace.applyNow()
            await store.crash(seed: seed)
            guard try await level(store).answers.count == 2 else { continue }
            unevenStarts += 1
            let uneven = store.copyOfDisk()
            for calls in stride(from: 10, through: 400, by: 6) {
                store.use(uneven.crash(seed: 0))
                let disk = store.disk
                disk.losePower(afterCalls: calls)
                let isOpen = (try? await store.open()) != nil
                let hadPower = disk.hasPower
                await store.crash(seed: seed)
                try await store.open(without: [calls / 6 % 3])
                _ = try await store.service.find("b")
                try await store.core.namespace.applyNow()
                await store.close()
                #expect(try await level(store).answers == [true], "seed \(seed), \(calls) calls")
                if isOpen && hadPower { break }
            }
            if unevenStarts == 3 { return }
        }
        #expect(unevenStarts > 0)
    }

    // MARK: Rows

    @Test("an extent that is missing, or beyond its group, is an error for its readers, never a hole nor a crash")
    func contradictions() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let (short, holed, whole) = (
            try await store.service.make("short"), try await store.service.make("holed"),
            try await store.service.make("whole")
        )
        let bytes = pattern(30_000, seed: 4)
        for file in [short, holed, whole] { try await store.service.write(bytes, to: file, .fileSync) }
        // Nothing is open, or in the journal, that would be recorded again.
        try await store.restart()
        // On all mirrors, so that none can be asked instead.
        try await store.core.transact { transaction throws(FileError) in
            let extents = try transaction.allExtents(of: holed.id)
            try transaction.put(.removeExtent(file: holed.id, offset: extents[0].range.lowerBound))
            // The group is shared with others.
            for extent in try transaction.allExtents(of: short.id) {
                let group = try transaction.published(extent.group)
                let beyond = Extent(
                    range: extent.range, group: extent.group, groupOffset: group.length - extent.range.count / 2,
                    sequence: extent.sequence)
                try transaction.put(.removeExtent(file: short.id, offset: extent.range.lowerBound))
                try transaction.put(.putExtent(file: short.id, beyond))
            }
        }
        try await store.restart()
        for file in [short, holed] {
            await #expect(throws: FileError.inputOutput) { try await store.service.bytes(of: file) }
        }
        #expect(try await store.service.bytes(of: whole) == bytes)
        await store.close()
    }

    @Test("a row that vanished from the first mirror is served from another one, with all the bytes")
    func vanishedRow() async throws {
        let store = try SimulatedStore()
        try await store.open()
        let file = try await store.service.make("a")
        let bytes = pattern(30_000, seed: 5)
        try await store.service.write(bytes, to: file, .fileSync)
        await store.close()
        let superblock = try Superblock.read(volumeDirectory: "/v0", fileSystem: store.disk)
        let location = MirrorLocation(volume: superblock.volumeID, directory: "/v0/metadata")
        guard case .verified(let position) = Namespace.inspect(location, fileSystem: store.disk) else {
            Issue.record("not verified")
            return
        }
        let mirror = try Mirror(location, store.disk)
        try mirror.apply([
            MetadataRecord(number: position.logNumber, mutations: [.removeExtent(file: file.id, offset: 0)])
        ])
        try mirror.commit(upTo: position.logNumber)
        mirror.close()
        try await store.open()
        #expect(try await store.service.bytes(of: file) == bytes)
        #expect(try await mirrors(store) == [1, 2] && recorded(store) == [1, 2])
        await store.close()
    }
}
