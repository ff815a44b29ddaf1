// Internal blocks against those that a real HDFS 3.4.1 wrote for the same files (Fixtures/striped-blocks.json).

import BlockStore
import Foundation
import Model
import Platform
import Striping
import Testing

struct HDFSConformanceTests {
    struct InternalBlock: Decodable {
        let index: Int
        let length: Int
        let sha256: String
        let meta_header: String
        let meta_length: Int
        let first_checksums: String
    }

    struct File: Decodable {
        let group_id_low_4_bits: Int
        let internal_blocks: [InternalBlock]
    }

    static func content(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count + 32)
        var number: UInt64 = 0
        while bytes.count < count {
            bytes += SHA256.digest(Array("sluice".utf8) + withUnsafeBytes(of: number.bigEndian) { Array($0) })
            number += 1
        }
        return Array(bytes.prefix(count))
    }

    static func hex(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    @Test("SHA-256 of the tests gives the digests of FIPS 180-4")
    func sha256() {
        #expect(
            Self.hex(SHA256.digest(Array("abc".utf8)))
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(
            Self.hex(SHA256.digest([])) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    }

    @Test("internal blocks and checksum files are byte for byte those of HDFS, and no others are there")
    func sameBlocks() async throws {
        let path = try #require(
            Bundle.module.url(forResource: "striped-blocks", withExtension: "json", subdirectory: "Fixtures"))
        let policies = try JSONDecoder().decode([String: [String: File]].self, from: Data(contentsOf: path))
        let store = try Store(volumes: 9)
        let longest = Self.content(10_000_000)
        var compared = 0
        for (name, files) in policies {
            let policy = try ErasureCodingPolicy(name)
            let pool = CellBufferPool(cellSizeBytes: policy.cellSizeBytes, capacity: 2 * policy.totalUnits)
            for (length, file) in files {
                let group = BlockGroupID(ordinal: UInt64(compared) * 1000)
                #expect(group.rawValue & 15 == file.group_id_low_4_bits)
                let bytes = Array(longest.prefix(try #require(Int(length))))
                let stream = try store.stream(group, policy, pool: pool)
                try await stream.append(Payload(bytes: bytes))
                try await stream.seal()
                #expect(pool.freeCount == pool.capacity)

                let expected = Dictionary(uniqueKeysWithValues: file.internal_blocks.map { ($0.index, $0) })
                for index in 0..<policy.totalUnits {
                    let paths = store.paths(group, index)
                    guard let block = expected[index] else {
                        #expect(store.bytes(paths.data) == nil && store.bytes(paths.meta) == nil)
                        continue
                    }
                    let data = try #require(store.bytes(paths.data), "\(name) \(length) \(index)")
                    let meta = try #require(store.bytes(paths.meta))
                    #expect(data.count == block.length)
                    #expect(Self.hex(SHA256.digest(data)) == block.sha256, "\(name) \(length) \(index)")
                    #expect(meta.count == block.meta_length)
                    #expect(Self.hex(meta.prefix(7)) == block.meta_header)
                    #expect(
                        Self.hex(meta.dropFirst(7).prefix(block.first_checksums.count / 2)) == block.first_checksums)
                }
                let reader = StripedReader<Volume>(counters: StripingCounters(), memory: DecodingMemory(capacity: 1 << 20)) { _ in }
                let back = try await reader.read(
                    store.group(group, policy, length: bytes.count), ByteRange(0, UInt64(bytes.count)))
                #expect(back.bytes == bytes)
                compared += 1
            }
        }
        #expect(compared == 18)
    }
}
