// The small value types: ranges, identifiers, times, names, credentials.

import Model
import Testing

@Suite("Byte ranges")
struct ByteRangeTests {
    @Test("agree with sets of bytes, for all small ranges")
    func matchesModel() {
        let ranges = (0...5 as ClosedRange<UInt64>).flatMap { low in (low...5).map { ByteRange(low, $0) } }
        for left in ranges {
            let bytes = Set(left.lowerBound..<left.upperBound)
            #expect(left.count == UInt64(bytes.count) && left.isEmpty == bytes.isEmpty)
            for offset in 0...6 as ClosedRange<UInt64> { #expect(left.contains(offset) == bytes.contains(offset)) }
            for right in ranges {
                let common = bytes.intersection(right.lowerBound..<right.upperBound)
                #expect(left.overlaps(right) == !common.isEmpty)
                #expect(left.intersection(right).map { Set($0.lowerBound..<$0.upperBound) } ?? [] == common)
                if !right.isEmpty { #expect(left.contains(right) == (common.count == right.count)) }
            }
        }
    }
}

@Suite("Identifiers")
struct IdentifierTests {
    @Test("block group ids are HDFS's: negative, from the least, in steps of sixteen")
    func blockGroups() {
        #expect(BlockGroupID(ordinal: 0).rawValue == Int64.min)
        #expect(BlockGroupID(ordinal: 1).rawValue == Int64.min + 16)
        for ordinal in [0, 1, 2, 1000, 1 << 40, (1 << 59) - 1] as [UInt64] {
            let group = BlockGroupID(ordinal: ordinal)
            #expect(group.ordinal == ordinal)
            #expect(group.rawValue < 0)
            for index in 0..<16 {
                #expect(group.internalBlock(index).group == group)
                #expect(group.internalBlock(index).index == index)
            }
        }
        #expect(BlockGroupID(ordinal: 0) < BlockGroupID(ordinal: 1))
    }

    @Test("unique ids print all their digits")
    func uniqueIDs() {
        #expect(UniqueID(high: 0, low: 0x0a).description == "0000000000000000000000000000000a")
        #expect(UniqueID(high: .max, low: 0).description == "ffffffffffffffff0000000000000000")
    }
}

@Suite("Times, names and credentials")
struct AttributeTests {
    @Test("the successor of a time is later by a nanosecond, also over a second's end")
    func successor() {
        let time = Timestamp(seconds: 7, nanoseconds: 999_999_998)
        #expect(time.successor == Timestamp(seconds: 7, nanoseconds: 999_999_999))
        #expect(time.successor.successor == Timestamp(seconds: 8, nanoseconds: 0))
        #expect(time < time.successor)
        #expect(Timestamp(seconds: -1, nanoseconds: 999_999_999) < Timestamp(seconds: 0, nanoseconds: 0))
    }

    @Test("names are bytes: canonically equal texts are different names (RFC 1813 §3.2)")
    func names() throws {
        let composed = try FileName(Array("\u{e9}".utf8))
        let decomposed = try FileName(Array("e\u{301}".utf8))
        #expect("\u{e9}" == "e\u{301}")
        #expect(composed != decomposed)
        #expect(throws: FileName.Refusal.empty) { try FileName([]) }
        #expect(throws: FileName.Refusal.tooLong) { try FileName([UInt8](repeating: 65, count: 256)) }
        #expect(throws: FileName.Refusal.forbiddenByte) { try FileName(Array("a/b".utf8)) }
        #expect(throws: FileName.Refusal.forbiddenByte) { try FileName([65, 0]) }
        #expect(try FileName([UInt8](repeating: 0xff, count: 255)).bytes.count == 255)
        #expect(try FileName([46]).isDot && FileName([46, 46]).isDotDot && !FileName([46, 46, 46]).isDotDot)
    }

    @Test("a caller belongs to its group and its supplementary groups")
    func groups() {
        let caller = Credentials(uid: 1, gid: 2, groups: [3, 4])
        #expect([1, 2, 3, 4, 5].map { caller.isMember(of: $0) } == [false, true, true, true, false])
        #expect(!caller.isSuperuser && Credentials(uid: 0, gid: 9, groups: []).isSuperuser)
    }
}
