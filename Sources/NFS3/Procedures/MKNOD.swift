// MKNOD (RFC 1813 §3.3.11): a fifo, a socket or a device.

internal import FileService
internal import Model
internal import ONCRPC
internal import XDR

struct MKNOD: Procedure {
    static let failureBody: [FailurePart] = [.weakCacheConsistency]
    let place: DirectoryArguments
    /// nil: a type that is no special file's, or no type at all.
    private let what: (kind: SpecialFile, attributes: SetAttributesArgument)?
    var subjects: [FileHandle] { [place.directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        place = try DirectoryArguments(from: &decoder)
        let number = try decoder.uint32()
        switch UInt8(exactly: number).flatMap(FileType.init) {
        case .blockDevice:
            let attributes = try SetAttributesArgument(from: &decoder)
            what = (.blockDevice(try DeviceNumber(from: &decoder)), attributes)
        case .characterDevice:
            let attributes = try SetAttributesArgument(from: &decoder)
            what = (.characterDevice(try DeviceNumber(from: &decoder)), attributes)
        case .socket:
            what = (.socket, try SetAttributesArgument(from: &decoder))
        case .fifo:
            what = (.fifo, try SetAttributesArgument(from: &decoder))
        case .regular, .directory, .symbolicLink, nil:
            // mknoddata3's default arm is void.
            what = nil
        }
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let directory = try context.reference(place.directory)
        // §3.3.11: NF3REG, NF3DIR and NF3LNK are illegal types for MKNOD.
        guard let what else { throw .badType }
        let name = try place.ownFileName(dot: .exists, dotDot: .exists)
        let update = try what.attributes.update()
        let created = try await context.asking { service throws(FileError) in
            try await service.makeSpecialFile(
                name, in: directory, what.kind, attributes: update, as: context.caller)
        }
        return context.reply { $0.created(created) }
    }
}

extension DeviceNumber {
    /// specdata3 (RFC 1813 §2.6).
    fileprivate init(from decoder: inout XDRDecoder) throws(XDRError) {
        let major = try decoder.uint32()
        self.init(major: major, minor: try decoder.uint32())
    }
}
