// RENAME (RFC 1813 §3.3.14): moves a name, replacing what has the new one.

internal import FileService
internal import ONCRPC
internal import XDR

struct RENAME: Procedure {
    static let failureBody: [FailurePart] = [.weakCacheConsistency, .weakCacheConsistency]
    let source: DirectoryArguments
    let target: DirectoryArguments
    var subjects: [FileHandle] { [source.directory, target.directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        source = try DirectoryArguments(from: &decoder)
        target = try DirectoryArguments(from: &decoder)
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let directory = try context.reference(source.directory)
        let newDirectory = try context.reference(target.directory)
        // §3.3.14: where "." and ".." are illegal, as either name, NFS3ERR_INVAL.
        let name = try source.ownFileName(dot: .invalidArgument, dotDot: .invalidArgument)
        let newName = try target.ownFileName(dot: .invalidArgument, dotDot: .invalidArgument)
        let result = try await context.asking { service throws(FileError) in
            try await service.rename(name, in: directory, to: newName, in: newDirectory, as: context.caller)
        }
        return context.reply {
            $0.weakCacheConsistency(result.source)
            $0.weakCacheConsistency(result.target)
        }
    }
}
