// MOUNT version 3 (RFC 1813 §5): gives out the first handle. It keeps no list of who mounted what: the
// RFC's list is a hint that goes wrong with each client that crashes, and nothing depends on it.
//
// There is one export, "/". Any directory below it can be mounted too, if the caller may look up its path.

internal import FileService
internal import Model
internal import ONCRPC
internal import XDR

extension NFSPrograms {
    /// RFC 1813 §5.1.4: MNTPATHLEN.
    private static var maxPathBytes: Int { 1024 }

    func handle(_ procedure: MountProcedure, _ call: RPCCall) async -> RPCOutcome {
        counters.count(procedure)
        return switch procedure {
        case .null: .success(.empty)
        case .mnt: await mnt(call)
        case .dump: .success(dump())
        case .umnt: umnt(call)
        case .umntall: .success(.empty)
        case .export: .success(export())
        }
    }

    /// MNT (§5.2.1): the handle of a directory, and the flavors of authentication that are accepted.
    private func mnt(_ call: RPCCall) async -> RPCOutcome {
        guard let path = path(in: call) else { return .garbageArguments }
        let context = context(of: call)
        var encoder = XDREncoder()
        do throws(MountStatus) {
            let directory = try await directory(at: path, context)
            encoder.uint32(MountStatus.ok.rawValue)
            encoder.opaque(context.handles.handle(of: directory).bytes)
            let flavors = [AuthenticationFlavor.system, .none]
            encoder.uint32(UInt32(flavors.count))
            for flavor in flavors { encoder.uint32(flavor.rawValue) }
        } catch {
            counters.count(error)
            encoder.uint32(error.rawValue)
        }
        return .success(RPCReplyBody(encoder.finish()))
    }

    /// The directory that a path of components between slashes leads to from the root.
    private func directory(
        at path: [UInt8], _ context: CallContext<Service>
    ) async throws(MountStatus) -> FileReference {
        do throws(FileError) {
            var entry = try await context.service.root()
            for component in path.split(separator: UInt8(ascii: "/")) {
                let name: FileName
                do throws(FileName.Refusal) {
                    name = try FileName(Array(component))
                } catch {
                    throw error == .tooLong ? FileError.nameTooLong : .notFound
                }
                entry = try await context.service.lookUp(name, in: entry.file, as: context.caller)
            }
            guard entry.attributes.type == .directory else { throw FileError.notDirectory }
            return entry.file
        } catch {
            throw MountStatus(error)
        }
    }

    /// DUMP (§5.2.2): an empty list of mounts, since none is kept.
    private func dump() -> RPCReplyBody {
        var encoder = XDREncoder(capacity: 4)
        encoder.bool(false)
        return RPCReplyBody(encoder.finish())
    }

    /// UMNT (§5.2.3): there is nothing to forget.
    private func umnt(_ call: RPCCall) -> RPCOutcome {
        path(in: call) == nil ? .garbageArguments : .success(.empty)
    }

    /// EXPORT (§5.2.5): "/", for everyone.
    private func export() -> RPCReplyBody {
        var encoder = XDREncoder(capacity: 24)
        encoder.bool(true)
        encoder.opaque([UInt8(ascii: "/")])
        // No groups: not restricted to any.
        encoder.bool(false)
        encoder.bool(false)
        return RPCReplyBody(encoder.finish())
    }

    /// The argument of MNT and UMNT (§5.1.5, dirpath); nil, and counted, when it can't be decoded.
    private func path(in call: RPCCall) -> [UInt8]? {
        do throws(XDRError) {
            return try call.decodeArguments { (decoder) throws(XDRError) in
                try decoder.opaque(maxCount: Self.maxPathBytes)
            }
        } catch {
            counters.countGarbageArguments()
            return nil
        }
    }
}

/// RFC 5531 §8.2, auth_flavor.
private enum AuthenticationFlavor: UInt32 {
    case none = 0
    case system = 1
}
