// Epochs by themselves: what superblocks say after mirrors were added and lost, and volumes could not be written.

import BlockStore
import FaultInjection
import Glibc
import Model
import Platform
import Synchronization
import Testing

@testable import EmbeddedFileService

@Suite("Epochs")
struct EpochKeeperTests {
    /// The volumes of a store on a disk, and their keeper.
    private struct Kept {
        let disk: SimulatedFileSystem
        let volumes: [Volume]
        let keeper: EpochKeeper
        let clock = TestClock()
        var ids: [VolumeID] { volumes.map(\.id) }

        init() throws {
            let store = try SimulatedStore()
            disk = store.disk
            let disk = store.disk
            volumes = try store.paths.map { try Volume(directory: $0, fileSystem: disk) }
            let superblock = volumes[0].superblock
            keeper = EpochKeeper(
                volumes: volumes, superblock: superblock, believed: superblock.mirrorSet, fileSystem: disk,
                clock: clock, patience: .seconds(10))
        }

        func superblocks() throws -> [Superblock] {
            try volumes.map { try Superblock.read(volumeDirectory: $0.directory, fileSystem: disk) }
        }

        /// Of the highest epoch on any volume.
        func highest() throws -> Superblock {
            try #require(try superblocks().max { $0.epoch < $1.epoch })
        }

        func close() {
            keeper.close()
            for volume in volumes { volume.close() }
        }
    }

    @Test("name each mirror once, and none that isn't there")
    func once() throws {
        let kept = try Kept()
        defer { kept.close() }
        let ids = kept.ids
        let stranger = VolumeID(rawValue: UniqueID(high: 1, low: 2))
        #expect(kept.keeper.advance(mirrorSet: [ids[0], stranger, ids[1], ids[0]]))
        #expect(kept.keeper.mirrorSet == [ids[0], ids[1]])
        for _ in 0..<2 {
            #expect(kept.keeper.mirrorAdded(ids[3], mirrors: [ids[0], ids[1], ids[3]]))
            #expect(kept.keeper.mirrorSet == [ids[0], ids[1], ids[3]])
        }
        #expect(try kept.superblocks().allSatisfy { $0.mirrorSet == [ids[0], ids[1], ids[3]] })
        #expect(!kept.keeper.advance(mirrorSet: [stranger]))
    }

    @Test("don't name a new mirror whose own superblock can't be written, and say so")
    func unwritableNewMirror() throws {
        let kept = try Kept()
        defer { kept.close() }
        let ids = kept.ids
        // The promise is written, the epoch isn't.
        kept.disk.inject(Fault("/v3/superblock", .rename, code: EIO, afterCalls: 1))
        #expect(!kept.keeper.mirrorAdded(ids[3], mirrors: Array(ids[..<4])))
        #expect(kept.keeper.mirrorSet == Array(ids[..<3]))
        #expect(try kept.highest().mirrorSet == Array(ids[..<3]))
        // It is left out already: the namespace gives it up without another epoch.
        let epoch = kept.keeper.epoch
        #expect(kept.keeper.mirrorsFailed([ids[3]], remaining: Array(ids[..<3])))
        #expect(kept.keeper.epoch == epoch)
    }

    @Test("a mirror that was not added is none, whoever was told of it before")
    func failedBeforeRecord() throws {
        let kept = try Kept()
        defer { kept.close() }
        let epoch = kept.keeper.epoch
        #expect(!kept.keeper.mirrorAdded(kept.ids[3], mirrors: Array(kept.ids[..<3])))
        #expect(kept.keeper.epoch == epoch)
    }

    @Test("that were begun by half leave out who failed then: a superblock may name it")
    func begunByHalf() throws {
        let kept = try Kept()
        defer { kept.close() }
        let ids = kept.ids
        // The two mirrors get theirs first; then no other one can be written, and three are needed.
        kept.disk.inject(Fault("/v1/superblock", .rename, code: EIO, afterCalls: 1))
        kept.disk.inject(Fault("/v2/superblock", .rename, code: EIO))
        kept.disk.inject(Fault("/v4/superblock", .rename, code: EMFILE, afterCalls: 1))
        #expect(!kept.keeper.mirrorAdded(ids[3], mirrors: [ids[0], ids[3]]))
        #expect(try kept.highest().mirrorSet == [ids[0], ids[3]])
        kept.disk.removeFaults()
        // The copy is given up, and then must not be believed.
        #expect(kept.keeper.mirrorsFailed([ids[3]], remaining: [ids[0]]))
        #expect(try kept.highest().mirrorSet == [ids[0]])
        let seen = Set(try kept.superblocks().filter { $0.mirrorSet == [ids[0]] }.map(\.epoch))
        #expect(seen == [kept.keeper.epoch])
    }

