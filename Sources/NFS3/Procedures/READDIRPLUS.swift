// READDIRPLUS (RFC 1813 §3.3.17): a directory's entries with their attributes and handles.

internal import FileService
internal import ONCRPC
internal import XDR

struct READDIRPLUS: Procedure {
    static let failureBody: [FailurePart] = [.attributes]
    let directory: FileHandle
    let cookie: UInt64
    let cookieVerifier: UInt64
    /// The most bytes of entries without their attributes and handles.
    let directoryCount: UInt32
    /// The most bytes of READDIRPLUS3resok.
    let maxCount: UInt32
    var subjects: [FileHandle] { [directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        directory = try decoder.fileHandle()
        cookie = try decoder.uint64()
        cookieVerifier = try decoder.uint64()
        directoryCount = try decoder.uint32()
        maxCount = try decoder.uint32()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let directory = try context.reference(self.directory)
        try DirectoryReply.check(verifier: cookieVerifier)
        let maxBytes = min(Int(maxCount), DirectoryReply.maxBytes)
        guard maxBytes >= DirectoryReply.fixedBytes else { throw .tooSmall }
        let maxNameBytes = Int(directoryCount)
        // Entries that cannot be attributed are shorter; the reply then has room left, which is allowed.
        let maxEntries = min(
            maxNameBytes / DirectoryReply.minEntryBytes,
            (maxBytes - DirectoryReply.fixedBytes)
                / (DirectoryReply.minEntryBytes + DirectoryReply.attributesAndHandleBytes))
        let listing = try await context.asking { service throws(FileError) in
            try await service.list(
                directory, after: cookie, maxEntries: max(1, maxEntries), withAttributes: true, as: context.caller)
        }
        return try DirectoryReply.encode(
            listing, of: directory, maxBytes: maxBytes, maxNameBytes: maxNameBytes, withAttributes: true,
            handles: context.handles)
    }
}
