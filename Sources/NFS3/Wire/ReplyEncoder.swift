// The results of NFS procedures as XDR. Encodes what more than one reply is made of; the attributes are
// in ReplyEncoder+Attributes.swift.

internal import FileService
internal import ONCRPC
internal import Platform
internal import XDR

/// Writes a reply, status first.
struct ReplyEncoder: ~Copyable {
    var xdr: XDREncoder
    let handles: ExportHandles

    /// Most replies: a status, a handle of 48 bytes, attributes of 88 and wcc_data of 116.
    static let usualCapacity = 256

    init(_ status: NFSStatus, handles: ExportHandles, capacity: Int = usualCapacity) {
        xdr = XDREncoder(capacity: capacity)
        self.handles = handles
        xdr.uint32(status.rawValue)
    }

    /// - Parameter payload: The bytes of a last `opaque<>` whose count has been encoded.
    consuming func finish(payload: Payload? = nil) -> RPCReplyBody {
        RPCReplyBody(xdr.finish(), payload: payload)
    }

    /// nfs_fh3 (RFC 1813 §2.6).
    mutating func fileHandle(_ file: FileReference) {
        xdr.opaque(handles.handle(of: file).bytes)
    }

    /// post_op_fh3 (RFC 1813 §2.6).
    mutating func postOpFileHandle(_ file: FileReference?) {
        xdr.bool(file != nil)
        if let file { fileHandle(file) }
    }
}
