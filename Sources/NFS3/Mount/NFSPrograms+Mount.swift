// MOUNT version 3 (RFC 1813 §5): gives out the first handle of an export.
//
// Any directory at or below an export's can be mounted. Its path is looked up with the gateway's own rights, as other
// servers do: the credential of MNT is that of whoever ran mount, often squashed or AUTH_NONE, not of those who will
// use it, and each of their calls is checked by itself. Symbolic links in the path are not followed.
//
// A path that no export covers, or whose export is not for the caller, is MNT3ERR_ACCES, whether it exists or not.

internal import FileService
internal import Model
internal import ONCRPC
internal import XDR

extension NFSPrograms {
    func handle(_ procedure: MountProcedure, _ call: RPCCall) async -> RPCOutcome {
        counters.count(procedure)
        return switch procedure {
        case .null: .success(.empty)
        case .mnt: await mnt(call)
        case .dump: .success(dump())
        case .umnt: umnt(call)
        case .umntall: umntall(call)
        case .export: .success(export())
        }
    }

    /// MNT (§5.2.1): the handle of a directory, and the flavors of authentication that are accepted.
    private func mnt(_ call: RPCCall) async -> RPCOutcome {
        guard let path = path(in: call) else { return .garbageArguments }
        var encoder = XDREncoder()
        do throws(MountStatus) {
            let place = Self.place(path)
            let handle = try await mount(place, call)
            encoder.uint32(MountStatus.ok.rawValue)
            encoder.opaque(handle.bytes)
            let flavors = [AuthenticationFlavor.system, .none]
            encoder.uint32(UInt32(flavors.count))
            for flavor in flavors { encoder.uint32(flavor.rawValue) }
            mounts.add(MountList.Entry(host: call.clientHost, directory: place.directory))
        } catch {
            counters.count(error)
            encoder.uint32(error.rawValue)
        }
        return .success(RPCReplyBody(encoder.finish()))
    }

    /// Which directory a client means by a path, whatever slashes and "." it has: as far as its names can be names, and why
    /// it ends there if they can't.
    private static func place(_ path: [UInt8]) -> (directory: ExportPath, refusal: FileError?) {
        var names: [FileName] = []
        for component in path.split(separator: UInt8(ascii: "/")) {
            do throws(FileName.Refusal) {
                let name = try FileName(Array(component))
                if name.isDot { continue }
                // It could lead out of an export that the path before it seemed to be in.
                if name.isDotDot { throw .forbiddenByte }
                names.append(name)
            } catch {
                return (ExportPath(names: names), error == .tooLong ? .nameTooLong : .notFound)
            }
        }
        return (ExportPath(names: names), nil)
    }

    private func mount(
        _ place: (directory: ExportPath, refusal: FileError?), _ call: RPCCall
    ) async throws(MountStatus) -> FileHandle {
        let (names, refusal) = (place.directory.names, place.refusal)
        // Not before the export has admitted the caller is he told why it is refused.
        guard let (export, version) = exports.export(covering: names[...]),
            exports.client(for: call, in: export) != nil
        else { throw .accessDenied }
        if let refusal { throw MountStatus(refusal) }
        do throws(FileError) {
            let root = try await directory(at: export.path.names)
            exports.setRoot(of: export.path, to: root.id, version: version)
            let file = try await directory(at: names.dropFirst(export.path.names.count), below: root)
            return codec.handle(of: file, exportRoot: root.id)
        } catch {
            throw MountStatus(error)
        }
    }

    /// DUMP (§5.2.2): who has mounted what, as far as is known.
    private func dump() -> RPCReplyBody {
        var encoder = XDREncoder()
        for mount in mounts.all {
            encoder.bool(true)
            encoder.opaque(Array(mount.host.utf8))
            encoder.opaque(mount.directory.bytes)
        }
        encoder.bool(false)
        return RPCReplyBody(encoder.finish())
    }

    /// UMNT (§5.2.3).
    private func umnt(_ call: RPCCall) -> RPCOutcome {
        guard let path = path(in: call) else { return .garbageArguments }
        let place = Self.place(path)
        if place.refusal == nil { mounts.remove(MountList.Entry(host: call.clientHost, directory: place.directory)) }
        return .success(.empty)
    }

    /// UMNTALL (§5.2.4): of the caller's host.
    private func umntall(_ call: RPCCall) -> RPCOutcome {
        mounts.removeAll(of: call.clientHost)
        return .success(.empty)
    }

    /// EXPORT (§5.2.5): the exports, each with the networks that it is for; without any when it is for everyone.
    func export() -> RPCReplyBody {
        var encoder = XDREncoder()
        for export in exports.exports {
            encoder.bool(true)
            encoder.opaque(export.path.bytes)
            let networks = export.clients.map(\.network)
            for network in networks.contains(.everyone) ? [] : networks {
                encoder.bool(true)
                encoder.opaque(Array(network.description.utf8))
            }
            encoder.bool(false)
        }
        encoder.bool(false)
        return RPCReplyBody(encoder.finish())
    }

    /// The argument of MNT and UMNT (§5.1.5, dirpath); nil, and counted, when it can't be decoded.
    private func path(in call: RPCCall) -> [UInt8]? {
        do throws(XDRError) {
            return try call.decodeArguments { (decoder) throws(XDRError) in
                try decoder.opaque(maxCount: ExportPath.maxBytes)
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
