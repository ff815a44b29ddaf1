// Recognises calls that a client sends again, so that none that changes something is carried out twice, and a
// late copy of an old WRITE cannot land on newer bytes (RFC 1813 §4.5; Juszczak, USENIX 1989). A state machine
// without I/O; `DuplicateRequests` shares it between connections.
//
// A call is known by its client's address without the port (a client that reconnects may get another one), xid,
// program, version, procedure, and length and CRC32C of its arguments. The header isn't looked at: a client may
// send another credential with the copy. Risk: two clients behind one address that use the same xid for the
// same arguments at about the same time; the second would get the first's reply. Clients begin with random xids.
//
// Connections are numbered in the order in which they were accepted. A copy that comes by a younger connection
// means that the client gave up the older one. A copy by an older one is what was left in it: nobody waits for it.
//
// Invariants:
// * An entry is in progress from its `begin` to its `end`, and never evicted then; so there are at most as many of
//   these as calls in flight. They push out nothing: the bounds are on finished ones.
// * Of the finished ones a client's oldest is evicted: when the client exceeds its share, and when the whole exceeds
//   its bounds and no client has more of them. So whatever some clients do, with n of them each keeps an n-th of the
//   whole, if it needs as much. What is too old for a copy to come is forgotten as well: a program that begins
//   with the same xid at each start would otherwise get yesterday's replies, and nothing done.
// * Finished entries are in one list over all clients, and in one list per client, both in the order of their end.
//   So the oldest of all is the oldest of its client.
// * `finishedBytes` is the sum of the charges of all finished entries, and `clients` has the sums per client. A client
//   is in `byFinished` while it has finished entries.

internal import NIOCore
internal import Platform

/// A connection, numbered from 1 in the order of acceptance.
struct ConnectionNumber: Hashable, Comparable, Sendable {
    let rawValue: UInt64
    static func < (a: ConnectionNumber, b: ConnectionNumber) -> Bool { a.rawValue < b.rawValue }
}

/// What was asked lately and what was answered. Not synchronised.
struct DuplicateRequestCache {
    struct Key: Hashable, Sendable {
        let client: ClientAddress
        let xid: UInt32
        let program: UInt32
        let version: UInt32
        let procedure: UInt32
        let argumentsCount: Int
        let argumentsChecksum: UInt32
    }

    enum Verdict {
        /// Not seen before: carry it out, then call `end`.
        case start
        /// In progress on this connection, where the answer will go: nothing to do.
        case drop
        /// In progress; its answer now goes to this connection. The client gave up `gaveUp`, which had waited for it.
        case await(gaveUp: ConnectionNumber)
        /// Finished; this was the answer. If the last copy came by an older connection, the client gave that up.
        case replay(RPCReplyBody, gaveUp: ConnectionNumber?)
        /// The copy came by a connection that the client gave up for a younger one.
        case leftOver
    }

    private struct Entry {
        let key: Key
        /// The connection by which the latest copy came; the answer goes there.
        var connection: ConnectionNumber
        /// nil while the call is in progress.
        var reply: RPCReplyBody?
        /// When it finished.
        var endedAtSeconds = 0
        /// How many had finished with it.
        var finishNumber = 0
        var charge = DuplicateRequestCache.entryBytes
        /// Neighbours in the list of all finished entries.
        var older: Int?
        var newer: Int?
        /// The next one in the list of the client's finished entries.
        var newerOfClient: Int?
    }

    private final class Client: Ranked {
        /// In progress or finished.
        var entries = 0
        var finished = 0
        var finishedBytes = 0
        var oldest: Int?
        var newest: Int?
        /// The oldest one's.
        var oldestFinishNumber = 0
        var place: Int?

        /// Replies to calls that change something differ little in size, so bytes are bounded by numbers too.
        func precedes(_ other: Client) -> Bool {
            finished != other.finished ? finished > other.finished : oldestFinishNumber < other.oldestFinishNumber
        }
    }

    /// What an entry costs beside its reply: 184 bytes here, 80 in `indices` at its load factor of 3/4, and its
    /// part of the client's record and of arrays that grow by doubling.
    static let entryBytes = 512

    private let bounds: DuplicateRequestBounds
    private var entries: [Entry?] = []
    private var unused: [Int] = []
    private var indices: [Key: Int] = [:]
    private var clients: [ClientAddress: Client] = [:]
    /// First who has most.
    private var byFinished = RankedQueue<Client>()
    private var oldest: Int?
    private var newest: Int?
    private var lastFinishNumber = 0

    /// Entries, in progress or finished.
    var count: Int { indices.count }
    /// Finished entries, and the bytes that they are charged with.
    private(set) var finished = 0
    private(set) var finishedBytes = 0
    /// Finished entries that were forgotten to keep the bounds.
    private(set) var evictions = 0

    init(_ bounds: DuplicateRequestBounds) { self.bounds = bounds }

    /// A call arrived that must not be repeated.
    /// - Parameter now: of a clock that never goes back.
    mutating func begin(_ key: Key, on connection: ConnectionNumber, atSeconds now: Int) -> Verdict {
        expire(key, now)
        guard let index = indices[key] else {
            insert(Entry(key: key, connection: connection))
            return .start
        }
        let previous = entries[index]!.connection
        if connection < previous { return .leftOver }
        entries[index]!.connection = connection
        if let reply = entries[index]!.reply {
            return .replay(reply, gaveUp: connection == previous ? nil : previous)
        }
        return connection == previous ? .drop : .await(gaveUp: previous)
    }

