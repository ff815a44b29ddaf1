// CREATE (RFC 1813 §3.3.8): a regular file.

internal import FileService
internal import ONCRPC
internal import XDR

struct CREATE: Procedure {
    /// createhow3
    private enum Mode {
        case unchecked(SetAttributesArgument)
        case guarded(SetAttributesArgument)
        case exclusive(verifier: UInt64)
    }

    static let failureBody: [FailurePart] = [.weakCacheConsistency]
    let place: DirectoryArguments
    private let mode: Mode
    var subjects: [FileHandle] { [place.directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        place = try DirectoryArguments(from: &decoder)
        switch try decoder.uint32() {
        case 0: mode = .unchecked(try SetAttributesArgument(from: &decoder))
        case 1: mode = .guarded(try SetAttributesArgument(from: &decoder))
        case 2: mode = .exclusive(verifier: try decoder.uint64())
        default: throw .invalidValue
        }
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let directory = try context.reference(place.directory)
        // Both name directories that exist (§3.2 items 2 and 3), so no file can be created there.
        let name = try place.ownFileName(dot: .exists, dotDot: .exists)
        let mode: CreateMode =
            switch self.mode {
            case .unchecked(let attributes): .unchecked(try attributes.update())
            case .guarded(let attributes): .guarded(try attributes.update())
            // The same verifier means a retransmission (§3.3.8), but Linux makes it of a clock and a process id:
            // machines that were started alike, as virtual ones are, have the same now and then. All 8 bytes stay
            // in it, and who sends it goes in.
            case .exclusive(let verifier): .exclusive(verifier: verifier ^ context.clientMark)
            }
        let created = try await context.asking { service throws(FileError) in
            try await service.create(name, in: directory, mode: mode, as: context.caller)
        }
        return context.reply { $0.created(created) }
    }
}

extension ReplyEncoder {
    /// The results of CREATE, MKDIR, SYMLINK and MKNOD.
    mutating func created(_ created: CreatedEntry) {
        postOpFileHandle(created.entry.file)
        postOpAttributes(created.entry.attributes)
        weakCacheConsistency(created.directory)
    }
}
