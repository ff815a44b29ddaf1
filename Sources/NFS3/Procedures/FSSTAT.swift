// FSSTAT (RFC 1813 §3.3.18): room in the store.

internal import FileService
internal import ONCRPC
internal import XDR

struct FSSTAT: Procedure {
    static let failureBody: [FailurePart] = [.attributes]
    let root: FileHandle
    var subjects: [FileHandle] { [root] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        root = try decoder.fileHandle()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let file = try context.reference(root)
        let (attributes, space) = try await context.asking { service throws(FileError) in
            (try await service.attributes(of: file), try await service.space())
        }
        return context.reply {
            $0.postOpAttributes(attributes)
            $0.xdr.uint64(space.totalBytes)
            $0.xdr.uint64(space.freeBytes)
            $0.xdr.uint64(space.availableBytes)
            $0.xdr.uint64(space.totalFiles)
            $0.xdr.uint64(space.freeFiles)
            // afiles: no part of the free files is kept for the superuser.
            $0.xdr.uint64(space.freeFiles)
            // invarsec: the numbers may change at once.
            $0.xdr.uint32(0)
        }
    }
}
