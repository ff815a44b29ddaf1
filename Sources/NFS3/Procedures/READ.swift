// READ (RFC 1813 §3.3.6): bytes of a file, at most `Limits.maxTransferBytes` of them.

internal import FileService
internal import Model
internal import ONCRPC
internal import Platform
internal import XDR

struct READ: Procedure {
    static let failureBody: [FailurePart] = [.attributes]
    let file: FileHandle
    let offset: UInt64
    let count: UInt32
    var subjects: [FileHandle] { [file] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        file = try decoder.fileHandle()
        offset = try decoder.uint64()
        count = try decoder.uint32()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let file = try context.reference(self.file)
        // A client that asks for more than rtmax gets rtmax bytes, and asks again.
        let count = min(Int(count), Limits.maxTransferBytes)
        // No file reaches beyond the limit: a higher offset reads as the limit does, no bytes and eof, and
        // offset + count stays a number.
        let offset = min(offset, Limits.maxFileBytes)
        let result = try await context.asking { service throws(FileError) in
            try await service.read(file, offset: offset, count: count, as: context.caller)
        }
        let size = UInt32(result.payload.count)
        var encoder = ReplyEncoder(.ok, handles: context.handles)
        encoder.postOpAttributes(result.attributes)
        encoder.xdr.uint32(size)
        encoder.xdr.bool(result.isAtEnd)
        // The bytes themselves follow the header as they are; here is only the count of the opaque<>.
        encoder.xdr.uint32(size)
        return encoder.finish(payload: result.payload)
    }
}
