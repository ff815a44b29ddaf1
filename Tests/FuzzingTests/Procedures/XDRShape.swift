// The shape of XDR data, as data: an independent reading of RFC 4506 to hold arguments and replies against.

indirect enum XDRShape: Sendable {
    /// unsigned int
    case word
    /// unsigned int, one of these; also bool and enum
    case number(ClosedRange<UInt32>)
    /// unsigned hyper
    case hyper
    /// opaque<max>, string<max>
    case opaque(Int)
    /// opaque<max> whose padding may be missing: it is the last thing of a record
    case lastOpaque(Int)
    /// opaque[count]
    case fixed(Int)
    /// T*, also what a bool decides on
    case optional(XDRShape)
    /// A linked list: each entry after a true
    case list(XDRShape)
    /// T<max>
    case array(XDRShape, max: UInt32)
    case sequence([XDRShape])
    /// union switch (unsigned int); numbers without an arm have the other, if there is one
    case union([UInt32: XDRShape], other: XDRShape?)

    static let nothing = XDRShape.sequence([])
    static let bool = XDRShape.number(0...1)

    /// Where data of this shape that starts at `start` ends; nil when it isn't of this shape.
    func end(in bytes: [UInt8], from start: Int = 0) -> Int? {
        func number(at position: Int) -> UInt32? { wireWord(bytes[min(position, bytes.count)...], 0) }
        func opaqueEnd(_ max: Int, isPadded: Bool) -> Int? {
            guard let count = number(at: start), Int(count) <= max else { return nil }
            let end = start + 4 + (isPadded ? (Int(count) + 3) & ~3 : Int(count))
            return end <= bytes.count ? end : nil
        }
        switch self {
        case .word: return number(at: start) == nil ? nil : start + 4
        case .number(let range): return number(at: start).flatMap { range.contains($0) ? start + 4 : nil }
        case .hyper: return start + 8 <= bytes.count ? start + 8 : nil
        case .fixed(let count): return start + count <= bytes.count ? start + count : nil
        case .opaque(let max): return opaqueEnd(max, isPadded: true)
        case .lastOpaque(let max): return opaqueEnd(max, isPadded: false)
        case .optional(let shape):
            return XDRShape.union([0: .nothing, 1: shape], other: nil).end(in: bytes, from: start)
        case .list(let shape):
            var position = start
            while let flag = number(at: position) {
                guard flag <= 1 else { return nil }
                position += 4
                if flag == 0 { return position }
                guard let end = shape.end(in: bytes, from: position) else { return nil }
                position = end
            }
            return nil
        case .array(let shape, let max):
            guard let count = number(at: start), count <= max else { return nil }
            var position = start + 4
            for _ in 0..<count {
                guard let end = shape.end(in: bytes, from: position) else { return nil }
                position = end
            }
            return position
        case .sequence(let shapes):
            var position = start
            for shape in shapes {
                guard let end = shape.end(in: bytes, from: position) else { return nil }
                position = end
            }
            return position
        case .union(let arms, let other):
            guard let choice = number(at: start), let shape = arms[choice] ?? other else { return nil }
            return shape.end(in: bytes, from: start + 4)
        }
    }
}
