// LINK (RFC 1813 §3.3.15): one more name of a file.

internal import FileService
internal import ONCRPC
internal import XDR

struct LINK: Procedure {
    static let failureBody: [FailurePart] = [.attributes, .weakCacheConsistency]
    let file: FileHandle
    let place: DirectoryArguments
    var subjects: [FileHandle] { [file, place.directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        file = try decoder.fileHandle()
        place = try DirectoryArguments(from: &decoder)
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let file = try context.reference(self.file)
        let directory = try context.reference(place.directory)
        let name = try place.ownFileName(dot: .exists, dotDot: .exists)
        let linked = try await context.asking { service throws(FileError) in
            try await service.link(file, as: name, in: directory, by: context.caller)
        }
        return context.reply {
            $0.postOpAttributes(linked.attributes)
            $0.weakCacheConsistency(linked.directory)
        }
    }
}
