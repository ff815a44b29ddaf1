// The programs NFS version 3 (100003, RFC 1813) and MOUNT version 3 (100005, RFC 1813 §5) over a file
// service, and the refusals of the lock manager (LockManager): finds the procedure, decodes, runs, and encodes failures.
//
// Order: from `handle` to the call of the file service nothing suspends, so calls that a connection
// starts one after the other reach the service in that order. A COMMIT covers the WRITEs before it.
//
// Arguments that cannot be decoded are answered GARBAGE_ARGS (RFC 5531 §9). Bytes after the arguments
// are ignored, as the servers do that clients are tested with: they change nothing of what was asked.

public import FileService
internal import Model
public import ONCRPC
internal import XDR

/// NFS and MOUNT over a file service. Thread-safe.
public struct NFSPrograms<Service: FileService>: RPCDispatcher {
    public static var nfsProgram: UInt32 { 100003 }
    public static var mountProgram: UInt32 { 100005 }
    /// NLM, which refuses all locks.
    public static var lockProgram: UInt32 { 100021 }

    public let counters = WireCounters()

    let service: Service
    let codec: FileHandleCodec
    let exports: ExportTable
    let mounts = MountList()

    /// - Parameters:
    ///   - handles: The codec of the store that `service` serves.
    ///   - exports: What is served to whom; by default all to everyone. For exports below the root,
    ///     `findExportRoots` must be called before clients come.
    public init(service: Service, handles: FileHandleCodec, exports: ExportTable = ExportTable()) {
        self.service = service
        self.codec = handles
        self.exports = exports
    }

    public func versions(ofProgram program: UInt32) -> ClosedRange<UInt32>? {
        switch program {
        case Self.nfsProgram, Self.mountProgram: 3...3
        case Self.lockProgram: 1...4
        default: nil
        }
    }

    public func handle(_ call: RPCCall) async -> RPCOutcome {
        if call.program == Self.mountProgram {
            guard let procedure = MountProcedure(rawValue: call.procedure) else { return .procedureUnavailable }
            return await handle(procedure, call)
        }
        if call.program == Self.lockProgram { return refuseLock(call) }
        guard let procedure = NFSProcedure(rawValue: call.procedure) else { return .procedureUnavailable }
        return await handle(procedure, call)
    }

    private func handle(_ procedure: NFSProcedure, _ call: RPCCall) async -> RPCOutcome {
        counters.count(procedure)
        return switch procedure {
        case .null: .success(.empty)
        case .getattr: await run(GETATTR.self, call)
        case .setattr: await run(SETATTR.self, call)
        case .lookup: await run(LOOKUP.self, call)
        case .access: await run(ACCESS.self, call)
        case .readlink: await run(READLINK.self, call)
        case .read: await run(READ.self, call)
        case .write: await run(WRITE.self, call)
        case .create: await run(CREATE.self, call)
        case .mkdir: await run(MKDIR.self, call)
        case .symlink: await run(SYMLINK.self, call)
        case .mknod: await run(MKNOD.self, call)
        case .remove: await run(REMOVE.self, call)
        case .rmdir: await run(RMDIR.self, call)
        case .rename: await run(RENAME.self, call)
        case .link: await run(LINK.self, call)
        case .readdir: await run(READDIR.self, call)
        case .readdirplus: await run(READDIRPLUS.self, call)
        case .fsstat: await run(FSSTAT.self, call)
        case .fsinfo: await run(FSINFO.self, call)
        case .pathconf: await run(PATHCONF.self, call)
        case .commit: await run(COMMIT.self, call)
        }
    }

    private func run<P: Procedure>(_: P.Type, _ call: RPCCall) async -> RPCOutcome {
        let procedure: P
        do throws(XDRError) {
            procedure = try P.decode(call)
        } catch {
            counters.countGarbageArguments()
            return .garbageArguments
        }
        let context: CallContext<Service>
        do throws(NFSStatus) {
            context = try admit(procedure.handles, call)
        } catch {
            counters.count(error)
            return .success(refusal(of: procedure, error))
        }
        do throws(NFSStatus) {
            if context.isReadOnly, NFSProcedure(rawValue: call.procedure)?.changesFiles != false { throw .readOnly }
            return .success(try await procedure.run(context))
        } catch {
            counters.count(error)
            var body = await failure(of: procedure, error, context)
            body.asksToTryAgain = error == .jukebox
            return .success(body)
        }
    }

    /// The reply of a procedure that failed: its status, and the attributes of its files as far as they
    /// can be had (RFC 1813 §3.1). A file whose handle is bad has none.
    private func failure<P: Procedure>(
        of procedure: P, _ status: NFSStatus, _ context: CallContext<Service>
    ) async -> RPCReplyBody {
        let subjects = procedure.subjects
        precondition(subjects.count == P.failureBody.count)
        var attributes: [FileAttributes?] = []
        for subject in subjects {
            if let file = try? context.reference(subject) {
                attributes.append(await context.attributesIfKnown(of: file))
            } else {
                attributes.append(nil)
            }
        }
        return body(of: procedure, status, attributes, context.handles)
    }

    /// The reply to a caller that was not admitted: it says nothing about the files.
    private func refusal<P: Procedure>(of procedure: P, _ status: NFSStatus) -> RPCReplyBody {
        var body = body(of: procedure, status, P.failureBody.map { _ in nil }, ExportHandles(codec, exportRoot: .root))
        body.isRefusal = true
        return body
    }

    private func body<P: Procedure>(
        of procedure: P, _ status: NFSStatus, _ attributes: [FileAttributes?], _ handles: ExportHandles
    ) -> RPCReplyBody {
        var encoder = ReplyEncoder(status, handles: handles)
        for (part, attributes) in zip(P.failureBody, attributes) {
            switch part {
            case .attributes: encoder.postOpAttributes(attributes)
            case .weakCacheConsistency: encoder.weakCacheConsistency(after: attributes)
            }
        }
        return encoder.finish()
    }
}

extension RPCReplyBody {
    /// The reply of procedures without results.
    static var empty: RPCReplyBody { RPCReplyBody(XDREncoder(capacity: 0).finish()) }
}
