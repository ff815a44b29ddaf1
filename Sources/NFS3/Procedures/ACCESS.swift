// ACCESS (RFC 1813 §3.3.4): which of the rights asked for the caller has.

internal import FileService
internal import ONCRPC
internal import XDR

struct ACCESS: Procedure {
    static let failureBody: [FailurePart] = [.attributes]
    let object: FileHandle
    let rights: AccessRights
    var subjects: [FileHandle] { [object] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        object = try decoder.fileHandle()
        // Bits that the RFC doesn't define are asked for in vain, they are no error.
        rights = AccessRights(rawValue: try decoder.uint32())
            .intersection([.read, .lookup, .modify, .extend, .delete, .execute])
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let file = try context.reference(object)
        let (granted, attributes) = try await context.asking { service throws(FileError) in
            try await service.access(to: file, rights: rights, as: context.caller)
        }
        return context.reply {
            $0.postOpAttributes(attributes)
            $0.xdr.uint32(granted.intersection(rights).intersection(context.grantableRights).rawValue)
        }
    }
}
