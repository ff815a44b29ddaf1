// A sorted set for the range reads of the overlay: pieces of a sorted array, so that an insertion in the midst of 10^5
// keys moves hundreds of them and not all.

struct SortedKeys<Key: Comparable> {
    /// In order, none of them empty or longer than `maxChunk`.
    private var chunks: [[Key]] = []

    private static var maxChunk: Int { 512 }

    var isEmpty: Bool { chunks.isEmpty }

    /// Does nothing when it is there.
    mutating func insert(_ key: Key) {
        guard !chunks.isEmpty else { return chunks.append([key]) }
        let chunk = chunk(for: key)
        let place = Self.place(of: key, in: chunks[chunk])
        guard place == chunks[chunk].count || chunks[chunk][place] != key else { return }
        chunks[chunk].insert(key, at: place)
        guard chunks[chunk].count > Self.maxChunk else { return }
        // Keys mostly come in order: the first part stays nearly full then.
        let isLast = chunk == chunks.count - 1 && place == Self.maxChunk
        let cut = isLast ? Self.maxChunk : Self.maxChunk / 2
        let tail = Array(chunks[chunk][cut...])
        chunks[chunk].removeSubrange(cut...)
        chunks.insert(tail, at: chunk + 1)
    }

    /// Does nothing when it isn't there.
    mutating func remove(_ key: Key) {
        guard !chunks.isEmpty else { return }
        let chunk = chunk(for: key)
        let place = Self.place(of: key, in: chunks[chunk])
        guard place < chunks[chunk].count, chunks[chunk][place] == key else { return }
        chunks[chunk].remove(at: place)
        if chunks[chunk].isEmpty { chunks.remove(at: chunk) }
    }

    /// The greatest key that is not above this one.
    func last(atMost key: Key) -> Key? {
        guard !chunks.isEmpty else { return nil }
        let candidates = chunks[chunk(for: key)]
        let place = Self.place(of: key, in: candidates)
        if place < candidates.count, candidates[place] == key { return key }
        return place > 0 ? candidates[place - 1] : nil
    }

    /// Gives the keys from this one on (nil: all) to `body`, in order, until it returns false.
    func forEach(from key: Key?, _ body: (Key) -> Bool) {
        guard !chunks.isEmpty else { return }
        var chunk = key.map { self.chunk(for: $0) } ?? 0
        var place = key.map { Self.place(of: $0, in: chunks[chunk]) } ?? 0
        while chunk < chunks.count {
            while place < chunks[chunk].count {
                guard body(chunks[chunk][place]) else { return }
                place += 1
            }
            chunk += 1
            place = 0
        }
    }

    /// Removes the keys from this one on, and returns them.
    mutating func removeAll(from key: Key) -> [Key] {
        var removed: [Key] = []
        forEach(from: key) {
            removed.append($0)
            return true
        }
        guard !removed.isEmpty else { return [] }
        let chunk = chunk(for: key)
        let place = Self.place(of: key, in: chunks[chunk])
        chunks[chunk].removeSubrange(place...)
        chunks.removeSubrange((chunks[chunk].isEmpty ? chunk : chunk + 1)...)
        return removed
    }

    /// Where the key is, or would be: in the last chunk that doesn't begin above it.
    private func chunk(for key: Key) -> Int {
        max(0, Self.partition(chunks.count) { chunks[$0][0] > key } - 1)
    }

    /// Of the first key that is not below.
    private static func place(of key: Key, in keys: [Key]) -> Int { partition(keys.count) { keys[$0] >= key } }

    /// The first index for which this holds; it holds for all that follow.
    private static func partition(_ count: Int, _ holds: (Int) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if holds(middle) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
