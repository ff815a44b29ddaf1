// Blocks that were open at a crash, cut to what was published of them.

import BlockStore
import FaultInjection
import Model
import Platform
import Testing

struct SealTests {
    private static func seal(_ volume: Volume, _ length: Int) async throws {
        try await volume.sealAfterCrash(block, generationStamp: .first, length: UInt64(length))
    }

    /// The files of a block that was written with just these bytes.
    private static func files(of bytes: ArraySlice<UInt8>) async throws -> [[UInt8]?] {
        let simulated = try SimulatedVolume()
        try await simulated.volume.write(Array(bytes))
        return [simulated.disk.content(of: dataPath), simulated.disk.content(of: metaPath)]
    }

    @Test("after a crash a sealed block is exactly its published bytes, whatever was appended after them")
    func sealed() async throws {
        for seed in 0..<15 as Range<UInt64> {
            var random = SeededGenerator(seed: seed)
            let bytes = randomBytes(8192, seed: seed)
            let length = 512 * Int.random(in: 0...8, using: &random)
            let simulated = try SimulatedVolume()
            let writer = simulated.volume.open()
            try await writer.append(bytes[..<length], sync: true)
            try await writer.append(bytes[length...])
            let after = try SimulatedVolume(simulated.disk.crash(seed: seed))
            for _ in 0..<2 { try await Self.seal(after.volume, length) }
            let durable = after.disk.crash(seed: seed)
            let expected = length == 0 ? [nil, nil] : try await Self.files(of: bytes[..<length])
            let found = [after, try SimulatedVolume(durable)].map {
                [$0.disk.content(of: dataPath), $0.disk.content(of: metaPath)]
            }
            // Removing is not synced, so the files of a block without published bytes may come back.
            #expect(found[0] == expected, "seed \(seed)")
            if length > 0 { #expect(found[1] == expected, "seed \(seed)") }
        }
    }

    @Test("a block that can't be sealed for want of descriptors fails no volume")
    func shortage() async throws {
        let bytes = randomBytes(3000, seed: 2)
        let simulated = try SimulatedVolume()
        try await simulated.volume.write(bytes)
        // The sealing reads first, which a volume's failure isn't about.
        simulated.disk.inject(Fault(metaPath + ".new", .open, code: 24))
        let error = await #expect(throws: BlockSealError.self) { try await Self.seal(simulated.volume, 1300) }
        guard case .notWritable(.noSpace) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(simulated.volume.isHealthy)
        simulated.disk.removeFaults()
        try await Self.seal(simulated.volume, 1300)
    }

    @Test("a cut within a chunk makes that chunk's checksum anew, with power lost at any call of the sealing")
    func withinChunk() async throws {
        let bytes = randomBytes(3000, seed: 1)
        let expected = try await Self.files(of: bytes[..<1300])
        for calls in 0... {
            let simulated = try SimulatedVolume()
            try await simulated.volume.write(bytes)
            simulated.disk.losePower(afterCalls: calls)
            let isDone = (try? await Self.seal(simulated.volume, 1300)) != nil
            let after = try SimulatedVolume(simulated.disk.crash(seed: UInt64(calls)))
            if !isDone { try await Self.seal(after.volume, 1300) }
            #expect([after.disk.content(of: dataPath), after.disk.content(of: metaPath)] == expected, "\(calls)")
            if isDone {
                #expect(calls >= 8)
                return
            }
        }
    }

    @Test("a read after the sealing sees the new checksum file")
    func readAfterSeal() async throws {
        let simulated = try SimulatedVolume()
        let bytes = randomBytes(3000, seed: 1)
        try await simulated.volume.write(bytes)
        #expect(try await simulated.volume.read(0..<3000, of: 3000) == bytes)
        try await Self.seal(simulated.volume, 1300)
        #expect(try await simulated.volume.read(0..<1300, of: 1300) == Array(bytes[..<1300]))
    }

    @Test("a block that lacks published bytes, or has them changed, is refused and left as it is")
    func refused() async throws {
        let bytes = randomBytes(3000, seed: 1)
        let simulated = try SimulatedVolume()
        await #expect(throws: BlockSealError.unreadable(.missing)) { try await Self.seal(simulated.volume, 1) }
        try await simulated.volume.write(bytes)
        await #expect(throws: BlockSealError.unreadable(.tooShort(length: 3000))) {
            try await Self.seal(simulated.volume, 3001)
        }
        for (offset, chunk) in [(100, 0), (1030, 1024)] {
            simulated.disk.flipBits(dataPath, at: offset)
            await #expect(throws: BlockSealError.unreadable(.corrupt(offset: UInt64(chunk)))) {
                try await Self.seal(simulated.volume, 1300)
            }
            #expect(simulated.disk.content(of: dataPath)?.count == 3000)
            simulated.disk.flipBits(dataPath, at: offset)
        }
        simulated.disk.truncate(metaPath, to: 12)
        await #expect(throws: BlockSealError.unreadable(.damagedChecksums)) {
            try await Self.seal(simulated.volume, 1300)
        }
        #expect(simulated.volume.isHealthy)
    }
}
