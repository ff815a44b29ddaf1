// READLINK (RFC 1813 §3.3.5): the text of a symbolic link.

internal import FileService
internal import Model
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
        let file = try context.reference(symlink)
        let (target, attributes) = try await context.asking { service throws(FileError) in
            try await service.readLink(file, as: context.caller)
        }
        return context.reply(capacity: ReplyEncoder.usualCapacity + target.bytes.count) {
            $0.postOpAttributes(attributes)
            $0.xdr.opaque(target.bytes)
        }
    }
}
