// What a connection should make of a stream: RFC 5531 §9 and §11 read in the simplest way, over the whole stream at
// once. Shares nothing with the code under test.

@testable import ONCRPC

struct RecordsModel {
    /// What makes a call a copy of another: the client is the same, and the program.
    fileprivate struct Copied: Hashable {
        let xid: UInt32
        let version: UInt32
        let procedure: UInt32
        let arguments: [UInt8]
    }

    /// What a server remembers of a client's calls that must not be repeated, over its connections.
    struct Memory {
        fileprivate var replies: [Copied: [UInt8]] = [:]
    }

    /// Afterwards, what the server remembers.
    private(set) var memory: Memory
    /// Calls of this connection that end some time after they began.
    private var begun: Set<Copied> = []
    /// Replies to copies of these: none to a copy that comes before the end.
    private var optionalReplies: [[UInt8]] = []

    private var calls: [EchoPrograms.Call] = []
    /// The records of all replies, without marks.
    private var replies: [[UInt8]] = []
    /// The stream can't be followed to its end.
    private var isClosed = false

    init(_ stream: [UInt8], _ bounds: RPCBounds, _ memory: Memory = Memory()) {
        self.memory = memory
        var rest = stream[...]
        var record: [UInt8] = []
        var fragments = 0
        while let mark = wireWord(rest, 0) {
            let count = Int(mark & 0x7fff_ffff)
            fragments += 1
            guard record.count + count <= bounds.maxRecordBytes, fragments <= bounds.maxFragmentsPerRecord else {
                isClosed = true
                return
            }
            guard rest.count >= 4 + count else { return }
            record += rest.dropFirst(4).prefix(count)
            rest = rest.dropFirst(4 + count)
            if mark & 0x8000_0000 != 0 {
                guard receive(record) else {
                    isClosed = true
                    return
                }
                record = []
                fragments = 0
            }
        }
    }

    private static func bytes(_ words: [UInt32]) -> [UInt8] {
        words.flatMap { word in [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: word >> $0) } }
    }

    private mutating func accept(_ xid: UInt32, _ status: UInt32, _ more: [UInt8] = []) {
        replies.append(Self.bytes([xid, 1, 0, 0, 0, status]) + more)
    }

    private mutating func deny(_ xid: UInt32, _ words: UInt32...) { replies.append(Self.bytes([xid, 1, 1] + words)) }

    /// false: not a message.
    private mutating func receive(_ record: [UInt8]) -> Bool {
        guard let xid = wireWord(record, 0), let direction = wireWord(record, 1), direction <= 1 else { return false }
        if direction == 1 { return true }
        guard let version = wireWord(record, 2) else { return false }
        guard version == 2 else {
            deny(xid, 0, 2, 2)
            return true
        }
        guard let program = wireWord(record, 3), let programVersion = wireWord(record, 4),
            let procedure = wireWord(record, 5)
        else { return false }
        var position = 24
        var credential: (flavor: UInt32, body: ArraySlice<UInt8>) = (0, [])
        for (index, badStatus) in [UInt32(1), 3].enumerated() {
            let rest = record.dropFirst(position)
            guard let flavor = wireWord(rest, 0), let count = wireWord(rest, 1).map(Int.init) else { return false }
            guard count <= 400 else {
                deny(xid, 1, badStatus)
                return true
            }
            guard rest.count >= 8 + (count + 3) & ~3 else { return false }
            if index == 0 { credential = (flavor, rest.dropFirst(8).prefix(count)) }
            position += 8 + (count + 3) & ~3
        }
        guard credential.flavor <= 1 else {
            deny(xid, 1, 2)
            return true
        }
        guard credential.flavor == 0 || Self.isSystemCredential(credential.body) else {
            deny(xid, 1, 1)
            return true
        }
        guard program == EchoPrograms.program else {
            accept(xid, 1)
            return true
        }
        guard EchoPrograms.versions.contains(programVersion) else {
            accept(xid, 2, Self.bytes([2, 4]))
            return true
        }
        run(xid, programVersion, procedure, record.dropFirst(position))
        return true
    }

    private mutating func run(
        _ xid: UInt32, _ version: UInt32, _ number: UInt32, _ arguments: ArraySlice<UInt8>
    ) {
        let procedure = EchoPrograms.Procedure(rawValue: number)
        let copied = Copied(xid: xid, version: version, procedure: number, arguments: Array(arguments))
        if procedure?.mustNotRepeat == true, let reply = memory.replies[copied] {
            if begun.contains(copied) { optionalReplies.append(reply) } else { replies.append(reply) }
            return
        }
        calls.append(EchoPrograms.Call(xid: xid, procedure: number, argumentsCount: arguments.count))
        var isSuccess = true
        switch procedure {
        case .empty, .later, .laterChange, .jukebox: accept(xid, 0)
        case .echo, .change:
            if let count = wireWord(arguments, 0).map(Int.init), count <= 1 << 20, arguments.count >= 4 + count {
                let padding = [UInt8](repeating: 0, count: -count & 3)
                accept(xid, 0, arguments.prefix(4 + count) + padding)
            } else {
                isSuccess = false
                accept(xid, 4)
            }
        case .fragileChange:
            isSuccess = arguments.isEmpty
            accept(xid, isSuccess ? 0 : 5)
        case .garbage: accept(xid, 4)
        case .systemError: accept(xid, 5)
        case .tooWeak: deny(xid, 1, 5)
        case nil: accept(xid, 3)
        }
        // What has had no effect may have one when it is sent again.
        if procedure?.mustNotRepeat == true, isSuccess, procedure != .jukebox { memory.replies[copied] = replies.last }
        if procedure == .laterChange { begun.insert(copied) }
    }

    /// authsys_parms (appendix A).
    private static func isSystemCredential(_ body: ArraySlice<UInt8>) -> Bool {
        guard let nameCount = wireWord(body, 1).map(Int.init), nameCount <= 255 else { return false }
        let rest = body.dropFirst(8 + (nameCount + 3) & ~3)
        guard let groups = wireWord(rest, 2).map(Int.init), groups <= 16 else { return false }
        return rest.count >= 12 + 4 * groups
    }

    func check(_ result: RecordsFuzzer.Result, _ how: String) {
        hold(result.isClosed == isClosed, "\(how): closed: \(result.isClosed), expected \(isClosed)")
        hold(result.calls == calls, "\(how): calls \(result.calls), expected \(calls)")
        var rest = result.output[...]
        var found: [[UInt8]] = []
        while let mark = wireWord(rest, 0) {
            let count = Int(mark & 0x7fff_ffff)
            hold(mark & 0x8000_0000 != 0 && count % 4 == 0 && rest.count >= 4 + count, "\(how): a bad mark \(mark)")
            found.append(Array(rest.dropFirst(4).prefix(count)))
            rest = rest.dropFirst(4 + count)
        }
        hold(rest.isEmpty, "\(how): \(rest.count) bytes after the last reply")
        // A suspended call is overtaken. What came before that for which the connection was closed is answered.
        var missing = replies
        var optional = optionalReplies
        for reply in found {
            if let index = missing.firstIndex(of: reply) {
                missing.remove(at: index)
            } else if let index = optional.firstIndex(of: reply) {
                optional.remove(at: index)
            } else {
                fatalError("\(how): reply \(reply) is not among those expected: \(missing)")
            }
        }
        hold(missing.isEmpty, "\(how): replies are missing: \(missing)")
    }
}
