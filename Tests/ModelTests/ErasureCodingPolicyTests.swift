import Model
import Testing

@Suite("Erasure coding policies")
struct ErasureCodingPolicyTests {
    @Test(
        "a name gives its numbers and is given back",
        arguments: ["RS-3-2-1024k", "RS-6-3-1024k", "RS-10-4-1024k", "XOR-2-1-1024k", "RS-5-2-4k", "RS-2-1-16384k"])
    func roundTrip(_ name: String) throws {
        let policy = try ErasureCodingPolicy(name)
        #expect(policy.description == name)
        let numbers = name.split(separator: "-")
        #expect(policy.dataUnits == Int(numbers[1]))
        #expect(policy.parityUnits == Int(numbers[2]))
        #expect(policy.cellSizeBytes == Int(numbers[3].dropLast())! * 1024)
        #expect(policy.stripeSizeBytes == policy.dataUnits * policy.cellSizeBytes)
    }

    @Test("without a cell size it is HDFS's usual 1024k")
    func usualCells() throws {
        #expect(try ErasureCodingPolicy("RS-6-3") == ErasureCodingPolicy("RS-6-3-1024k"))
    }

    @Test(
        "what is no policy, or no safe one, is refused",
        arguments: [
            "", "RS", "RS-3", "rs-3-2-1024k", "RS-3-2-1024", "RS-3-2-1024K", "RS-3-2--1024k", "RS-3--2-1024k",
            "RS-2-2-1024k", "RS-2-3-1024k", "RS-3-0-1024k", "RS-0-0-1024k", "RS-12-5-1024k", "XOR-3-2-1024k",
            "RS-3-2-0k", "RS-3-2-3k", "RS-3-2-2k", "RS-3-2-32768k", "RS-3-2-1000k", "RS-3-2-1024k-1", "RAID-3-2-1024k",
            "RS-3-2-9223372036854775807k", "RS-99999999999999999999-2-1024k",
        ])
    func refused(_ name: String) {
        #expect(throws: ErasureCodingPolicy.Refusal.self) { try ErasureCodingPolicy(name) }
    }

    @Test("the usual policy is the widest that the volumes can hold")
    func standard() {
        let names = (0...15).map { ErasureCodingPolicy.standard(forVolumes: $0)?.description }
        #expect(names[0...2] == [nil, nil, nil])
        #expect(names[3...4] == ["XOR-2-1-1024k", "XOR-2-1-1024k"])
        #expect(Set(names[5...8]) == ["RS-3-2-1024k"])
        #expect(Set(names[9...13]) == ["RS-6-3-1024k"])
        #expect(Set(names[14...15]) == ["RS-10-4-1024k"])
    }
}
