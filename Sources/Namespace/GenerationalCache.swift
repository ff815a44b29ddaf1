// A bounded cache that costs a dictionary access or two: when the young half is full it becomes the old
// half, and the old half is forgotten. What is used stays.

/// At most `limit` values. Not synchronised.
struct GenerationalCache<Key: Hashable, Value> {
    private var young: [Key: Value] = [:]
    private var old: [Key: Value] = [:]
    private let limit: Int
    /// How often a half was forgotten.
    private(set) var rotations = 0

    init(limit: Int) { self.limit = max(2, limit) }

    var count: Int { young.count + old.count }

    subscript(key: Key) -> Value? {
        mutating get {
            if let value = young[key] { return value }
            guard let value = old.removeValue(forKey: key) else { return nil }
            insert(value, key)
            return value
        }
        set {
            old[key] = nil
            if let newValue { insert(newValue, key) } else { young[key] = nil }
        }
    }

    private mutating func insert(_ value: Value, _ key: Key) {
        if young.count >= limit / 2, young[key] == nil {
            old = young
            young = [:]
            rotations += 1
        }
        young[key] = value
    }
}
