// GETATTR (RFC 1813 §3.3.1): the attributes of a file.

internal import FileService
internal import ONCRPC
internal import XDR

struct GETATTR: Procedure {
    static let failureBody: [FailurePart] = []
    let object: FileHandle
    var subjects: [FileHandle] { [] }
    var handles: [FileHandle] { [object] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        object = try decoder.fileHandle()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let file = try context.reference(object)
        let attributes = try await context.asking { service throws(FileError) in
            try await service.attributes(of: file)
        }
        return context.reply { $0.attributes(attributes) }
    }
}
