// What READDIR and READDIRPLUS share: cookies, the cookie verifier, and replies that are as long as the
// client allows, to the byte.
//
// Cookies stay valid while a directory changes, so the verifier says nothing and is constant (0).

internal import FileService
internal import Model
internal import ONCRPC
internal import XDR

/// Limits of directory replies.
enum DirectoryReply {
    static let cookieVerifier: UInt64 = 0

    /// The longest reply, whatever a client allows: FSINFO's dtpref.
    static let maxBytes = 64 << 10

    /// post_op_attr (88), cookieverf3 (8), the end of the list (4) and eof (4): what a reply has without any
    /// entry. The status is not part of it: the limits are for READDIR3resok.
    static let fixedBytes = 104

    /// An entry with a name of 1 … 4 bytes: value follows (4), fileid (8), name (4 + 4), cookie (8).
    static let minEntryBytes = 28

    /// What READDIRPLUS adds to an entry: post_op_attr (88) and post_op_fh3 (8 + 44).
    static let attributesAndHandleBytes = 88 + 8 + FileHandleCodec.handleBytes

    static func check(verifier: UInt64) throws(NFSStatus) {
        // A client that starts sends 0 (§3.3.16), and one that goes on sends what it got.
        guard verifier == cookieVerifier else { throw .badCookie }
    }

    /// Encodes as many entries as fit.
    /// - Parameters:
    ///   - maxBytes: The most bytes of READDIR3resok or READDIRPLUS3resok.
    ///   - maxNameBytes: The most bytes of entries without their attributes and handles.
    ///   - withAttributes: READDIRPLUS.
    static func encode(
        _ listing: DirectoryListing, of directory: FileReference, maxBytes: Int, maxNameBytes: Int,
        withAttributes: Bool,
        handles: ExportHandles
    ) throws(NFSStatus) -> RPCReplyBody {
        var encoder = ReplyEncoder(.ok, handles: handles, capacity: min(maxBytes, 8 << 10))
        let statusBytes = encoder.xdr.count
        let lastStart = statusBytes + maxBytes - 8
        encoder.postOpAttributes(listing.attributes)
        encoder.xdr.uint64(cookieVerifier)
        var nameBytes = 0
        var encoded = 0
        for entry in listing.entries {
            let start = encoder.xdr.count
            // Above the root of an export is the root itself: no one leaves the export by "..".
            let isAboveRoot = entry.name.isDotDot && handles.hidesParent(of: directory)
            encoder.xdr.bool(true)
            encoder.xdr.uint64(isAboveRoot ? directory.id.rawValue : entry.fileID.rawValue)
            encoder.xdr.opaque(entry.name.bytes)
            encoder.xdr.uint64(entry.cookie)
            nameBytes += encoder.xdr.count - start
            if withAttributes {
                // The parent of a directory that was moved out of the export is not the client's to have; LOOKUP checks.
                let known = entry.name.isDotDot && !handles.isOfWholeStore ? nil : entry.entry
                encoder.postOpAttributes(isAboveRoot ? listing.attributes : known?.attributes)
                encoder.postOpFileHandle(isAboveRoot ? directory : known?.file)
            }
            guard encoder.xdr.count <= lastStart, nameBytes <= maxNameBytes else {
                encoder.xdr.truncate(to: start)
                break
            }
            encoded += 1
        }
        // A reply without an entry that isn't the end would make the client ask for ever.
        guard encoded > 0 || listing.entries.isEmpty else { throw .tooSmall }
        encoder.xdr.bool(false)
        encoder.xdr.bool(listing.isAtEnd && encoded == listing.entries.count)
        return encoder.finish()
    }
}
