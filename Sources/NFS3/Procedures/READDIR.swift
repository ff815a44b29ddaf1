// READDIR (RFC 1813 §3.3.16): names and ids of a directory's entries.

internal import FileService
internal import ONCRPC
internal import XDR

struct READDIR: Procedure {
    static let failureBody: [FailurePart] = [.attributes]
    let directory: FileHandle
    let cookie: UInt64
    let cookieVerifier: UInt64
    /// The most bytes of READDIR3resok.
    let count: UInt32
    var subjects: [FileHandle] { [directory] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        directory = try decoder.fileHandle()
        cookie = try decoder.uint64()
        cookieVerifier = try decoder.uint64()
        count = try decoder.uint32()
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let directory = try context.reference(self.directory)
        try DirectoryReply.check(verifier: cookieVerifier)
        let maxBytes = min(Int(count), DirectoryReply.maxBytes)
        guard maxBytes >= DirectoryReply.fixedBytes else { throw .tooSmall }
        let maxNameBytes = maxBytes - DirectoryReply.fixedBytes
        let listing = try await context.asking { service throws(FileError) in
            try await service.list(
                directory, after: cookie, maxEntries: max(1, maxNameBytes / DirectoryReply.minEntryBytes),
                withAttributes: false, as: context.caller)
        }
        return try DirectoryReply.encode(
            listing, of: directory, maxBytes: maxBytes, maxNameBytes: maxNameBytes, withAttributes: false,
            handles: context.handles)
    }
}
