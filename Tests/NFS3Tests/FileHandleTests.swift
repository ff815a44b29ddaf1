// File handles: their layout, and that none can be made without the key.

import FileService
import Model
import Testing

@testable import NFS3

@Suite("File handles")
struct FileHandleTests {
    @Test("SipHash-2-4 gives the published values")
    func sipHash() {
        // Aumasson and Bernstein's vectors: key 00 01 … 0f, messages of 0, 1, … 63 bytes 00 01 ….
        let vectors: [UInt64] = [
            0x726f_db47_dd0e_0e31, 0x74f8_39c5_93dc_67fd, 0x0d6c_8009_d9a9_4f5a, 0x8567_6696_d7fb_7e2d,
            0xcf27_94e0_2771_87b7, 0x1876_5564_cd99_a68d, 0xcbc9_466e_58fe_e3ce, 0xab02_00f5_8b01_d137,
            0x93f5_f579_9a93_2462, 0x9e00_82df_0ba9_e4b0, 0x7a5d_bbc5_94dd_b9f3, 0xf4b3_2f46_226b_ada7,
            0x751e_8fbc_860e_e5fb, 0x14ea_5627_c084_3d90, 0xf723_ca90_8e7a_f2ee, 0xa129_ca61_49be_45e5,
        ]
        for (count, expected) in vectors.enumerated() {
            let message = (0..<count).map { UInt8($0) }
            #expect(
                SipHash.hash(message, k0: 0x0706_0504_0302_0100, k1: 0x0f0e_0d0c_0b0a_0908) == expected,
                "\(count) bytes")
        }
        let longest = (0..<63).map { UInt8($0) }
        #expect(
            SipHash.hash(longest, k0: 0x0706_0504_0302_0100, k1: 0x0f0e_0d0c_0b0a_0908) == 0x958a_324c_eb06_4572)
    }

    @Test("a handle has its documented bytes and leads back to its file")
    func layout() throws {
        for (file, bytes) in [
            (Fixture.root, Fixture.rootHandle), (Fixture.file, Fixture.fileHandle),
            (Fixture.other, Fixture.otherHandle),
        ] {
            #expect(Fixture.codec.handle(of: file).bytes == bytes.bytes)
            #expect(try Fixture.codec.reference(of: FileHandle(bytes.bytes)) == file)
        }
        let extreme = FileReference(id: FileID(rawValue: .max), generation: FileGeneration(rawValue: .max))
        #expect(try Fixture.codec.reference(of: Fixture.codec.handle(of: extreme)) == extreme)
    }

    @Test("a handle says in which export it was given out")
    func exportRoot() throws {
        let handle = FileHandle(
            WireBytes.hex("0200000051574c5549434521000000000000000700000000000000770000000000000009bfbbc0a2848e4815")
                .bytes)
        #expect(Fixture.codec.handle(of: Fixture.file, exportRoot: Fixture.other.id) == handle)
        let decoded = try Fixture.codec.decode(handle)
        #expect(decoded.file == Fixture.file && decoded.exportRoot == Fixture.other.id)
    }

    @Test("a handle of version 1, which had no export, is refused")
    func firstVersion() {
        let handle = WireBytes.hex("0100000051574c554943452100000000000000010000000000000011756fdb7f6db8156b")
        #expect(throws: NFSStatus.badHandle) { try Fixture.codec.decode(FileHandle(handle.bytes)) }
    }

    @Test("a handle with any bit changed is refused: BADHANDLE, or STALE when it names another store")
    func forged() {
        let handle = Fixture.fileHandle.bytes
        for index in handle.indices {
            for bit in 0..<8 {
                var forged = handle
                forged[index] ^= 1 << bit
                let expected: NFSStatus = (4..<12).contains(index) ? .stale : .badHandle
                #expect(throws: expected, "bit \(bit) of byte \(index)") {
                    try Fixture.codec.reference(of: FileHandle(forged))
                }
            }
        }
    }

    @Test("a handle of any other length is NFS3ERR_BADHANDLE")
    func length() {
        for count in 0...64 where count != 44 {
            let bytes = Array((Fixture.fileHandle.bytes + Array(repeating: 0, count: 28)).prefix(count))
            #expect(throws: NFSStatus.badHandle) { try Fixture.codec.reference(of: FileHandle(bytes)) }
        }
    }

    @Test("another key or another store makes other handles")
    func otherStore() {
        let otherKey = FileHandleCodec(key: FileHandleKey(1, 2), storeID: Fixture.storeID)
        #expect(throws: NFSStatus.badHandle) { try otherKey.reference(of: FileHandle(Fixture.fileHandle.bytes)) }
        let otherStore = FileHandleCodec(
            key: FileHandleKey(1, 2), storeID: StoreID(rawValue: UniqueID(high: 0xfeed, low: 1)))
        #expect(throws: NFSStatus.stale) { try otherStore.reference(of: FileHandle(Fixture.fileHandle.bytes)) }
    }

    @Test("a handle survives a restart: it depends on nothing but key, store and file")
    func restart() throws {
        let after = FileHandleCodec(key: Fixture.key, storeID: Fixture.storeID)
        #expect(try after.reference(of: Fixture.codec.handle(of: Fixture.file)) == Fixture.file)
    }
}
