// LOOKUP (RFC 1813 §3.3.3): the file that a name in a directory leads to; "." and ".." too.

internal import FileService
internal import Model
internal import ONCRPC
internal import XDR

struct LOOKUP: Procedure {
    static let failureBody: [FailurePart] = [.attributes]
    let what: DirectoryArguments
    var subjects: [FileHandle] { [what.directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        what = try DirectoryArguments(from: &decoder)
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let directory = try context.reference(what.directory)
        let name = try context.nameInside(try what.fileName(), of: directory)
        let entry = try await context.asking { service throws(FileError) in
            try await service.lookUp(name, in: directory, as: context.caller)
        }
        if name.isDotDot { try await context.check(isInside: entry.file) }
        let directoryAttributes = await context.attributesIfKnown(of: directory)
        return context.reply {
            $0.fileHandle(entry.file)
            $0.postOpAttributes(entry.attributes)
            $0.postOpAttributes(directoryAttributes)
        }
    }
}
