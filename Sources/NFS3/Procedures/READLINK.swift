// READLINK (RFC 1813 §3.3.5): the text of a symbolic link. Not supported: NFS3ERR_NOTSUPP, whatever else is in the arguments.

internal import FileService
internal import ONCRPC
internal import XDR

struct READLINK: Procedure {
    static let failureBody: [FailurePart] = [.attributes]
    let symlink: FileHandle
    var subjects: [FileHandle] { [symlink] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        symlink = try decoder.fileHandle()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        _ = try context.reference(symlink)
        throw .notSupported
    }
}
