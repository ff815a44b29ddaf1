// LINK (RFC 1813 §3.3.15): a second name of a file. Not supported: NFS3ERR_NOTSUPP, whatever the name.

internal import FileService
internal import ONCRPC
internal import XDR

struct LINK: Procedure {
    static let failureBody: [FailurePart] = [.attributes, .weakCacheConsistency]
    let file: FileHandle
    let directory: FileHandle
    var subjects: [FileHandle] { [file, directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        file = try decoder.fileHandle()
        directory = try decoder.fileHandle()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        _ = try context.reference(file)
        _ = try context.reference(directory)
        throw .notSupported
    }
}
