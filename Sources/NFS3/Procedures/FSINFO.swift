// FSINFO (RFC 1813 §3.3.19): what the server can do; clients choose their transfer sizes by it.

internal import FileService
internal import Model
internal import ONCRPC
internal import XDR

struct FSINFO: Procedure {
    static let failureBody: [FailurePart] = [.attributes]
    let root: FileHandle
    var subjects: [FileHandle] { [root] }

    /// Transfers should be whole pages.
    private static let transferMultipleBytes: UInt32 = 4096
    /// FSF3_LINK and FSF3_SYMLINK: there are hard and symbolic links.
    private static let link: UInt32 = 0x0001
    private static let symbolicLink: UInt32 = 0x0002
    /// FSF3_HOMOGENEOUS: PATHCONF is the same for all files.
    private static let homogeneous: UInt32 = 0x0008
    /// FSF3_CANSETTIME: SETATTR sets times exactly.
    private static let canSetTime: UInt32 = 0x0010

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        root = try decoder.fileHandle()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let file = try context.reference(root)
        let attributes = try await context.asking { service throws(FileError) in
            try await service.attributes(of: file)
        }
        let maxTransferBytes = UInt32(Limits.maxTransferBytes)
        return context.reply {
            $0.postOpAttributes(attributes)
            // rtmax, rtpref, rtmult, and the same for writes.
            for _ in 0..<2 {
                $0.xdr.uint32(maxTransferBytes)
                $0.xdr.uint32(maxTransferBytes)
                $0.xdr.uint32(Self.transferMultipleBytes)
            }
            // dtpref
            $0.xdr.uint32(UInt32(DirectoryReply.maxBytes))
            // maxfilesize
            $0.xdr.uint64(Limits.maxFileBytes)
            // time_delta: 1 ns
            $0.xdr.uint32(0)
            $0.xdr.uint32(1)
            $0.xdr.uint32(Self.link | Self.symbolicLink | Self.homogeneous | Self.canSetTime)
        }
    }
}
