// Sizes as people write them, in flags and in the configuration: 512MiB, 2GiB.

enum DataSize {
    /// The bytes that `text`, the value of `key`, stands for.
    static func bytes(_ text: String, key: String, isFromFlag: Bool) throws(Refusal) -> Int {
        guard let bytes = bytes(text) else {
            throw Refusal(
                isFromFlag ? .usage : .configuration, "\(key): '\(text)' is not a size; one looks like 512MiB or 2GiB")
        }
        return bytes
    }

    /// A number with MiB, GiB or TiB behind it.
    private static func bytes(_ text: String) -> Int? {
        for (unit, shift) in [("MiB", 20), ("GiB", 30), ("TiB", 40)] where text.hasSuffix(unit) {
            let digits = text.utf8.dropLast(unit.count)
            guard digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
                let count = Int(Substring(digits)), count > 0, count < 1 << 20
            else { return nil }
            return count << shift
        }
        return nil
    }
}
