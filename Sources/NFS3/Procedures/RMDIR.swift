// RMDIR (RFC 1813 §3.3.13): an empty directory.

internal import FileService
internal import ONCRPC
internal import XDR

struct RMDIR: Procedure {
    static let failureBody: [FailurePart] = [.weakCacheConsistency]
    let object: DirectoryArguments
    var subjects: [FileHandle] { [object.directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        object = try DirectoryArguments(from: &decoder)
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let directory = try context.reference(object.directory)
        // §3.3.13: where they are illegal, "." is NFS3ERR_INVAL and ".." NFS3ERR_EXIST.
        let name = try object.ownFileName(dot: .invalidArgument, dotDot: .exists)
        let change = try await context.asking { service throws(FileError) in
            try await service.removeDirectory(name, from: directory, as: context.caller)
        }
        return context.reply { $0.weakCacheConsistency(change) }
    }
}
