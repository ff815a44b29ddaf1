// SYMLINK (RFC 1813 §3.3.10): a symbolic link.

internal import FileService
internal import Model
internal import ONCRPC
internal import XDR

struct SYMLINK: Procedure {
    static let failureBody: [FailurePart] = [.weakCacheConsistency]
    let place: DirectoryArguments
    let attributes: SetAttributesArgument
    private let target: [UInt8]
    var subjects: [FileHandle] { [place.directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        place = try DirectoryArguments(from: &decoder)
        attributes = try SetAttributesArgument(from: &decoder)
        // nfspath3 is a string<> without a bound, like filename3.
        target = try decoder.opaque(maxCount: decoder.remaining)
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let directory = try context.reference(place.directory)
        let name = try place.ownFileName(dot: .exists, dotDot: .exists)
        let update = try attributes.update()
        let target = try linkTarget()
        let created = try await context.asking { service throws(FileError) in
            try await service.makeSymbolicLink(
                name, in: directory, to: target, attributes: update, as: context.caller)
        }
        return context.reply { $0.created(created) }
    }

    /// §3.3.10 names only NFS3ERR_NAMETOOLONG; the other two are what Linux servers answer.
    private func linkTarget() throws(NFSStatus) -> LinkTarget {
        do throws(LinkTarget.Refusal) {
            return try LinkTarget(target)
        } catch {
            switch error {
            case .empty, .forbiddenByte: throw .invalidArgument
            case .tooLong: throw .nameTooLong
            }
        }
    }
}