    @Test("go on without any descriptor left, and no volume fails", arguments: [true, false])
    func withoutDescriptors(isAdded: Bool) throws {
        let kept = try Kept()
        defer { kept.close() }
        let ids = kept.ids
        #expect(kept.keeper.advance(mirrorSet: Array(ids[..<3])))
        kept.disk.maxOpenFiles = kept.disk.openFileCount
        if isAdded {
            #expect(kept.keeper.mirrorAdded(ids[3], mirrors: Array(ids[..<4])))
        } else {
            #expect(kept.keeper.mirrorsFailed([ids[0]], remaining: Array(ids[1..<3])))
        }
        kept.disk.maxOpenFiles = nil
        #expect(kept.volumes.allSatisfy { $0.isHealthy })
        let expected = isAdded ? Array(ids[..<4]) : Array(ids[1..<3])
        #expect(try kept.superblocks().allSatisfy { $0.mirrorSet == expected && $0.epoch == kept.keeper.epoch })
    }

    @Test(
        "a volume that hangs while its superblock is written has failed, and the others have the epoch",
        arguments: [0, 3], [0, 1])
    func hanging(volume: Int, renamesBefore: Int) async throws {
        let kept = try Kept()
        let ids = kept.ids
        let gate = Gate()
        let renames = Atomic(0)
        kept.disk.before(.rename, under: "/v\(volume)/superblock") {
            if renames.add(1, ordering: .relaxed).oldValue == renamesBefore { gate.pass() }
        }
        let keeper = kept.keeper
        let threads = ThreadGroup()
        let begun = Mutex<JournalGeneration??>(nil)
        threads.start {
            let generation = keeper.beginGeneration(volumes: Array(ids[1..<3]), firstNumber: LogNumber(rawValue: 5))
            begun.withLock { $0 = .some(generation) }
        }
        await gate.waitForArrival()
        kept.clock.advance(seconds: 9)
        for _ in 0..<100 {
            keeper.tick()
            await Task.yield()
        }
        #expect(begun.withLock { $0 } == nil && kept.volumes.allSatisfy(\.isHealthy))
        kept.clock.advance(seconds: 2)
        await eventually("it is given up") {
            keeper.tick()
            return begun.withLock { $0 != nil }
        }
        threads.join()
        let generation = try #require(begun.withLock { $0 } ?? nil)
        #expect(kept.volumes.map(\.isHealthy) == ids.indices.map { $0 != volume })
        // The mirrors are on 0, 1 and 2.
        #expect(keeper.mirrorSet == Array(ids[(volume == 0 ? 1 : 0)..<3]))
        let others = try kept.superblocks().filter { $0.volumeID != ids[volume] }
        #expect(others.allSatisfy { $0.epoch == keeper.epoch && $0.journal == generation })
        // What comes to an end after all makes it no member.
        gate.open()
        await eventually("its superblock is written") { renames.load(ordering: .relaxed) > renamesBefore }
        #expect(keeper.advance(mirrorSet: keeper.mirrorSet))
        #expect(try kept.highest().epoch == keeper.epoch && keeper.mirrorSet.count == (volume == 0 ? 2 : 3))
        kept.close()
    }

    @Test("a mirror that is left out for a lack of memory is recorded later")
    func recordedLater() throws {
        let kept = try Kept()
        defer { kept.close() }
        let ids = kept.ids
        // The promise and the epoch of volume 1.
        kept.disk.inject(Fault("/v1/superblock", .open, code: ENOMEM))
        #expect(kept.keeper.mirrorsFailed([ids[0]], remaining: [ids[1], ids[2]]))
        #expect(kept.keeper.mirrorSet == [ids[2]] && kept.volumes.allSatisfy(\.isHealthy))
        #expect(!kept.keeper.recordAll(of: [ids[1], ids[2]]))
        kept.disk.removeFaults()
        #expect(kept.keeper.recordAll(of: [ids[1], ids[2]]))
        #expect(kept.keeper.mirrorSet == [ids[1], ids[2]])
        let epoch = kept.keeper.epoch
        #expect(kept.keeper.recordAll(of: [ids[2], ids[1]]))
        // Nor does a mirror count whose volume has failed.
        kept.volumes[0].fail(.closed)
        #expect(kept.keeper.recordAll(of: Array(ids[..<3])))
        #expect(kept.keeper.epoch == epoch)
    }

