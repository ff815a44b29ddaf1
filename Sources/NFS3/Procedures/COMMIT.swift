// COMMIT (RFC 1813 §3.3.21): makes what was written before durable.

internal import FileService
internal import Model
internal import ONCRPC
internal import XDR

struct COMMIT: Procedure {
    static let failureBody: [FailurePart] = [.weakCacheConsistency]
    let file: FileHandle
    let offset: UInt64
    /// 0: to the end of the file.
    let count: UInt32
    var subjects: [FileHandle] { [file] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        file = try decoder.fileHandle()
        offset = try decoder.uint64()
        count = try decoder.uint32()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let file = try context.reference(self.file)
        // Nothing was written beyond the limit; with it offset + count stays a number.
        let offset = min(offset, Limits.maxFileBytes)
        let result = try await context.asking { service throws(FileError) in
            try await service.commit(file, offset: offset, count: UInt64(count), as: context.caller)
        }
        return context.reply {
            $0.weakCacheConsistency(result.change)
            $0.xdr.uint64(result.verifier.rawValue)
        }
    }
}
