// Internal blocks on a volume: what was written is read, and nothing else.

import BlockStore
import FaultInjection
import Model
import NIOCore
import Platform
import Testing

struct BlockTests {
    @Test("random packets are read back in random ranges")
    func readBack() async throws {
        for seed in 0..<10 as Range<UInt64> {
            var random = SeededGenerator(seed: seed)
            let simulated = try SimulatedVolume()
            let bytes = randomBytes(Int.random(in: 1...20_000, using: &random), seed: seed)
            let writer = simulated.volume.open()
            var offset = 0
            while offset < bytes.count {
                let end = min(bytes.count, offset + 512 * Int.random(in: 1...8, using: &random))
                let sync = Bool.random(using: &random)
                let acknowledgement = try await writer.append(bytes[offset..<end], sync: sync)
                #expect(acknowledgement.length == UInt64(end))
                if sync { #expect(acknowledgement.durableLength == UInt64(end)) }
                offset = end
            }
            let acknowledgement = try await writer.finalize()
            #expect(acknowledgement.durableLength == UInt64(bytes.count))
            for _ in 0..<50 {
                let low = Int.random(in: 0..<bytes.count, using: &random)
                let high = Int.random(in: (low + 1)...bytes.count, using: &random)
                #expect(
                    try await simulated.volume.read(low..<high, of: bytes.count) == Array(bytes[low..<high]),
                    "seed \(seed), \(low)..<\(high)")
            }
        }
    }

    @Test("block and checksum file have HDFS's names and header")
    func names() async throws {
        let simulated = try SimulatedVolume()
        try await simulated.volume.write([1, 2, 3])
        #expect(simulated.disk.content(of: dataPath) == [1, 2, 3])
        let meta = try #require(simulated.disk.content(of: metaPath))
        #expect(Array(meta.prefix(7)) == [0, 1, 2, 0, 0, 2, 0])
        #expect(meta.count == 11)
    }

    @Test("a block that got no bytes leaves no files")
    func emptyBlock() async throws {
        let simulated = try SimulatedVolume()
        let writer = simulated.volume.open()
        try await writer.append([], sync: true)
        try await writer.finalize()
        #expect(simulated.disk.content(of: dataPath) == nil)
        #expect(simulated.disk.content(of: metaPath) == nil)
    }

