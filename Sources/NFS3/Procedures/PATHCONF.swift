// PATHCONF (RFC 1813 §3.3.20): POSIX's properties of files, the same for all.

internal import FileService
internal import Model
internal import ONCRPC
internal import XDR

struct PATHCONF: Procedure {
    static let failureBody: [FailurePart] = [.attributes]
    let object: FileHandle
    var subjects: [FileHandle] { [object] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        object = try decoder.fileHandle()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let file = try context.reference(object)
        let attributes = try await context.asking { service throws(FileError) in
            try await service.attributes(of: file)
        }
        return context.reply {
            $0.postOpAttributes(attributes)
            $0.xdr.uint32(Limits.maxLinks)
            $0.xdr.uint32(UInt32(Limits.maxNameBytes))
            // no_trunc: longer names are refused.
            $0.xdr.bool(true)
            // chown_restricted: only the superuser gives files away.
            $0.xdr.bool(true)
            // case_insensitive, case_preserving: names are bytes.
            $0.xdr.bool(false)
            $0.xdr.bool(true)
        }
    }
}