    // MARK: The journal

    @Test("begin a generation of the journal with their own number, with the mirrors there are")
    func generation() throws {
        let kept = try Kept()
        defer { kept.close() }
        let ids = kept.ids
        #expect(kept.keeper.advance(mirrorSet: Array(ids[..<2])))
        let begun = try #require(
            kept.keeper.beginGeneration(volumes: [ids[4], ids[1], ids[2]], firstNumber: LogNumber(rawValue: 70)))
        #expect(
            begun
                == JournalGeneration(
                    epoch: kept.keeper.epoch, volumes: [ids[4], ids[1], ids[2]], firstNumber: LogNumber(rawValue: 70)))
        #expect(kept.keeper.journal == begun && kept.keeper.mirrorSet == Array(ids[..<2]))
        #expect(
            try kept.superblocks().allSatisfy {
                $0.journal == begun && $0.epoch == begun.epoch && $0.mirrorSet == Array(ids[..<2])
            })
        // Epochs that change mirrors leave the journal as it is.
        #expect(kept.keeper.mirrorAdded(ids[3], mirrors: [ids[0], ids[1], ids[3]]))
        #expect(kept.keeper.mirrorsFailed([ids[0]], remaining: [ids[1], ids[3]]))
        #expect(kept.keeper.epoch == begun.epoch.next.next && kept.keeper.journal == begun)
        #expect(
            try kept.superblocks().allSatisfy {
                $0.journal == begun && $0.epoch == kept.keeper.epoch && $0.mirrorSet == [ids[1], ids[3]]
            })
    }

    @Test("begin no generation where too few volumes can be written, and say so; the next one has another number")
    func noGeneration() throws {
        let kept = try Kept()
        defer { kept.close() }
        let ids = kept.ids
        let replicas = Array(ids[2..<5])
        let first = try #require(
            kept.keeper.beginGeneration(volumes: replicas, firstNumber: LogNumber(rawValue: 5)))
        // The promise is written on two of the three volumes that it takes.
        for volume in 2..<5 { kept.disk.inject(Fault("/v\(volume)/superblock", .rename, code: ENOMEM)) }
        #expect(kept.keeper.beginGeneration(volumes: replicas, firstNumber: LogNumber(rawValue: 9)) == nil)
        #expect(kept.keeper.journal == first && kept.keeper.epoch == first.epoch)
        #expect(try kept.highest().journal == first)
        kept.disk.removeFaults()
        let second = try #require(
            kept.keeper.beginGeneration(volumes: replicas, firstNumber: LogNumber(rawValue: 9)))
        #expect(second.epoch > first.epoch.next && second.firstNumber == LogNumber(rawValue: 9))
        // And where volumes have failed.
        for volume in 2..<5 { kept.volumes[volume].fail(.closed) }
        #expect(kept.keeper.beginGeneration(volumes: replicas, firstNumber: LogNumber(rawValue: 10)) == nil)
        #expect(kept.keeper.journal == second)
        #expect(try kept.superblocks().allSatisfy { $0.journal == second })
    }

    @Test("that begin a generation leave out a mirror that can't be written, not the generation")
    func generationWithoutMirror() throws {
        let kept = try Kept()
        defer { kept.close() }
        let ids = kept.ids
        kept.disk.inject(Fault("/v1/superblock", .rename, code: EIO))
        let begun = try #require(
            kept.keeper.beginGeneration(volumes: Array(ids[2..<5]), firstNumber: LogNumber(rawValue: 5)))
        #expect(kept.keeper.mirrorSet == [ids[0], ids[2]] && kept.keeper.journal == begun)
        let highest = try kept.highest()
        #expect(highest.journal == begun && highest.mirrorSet == [ids[0], ids[2]])
        #expect(try kept.superblocks().count { $0.epoch == begun.epoch } == 4)
    }
}
