// SETATTR (RFC 1813 §3.3.2): sets attributes; truncates or extends by setting the size.

internal import FileService
internal import Model
internal import ONCRPC
internal import XDR

struct SETATTR: Procedure {
    static let failureBody: [FailurePart] = [.weakCacheConsistency]
    let object: FileHandle
    let attributes: SetAttributesArgument
    /// sattrguard3: go on only if this is the file's change time.
    let guardTime: TimeArgument?
    var subjects: [FileHandle] { [object] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        object = try decoder.fileHandle()
        attributes = try SetAttributesArgument(from: &decoder)
        guardTime = try decoder.bool() ? TimeArgument(from: &decoder) : nil
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let file = try context.reference(object)
        let update = try attributes.update()
        let guardTime: Timestamp? = if let time = self.guardTime { try time.timestamp() } else { nil }
        let change = try await context.asking { service throws(FileError) in
            try await service.setAttributes(of: file, to: update, guardTime: guardTime, as: context.caller)
        }
        return context.reply { $0.weakCacheConsistency(change) }
    }
}