    /// The call has ended. Returns the connection to answer: that of the latest copy.
    /// - Parameter reply: what later copies get; nil if they are to be carried out.
    /// - Precondition: `begin` said `start`, and this is the first `end` after it.
    mutating func end(_ key: Key, reply: RPCReplyBody?, atSeconds now: Int) -> ConnectionNumber {
        guard let index = indices[key], let entry = entries[index], entry.reply == nil else {
            preconditionFailure("a call ended that had not begun")
        }
        guard let reply else {
            remove(index)
            return entry.connection
        }
        entries[index]!.reply = reply
        entries[index]!.endedAtSeconds = now
        entries[index]!.charge += reply.header.storageCapacity + (reply.payload?.count ?? 0)
        append(index)
        keepBounds(key.client)
        return entry.connection
    }

    // MARK: Bounds

    private mutating func keepBounds(_ address: ClientAddress) {
        while let client = clients[address], let oldest = client.oldest,
            client.finished > bounds.maxEntriesPerClient || client.finishedBytes > bounds.maxBytesPerClient
        {
            evict(oldest)
        }
        while finished > bounds.maxEntries || finishedBytes > bounds.maxBytes, let oldest = byFinished.first?.oldest {
            evict(oldest)
        }
    }

    /// Forgets what is too old: a few entries a time, so that no call pays for many, but this one in any case.
    private mutating func expire(_ key: Key, _ now: Int) {
        func isTooOld(_ index: Int) -> Bool {
            guard let entry = entries[index], entry.reply != nil else { return false }
            return now - entry.endedAtSeconds >= bounds.maxAgeSeconds
        }
        var left = 16
        while let oldest, isTooOld(oldest), left > 0 || indices[key].map(isTooOld) == true {
            evict(oldest)
            left -= 1
        }
    }

    /// - Precondition: the oldest finished entry of its client.
    private mutating func evict(_ index: Int) {
        evictions += 1
        let entry = entries[index]!
        let client = clients[entry.key.client]!
        precondition(client.oldest == index)
        if let older = entry.older { entries[older]!.newer = entry.newer } else { oldest = entry.newer }
        if let newer = entry.newer { entries[newer]!.older = entry.older } else { newest = entry.older }
        finished -= 1
        finishedBytes -= entry.charge
        client.finished -= 1
        client.finishedBytes -= entry.charge
        client.oldest = entry.newerOfClient
        if let next = entry.newerOfClient {
            client.oldestFinishNumber = entries[next]!.finishNumber
            byFinished.rankChanged(client)
        } else {
            client.newest = nil
            byFinished.remove(client)
        }
        remove(index)
    }

    // MARK: Entries and their lists

    private mutating func insert(_ entry: Entry) {
        let index = unused.popLast() ?? entries.count
        if index == entries.count { entries.append(entry) } else { entries[index] = entry }
        indices[entry.key] = index
        let client = clients[entry.key.client] ?? Client()
        client.entries += 1
        clients[entry.key.client] = client
    }

    /// Puts an entry that has just finished at the end of both lists.
    private mutating func append(_ index: Int) {
        let client = clients[entries[index]!.key.client]!
        let charge = entries[index]!.charge
        lastFinishNumber += 1
        entries[index]!.finishNumber = lastFinishNumber
        if let last = newest { entries[last]!.newer = index } else { oldest = index }
        entries[index]!.older = newest
        newest = index
        finished += 1
        finishedBytes += charge
        client.finished += 1
        client.finishedBytes += charge
        if let last = client.newest {
            entries[last]!.newerOfClient = index
            client.newest = index
            byFinished.rankChanged(client)
        } else {
            client.oldest = index
            client.newest = index
            client.oldestFinishNumber = lastFinishNumber
            byFinished.insert(client)
        }
    }

    /// Forgets an entry that is in no list.
    private mutating func remove(_ index: Int) {
        guard let entry = entries[index] else { preconditionFailure("removed twice") }
        entries[index] = nil
        unused.append(index)
        indices[entry.key] = nil
        let client = clients[entry.key.client]!
        client.entries -= 1
        if client.entries == 0 { clients[entry.key.client] = nil }
    }
}

/// Bounds of the cache. Parameters, so that tests can make them small.
public struct DuplicateRequestBounds: Hashable, Sendable {
    /// A client sends again only calls that it has no answer to: at most its slots, for Linux some thousands in
    /// practice (`tcp_max_slot_table_entries` would allow 65,536). The replies lost with a connection are those
    /// of the last calls before it broke, so twice 8,192 keep them while other connections of that client go on.
    public var maxEntriesPerClient = 16_384
    /// For those entries: 512 bytes each, and 256 to 512 for a reply (WRITE's has 136 bytes, CREATE's 272).
    public var maxBytesPerClient = 16 << 20
    /// Four clients at their bounds, or 65 with a thousand calls each. Calls in progress are not in it: each has at
    /// least 1 KiB of `RPCBounds.maxBytes` for its reply, so those add half of that at most.
    public var maxEntries = 65_536
    public var maxBytes = 64 << 20
    /// How long a finished call is remembered. Linux gives a silent connection up after 180 s and waits at most 300 s
    /// until it connects again and sends the call once more.
    public var maxAgeSeconds = 600

    public init() {}
}
