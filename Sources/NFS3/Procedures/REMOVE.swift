// REMOVE (RFC 1813 §3.3.12): a name that is not a directory's.

internal import FileService
internal import ONCRPC
internal import XDR

struct REMOVE: Procedure {
    static let failureBody: [FailurePart] = [.weakCacheConsistency]
    let object: DirectoryArguments
    var subjects: [FileHandle] { [object.directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        object = try DirectoryArguments(from: &decoder)
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let directory = try context.reference(object.directory)
        // §3.3.12 has no rule for "." and ".."; of its errors NFS3ERR_ACCES is the one that Linux servers give.
        let name = try object.ownFileName(dot: .accessDenied, dotDot: .accessDenied)
        let change = try await context.asking { service throws(FileError) in
            try await service.remove(name, from: directory, as: context.caller)
        }
        return context.reply { $0.weakCacheConsistency(change) }
    }
}