    @Test("a changed bit in a chunk or in its checksum is noticed by each read of that chunk, and only by those")
    func corruption() async throws {
        let simulated = try SimulatedVolume()
        let bytes = randomBytes(3000, seed: 1)
        try await simulated.volume.write(bytes)
        for chunk in 0..<6 {
            for (path, offset) in [(dataPath, chunk * 512 + 100), (metaPath, 7 + chunk * 4 + 1)] {
                simulated.disk.flipBits(path, at: offset, mask: 4)
                for other in 0..<6 {
                    let range = (other * 512 + 5)..<min(3000, other * 512 + 300)
                    if other == chunk {
                        await #expect(throws: BlockReadError.corrupt(offset: UInt64(chunk * 512))) {
                            try await simulated.volume.read(range, of: 3000)
                        }
                    } else {
                        #expect(try await simulated.volume.read(range, of: 3000) == Array(bytes[range]))
                    }
                }
                simulated.disk.flipBits(path, at: offset, mask: 4)
            }
        }
        #expect(try await simulated.volume.read(0..<3000, of: 3000) == bytes)
    }

    @Test("missing, short and unreadable blocks are told apart, and looked for anew")
    func readErrors() async throws {
        let simulated = try SimulatedVolume()
        let volume = simulated.volume
        await #expect(throws: BlockReadError.missing) { try await volume.read(0..<1, of: 3000) }
        try await volume.write(randomBytes(3000, seed: 1))
        #expect(try await volume.read(0..<3000, of: 3000).count == 3000)

        // A checksum file of another stamp is none (a stale block must not be believed).
        let nextStamp = GenerationStamp(rawValue: 1002)
        await #expect(throws: BlockReadError.missing) {
            try await volume.read(block, generationStamp: nextStamp, range: ByteRange(0, 1), expectedLength: 3000)
        }
        await #expect(throws: BlockReadError.tooShort(length: 3000)) { try await volume.read(0..<4000, of: 4000) }

        let error = IOError(code: 5, operation: "pread", path: metaPath)
        simulated.disk.inject(Fault(metaPath, .read, code: 5))
        await #expect(throws: BlockReadError.inputOutput(error)) { try await volume.read(0..<1, of: 3000) }
        simulated.disk.removeFaults()
        #expect(volume.isHealthy)

        simulated.disk.truncate(metaPath, to: 20)
        await #expect(throws: BlockReadError.damagedChecksums) { try await volume.read(0..<3000, of: 3000) }
        simulated.disk.flipBits(metaPath, at: 1)
        await #expect(throws: BlockReadError.damagedChecksums) { try await volume.read(0..<1, of: 3000) }
        simulated.disk.truncate(dataPath, to: 1000)
        simulated.disk.flipBits(metaPath, at: 1)
        #expect(try await volume.read(0..<1, of: 3000).count == 1)
        await #expect(throws: BlockReadError.tooShort(length: 1000)) { try await volume.read(600..<1001, of: 3000) }
    }

    @Test("what was synced survives a power cut, names included; with a disk that lies it does not")
    func durability() async throws {
        var lost = 0
        for isLying in [false, true] {
            for seed in 0..<12 as Range<UInt64> {
                let simulated = try SimulatedVolume()
                simulated.disk.ignoresSync = isLying
                let bytes = randomBytes(8192, seed: seed)
                let writer = simulated.volume.open()
                try await writer.append(bytes[..<4096], sync: true)
                try await writer.append(bytes[4096...])
                let after = try SimulatedVolume(simulated.disk.crash(seed: seed))
                let found = try? await after.volume.read(0..<4096, of: 4096)
                if isLying {
                    lost += found == Array(bytes[..<4096]) ? 0 : 1
                } else {
                    #expect(found == Array(bytes[..<4096]), "seed \(seed)")
                }
            }
        }
        #expect(lost > 4)
    }

    @Test("only so many blocks are kept open for reading, the ones used last")
    func boundedDescriptors() async throws {
        let first = try SimulatedVolume()
        let group = BlockGroupID(ordinal: 0)
        for index in 0..<4 {
            let writer = first.volume.open(group.internalBlock(index), generationStamp: .first)
            try await writer.append([UInt8(index)])
            try await writer.finalize()
        }
        first.volume.close()
        let simulated = try SimulatedVolume(first.disk, maxReadDescriptors: 2)
        func opens(readingBlocks indices: [Int]) async throws -> Int {
            let before = simulated.disk.callCount(.open, under: "/v/blocks/")
            for index in indices {
                let bytes = try await simulated.volume.read(
                    group.internalBlock(index), generationStamp: .first, range: ByteRange(0, 1), expectedLength: 1)
                #expect(bytes == ByteBuffer(bytes: [UInt8(index)]))
            }
            return simulated.disk.callCount(.open, under: "/v/blocks/") - before
        }
        #expect(try await opens(readingBlocks: [0, 1, 0, 1]) == 4)
        #expect(try await opens(readingBlocks: [0, 2, 0]) == 2)
        #expect(try await opens(readingBlocks: [1]) == 2)
    }

    @Test("a deleted block is missing, also while it is open for reading; deleting twice is no error")
    func deletion() async throws {
        let simulated = try SimulatedVolume()
        try await simulated.volume.write([1, 2, 3])
        #expect(try await simulated.volume.read(0..<3, of: 3) == [1, 2, 3])
        for _ in 0..<2 { try await simulated.volume.delete(block, generationStamp: .first) }
        await #expect(throws: BlockReadError.missing) { try await simulated.volume.read(0..<3, of: 3) }
        #expect(simulated.disk.content(of: dataPath) == nil && simulated.disk.content(of: metaPath) == nil)
    }

    @Test("a listing has ids, stamps and lengths, also of halves, and leaves foreign names out")
    func listing() async throws {
        let simulated = try SimulatedVolume()
        let group = BlockGroupID(ordinal: 3)
        for index in 0..<3 {
            let writer = simulated.volume.open(group.internalBlock(index), generationStamp: .first)
            try await writer.append([UInt8](repeating: 7, count: index + 1))
            try await writer.finalize()
        }
        let directory = "/v/blocks/00"
        try simulated.disk.remove(directory + "/blk_\(group.internalBlock(1).rawValue)")
        try simulated.disk.remove(directory + "/blk_\(group.internalBlock(2).rawValue)_1001.meta")
        for name in ["blk_", "blk_1x", "blk_01", "blk_1_2_3.meta", "x", "blk_5_1.meta.new"] {
            _ = try simulated.disk.open(directory + "/" + name, .createNew)
        }
        #expect(
            try await simulated.volume.listBlocks(inSubdirectory: 0) == [
                StoredBlock(block: group.internalBlock(0), generationStamp: .first, length: 1),
                StoredBlock(block: group.internalBlock(1), generationStamp: .first, length: nil),
                StoredBlock(block: group.internalBlock(2), generationStamp: nil, length: 3),
            ])
        #expect(try await simulated.volume.listBlocks(inSubdirectory: 1) == [])
    }
}
