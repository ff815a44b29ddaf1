// MKDIR (RFC 1813 §3.3.9): a directory.

internal import FileService
internal import ONCRPC
internal import XDR

struct MKDIR: Procedure {
    static let failureBody: [FailurePart] = [.weakCacheConsistency]
    let place: DirectoryArguments
    let attributes: SetAttributesArgument
    var subjects: [FileHandle] { [place.directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        place = try DirectoryArguments(from: &decoder)
        attributes = try SetAttributesArgument(from: &decoder)
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let directory = try context.reference(place.directory)
        // §3.3.9: servers that don't allow "." and ".." return NFS3ERR_EXIST.
        let name = try place.ownFileName(dot: .exists, dotDot: .exists)
        let update = try attributes.update()
        let created = try await context.asking { service throws(FileError) in
            try await service.makeDirectory(name, in: directory, attributes: update, as: context.caller)
        }
        return context.reply { $0.created(created) }
    }
}
