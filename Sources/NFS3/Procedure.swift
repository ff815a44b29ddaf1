// What each procedure of NFS is: arguments, a body that succeeds or throws a status, and what the reply
// says about its files when it fails. The dispatcher (NFSPrograms) runs them all in the same way, so that
// decoding errors, failure bodies and counters are in one place.

internal import FileService
internal import Model
internal import NIOCore
internal import ONCRPC
internal import XDR

/// A procedure of NFSv3 with its arguments, ready to run.
protocol Procedure: Sendable {
    /// What follows the status of a reply that isn't NFS3_OK; one part for each of `subjects`.
    static var failureBody: [FailurePart] { get }

    /// Decodes the arguments. What follows them in the record is ignored.
    init(from decoder: inout XDRDecoder) throws(XDRError)

    /// For a procedure whose arguments end in bytes that should not be copied.
    static func decode(_ call: RPCCall) throws(XDRError) -> Self

    /// The files that the failure body describes.
    var subjects: [FileHandle] { get }

    /// All handles among the arguments: they say which export the call is for. By default the subjects.
    var handles: [FileHandle] { get }

    /// Calls the file service, without suspending before that, and encodes the reply.
    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody
}

extension Procedure {
    var handles: [FileHandle] { subjects }

    static func decode(_ call: RPCCall) throws(XDRError) -> Self {
        try call.decodeArguments { (decoder) throws(XDRError) in try Self(from: &decoder) }
    }
}

/// A part of a failed procedure's reply.
enum FailurePart: Sendable {
    /// post_op_attr
    case attributes
    /// wcc_data
    case weakCacheConsistency
}

/// What a procedure works with: the store, and who calls.
struct CallContext<Service: FileService>: Sendable {
    let service: Service
    let handles: ExportHandles
    /// After squashing.
    let caller: Credentials
    /// Where the call came from.
    let clientAddress: SocketAddress?
    /// Procedures that change files are refused.
    var isReadOnly = false
    /// What ACCESS may grant in this export.
    var grantableRights: AccessRights = [.read, .lookup, .modify, .extend, .delete, .execute]

    func reference(_ handle: FileHandle) throws(NFSStatus) -> FileReference {
        try handles.reference(of: handle)
    }

    /// The name to look up for `name`: above the root of an export is the root itself (RFC 1813 §3.3.3 has ".." as
    /// the parent, which is not the client's to see).
    func nameInside(_ name: FileName, of directory: FileReference) throws(NFSStatus) -> FileName {
        guard name.isDotDot, handles.hidesParent(of: directory) else { return name }
        do throws(FileName.Refusal) {
            return try FileName([UInt8(ascii: ".")])
        } catch {
            preconditionFailure("\".\" is a name")
        }
    }

    /// Refuses a directory that is not at or below the root of the export: one to which ".." of a directory leads that
    /// was moved out of the export. Its handle stays good, but with it nobody gets to the rest of the store. Gives up with
    /// NFS3ERR_NAMETOOLONG where directories were moved deeper than they can be made.
    func check(isInside directory: FileReference) async throws(NFSStatus) {
        guard let dotDot = try? FileName([UInt8]("..".utf8)) else { preconditionFailure("\"..\" is a name") }
        var ancestor = directory
        var steps = 0
        while !handles.isOfWholeStore, ancestor.id != handles.exportRoot {
            guard ancestor.id != .root else { throw .accessDenied }
            guard steps < Limits.maxDirectoryDepth else { throw .nameTooLong }
            steps += 1
            let below = ancestor
            ancestor = try await asking { service throws(FileError) in
                try await service.lookUp(dotDot, in: below, as: .superuser).file
            }
        }
    }

    /// Runs an operation of the file service under the protocol's names for its errors.
    func asking<Value: Sendable>(
        _ operation: (Service) async throws(FileError) -> Value
    ) async throws(NFSStatus) -> Value {
        do throws(FileError) {
            return try await operation(service)
        } catch {
            throw NFSStatus(error)
        }
    }

    /// Attributes for a reply that may go without them (RFC 1813 §2.6: post_op_attr is best effort). Why
    /// they cannot be had is no concern of the operation that is being answered.
    func attributesIfKnown(of file: FileReference) async -> FileAttributes? {
        try? await service.attributes(of: file)
    }

    /// A reply of NFS3_OK.
    func reply(
        capacity: Int = ReplyEncoder.usualCapacity, _ encode: (inout ReplyEncoder) -> Void
    ) -> RPCReplyBody {
        var encoder = ReplyEncoder(.ok, handles: handles, capacity: capacity)
        encode(&encoder)
        return encoder.finish()
    }
}
