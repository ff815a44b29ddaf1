// MKNOD (RFC 1813 §3.3.11): a device, socket or FIFO. Not supported: NFS3ERR_NOTSUPP, whatever else is in the arguments.

internal import FileService
internal import ONCRPC
internal import XDR

struct MKNOD: Procedure {
    static let failureBody: [FailurePart] = [.weakCacheConsistency]
    let directory: FileHandle
    var subjects: [FileHandle] { [directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        directory = try decoder.fileHandle()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        _ = try context.reference(directory)
        throw .notSupported
    }
}
