import BlockStore
import Dispatch
import FaultInjection
import Model
import Platform
import Testing

struct VolumeTests {
    @Test("a format that was cut short anywhere leaves no volume, and can be repeated")
    func interruptedFormat() throws {
        var random = SeededGenerator(seed: 1)
        let superblock = try makeSuperblock(using: &random)
        for calls in stride(from: 0, through: 560, by: 23) {
            let disk = SimulatedFileSystem()
            disk.losePower(afterCalls: calls)
            let isDone = (try? Volume.format(directory: "/v", superblock: superblock, fileSystem: disk)) != nil
            let after = disk.crash(seed: UInt64(calls))
            if !isDone, (try? Superblock.read(volumeDirectory: "/v", fileSystem: after)) == nil {
                try Volume.format(directory: "/v", superblock: superblock, fileSystem: after)
            }
            let again = after.crash(seed: 1)
            #expect(try Volume(directory: "/v", fileSystem: again).superblock == superblock)
            #expect(try again.list("/v/blocks").count == 256)
            #expect(try again.status("/v/metadata")?.isDirectory == true)
        }
    }

    @Test("a formatted volume is not formatted again, nor is one whose superblock is damaged")
    func formatRefused() throws {
        let simulated = try SimulatedVolume()
        for _ in 0..<2 {
            #expect(throws: VolumeFormatError.alreadyFormatted(path: "/v/superblock")) {
                try Volume.format(
                    directory: "/v", superblock: simulated.volume.superblock, fileSystem: simulated.disk)
            }
            simulated.disk.truncate("/v/superblock", to: 3)
        }
    }

    @Test(
        "an I/O error of a write, sync or creation fails the volume: told once, no more writes, still reads",
        arguments: [FileOperation.open, .write, .sync, .syncDirectory])
    func failure(operation: FileOperation) async throws {
        let simulated = try SimulatedVolume()
        let volume = simulated.volume
        try await volume.write([1, 2, 3])
        let other = block.group.internalBlock(3)
        simulated.disk.inject(Fault("/v/blocks/", operation, code: 5, count: 1))
        let writer = volume.open(other, generationStamp: .first)
        let error = try #require(
            await #expect(throws: BlockWriteError.self) { try await writer.append([1], sync: true) })
        guard case .targetFailed(.inputOutput(let cause)) = error else {
            Issue.record(error)
            return
        }
        #expect(cause.code == 5)
        #expect(volume.state == .failed(.inputOutput(cause)))

        // The fault is over, but a failed sync must not be tried again (Linux marks failed pages clean).
        let calls = simulated.disk.callCount(.sync) + simulated.disk.callCount(.write)
        await #expect(throws: error) { try await writer.append([2], sync: true) }
        await #expect(throws: error) { try await writer.finalize() }
        let next = volume.open(block.group.internalBlock(4), generationStamp: .first)
        await #expect(throws: error) { try await next.append([1], sync: true) }
        #expect(simulated.disk.callCount(.sync) + simulated.disk.callCount(.write) == calls)
        #expect(simulated.failures.all == [.inputOutput(cause)])
        #expect(try await volume.read(0..<3, of: 3) == [1, 2, 3])
    }

    @Test("without room a block fails, the volume doesn't", arguments: [FileOperation.open, .write, .sync])
    func noSpace(operation: FileOperation) async throws {
        let simulated = try SimulatedVolume()
        simulated.disk.inject(Fault(dataPath, operation, code: 28, writtenBytes: 100))
        let writer = simulated.volume.open()
        for _ in 0..<2 {
            let error = await #expect(throws: BlockWriteError.self) {
                try await writer.append(randomBytes(512, seed: 1), sync: true)
            }
            guard case .noSpace(let cause) = error, cause.code == 28 else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        #expect(simulated.volume.isHealthy)
        try await simulated.volume.delete(block, generationStamp: .first)
        simulated.disk.removeFaults()
        try await simulated.volume.write([1])
    }

    @Test("a block that is there is not overwritten, and the volume stays healthy")
    func alreadyExists() async throws {
        let simulated = try SimulatedVolume()
        try await simulated.volume.write([1, 2, 3])
        await #expect(throws: BlockWriteError.alreadyExists(block)) { try await simulated.volume.write([4]) }
        #expect(try await simulated.volume.read(0..<3, of: 3) == [1, 2, 3])
        #expect(simulated.volume.isHealthy)
    }

    @Test("a deleted directory is noticed though files are open in it")
    func deletedDirectory() async throws {
        let simulated = try SimulatedVolume()
        #expect(await simulated.volume.check() == .healthy)
        simulated.disk.disappear("/v")
        #expect(
            await simulated.volume.check() == .failed(.superblock(.missing(path: "/v/superblock"))))
        #expect(simulated.failures.all.count == 1)
    }

    @Test("another volume in its place is noticed")
    func replaced() async throws {
        let simulated = try SimulatedVolume()
        var random = SeededGenerator(seed: 99)
        let other = try makeSuperblock(using: &random)
        try other.write(volumeDirectory: "/v", fileSystem: simulated.disk)
        #expect(await simulated.volume.check() == .failed(.replaced(by: other.volumeID)))
    }

    @Test("a new superblock is on the disk and in memory; one that can't be written fails the volume")
    func superblockUpdate() throws {
        let simulated = try SimulatedVolume()
        var superblock = simulated.volume.superblock
        superblock.epoch = superblock.epoch.next
        try simulated.volume.writeSuperblock(superblock)
        #expect(simulated.volume.superblock == superblock)
        #expect(try Superblock.read(volumeDirectory: "/v", fileSystem: simulated.disk) == superblock)
        simulated.disk.inject(Fault("/v/superblock", .sync, code: 5))
        #expect(throws: VolumeFailure.self) { try simulated.volume.writeSuperblock(superblock) }
        #expect(!simulated.volume.isHealthy)
    }

    @Test(
        "a superblock that can't be written for want of descriptors or memory fails no volume", arguments: [23, 24, 12])
    func superblockInShortage(code: Int32) throws {
        let simulated = try SimulatedVolume()
        let old = simulated.volume.superblock
        var superblock = old
        superblock.promisedEpoch = old.promisedEpoch.next
        simulated.disk.inject(Fault("/v/superblock", .open, code: code))
        #expect(throws: VolumeFailure.self) { try simulated.volume.writeSuperblock(superblock) }
        #expect(simulated.volume.isHealthy && simulated.failures.all.isEmpty)
        #expect(simulated.volume.superblock == old)
        simulated.disk.removeFaults()
        try simulated.volume.writeSuperblock(superblock)
        #expect(simulated.volume.superblock == superblock)
    }

    @Test("a read doesn't wait for a sync")
    func readDuringSync() async throws {
        let simulated = try SimulatedVolume()
        try await simulated.volume.write([1, 2, 3])
        let (syncs, entered) = AsyncStream<Void>.makeStream()
        let leave = DispatchSemaphore(value: 0)
        simulated.disk.before(.sync, under: "/v/blocks/") {
            entered.yield()
            leave.wait()
        }
        let writer = simulated.volume.open(block.group.internalBlock(3), generationStamp: .first)
        async let finalized = writer.append([1], sync: true)
        for await _ in syncs { break }
        simulated.disk.removeHooks()
        #expect(try await simulated.volume.read(0..<3, of: 3) == [1, 2, 3])
        leave.signal()
        #expect(try await finalized.durableLength == 1)
    }
}
