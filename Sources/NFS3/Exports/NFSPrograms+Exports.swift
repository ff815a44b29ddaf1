// Which export a call is for, and whether its caller may use it. `admit` is synchronous and calls nobody: from the
// event loop to the file service nothing suspends (see NFSPrograms).

internal import FileService
internal import Model
internal import ONCRPC

extension NFSPrograms {
    /// The context in which a procedure runs. Throws NFS3ERR_BADHANDLE or _STALE when none of its handles is good,
    /// NFS3ERR_ACCES or _STALE when its export is not the caller's (any more), NFS3ERR_XDEV when its handles are of
    /// two exports. A single bad handle among good ones is the procedure's to refuse.
    func admit(_ handles: [FileHandle], _ call: RPCCall) throws(NFSStatus) -> CallContext<Service> {
        var context: CallContext<Service>?
        var firstError: NFSStatus?
        for handle in handles {
            let exportRoot: FileID
            do throws(NFSStatus) {
                exportRoot = try codec.decode(handle).exportRoot
            } catch {
                firstError = firstError ?? error
                continue
            }
            if exportRoot == context?.handles.exportRoot { continue }
            let client = try exports.client(for: call, exportRoot: exportRoot)
            // Both are the caller's, so that it is told nothing about an export that isn't.
            guard context == nil else { throw .crossDevice }
            context = self.context(of: call, client, exportRoot: exportRoot)
        }
        if let context { return context }
        throw firstError ?? .serverFault
    }

    func context(of call: RPCCall, _ client: Export.Client, exportRoot: FileID) -> CallContext<Service> {
        var context = CallContext(
            service: service, handles: ExportHandles(codec, exportRoot: exportRoot),
            caller: client.caller(call.credential), clientAddress: call.clientAddress)
        if client.access == .readOnly {
            context.isReadOnly = true
            context.grantableRights.subtract([.modify, .extend, .delete])
        }
        return context
    }

    /// Looks up which directories the exports are; to be called at start and after `ExportTable.replace`. Returns the
    /// paths that lead to no directory: they can be mounted once there is one.
    public func findExportRoots() async -> [ExportPath] {
        let version = exports.version
        var missing: [ExportPath] = []
        for export in exports.exports {
            do throws(FileError) {
                exports.setRoot(of: export.path, to: try await directory(at: export.path.names).id, version: version)
            } catch .notFound, .notDirectory {
                exports.setRoot(of: export.path, to: nil, version: version)
                missing.append(export.path)
            } catch {
                // What was known stays: a disk that fails to answer has not removed the directory.
                missing.append(export.path)
            }
        }
        return missing
    }

    /// The directory that names lead to, from the root or from another directory, with the gateway's own rights.
    func directory(
        at names: some Sequence<FileName>, below start: FileReference? = nil
    ) async throws(FileError) -> FileReference {
        var file: FileReference
        if let start { file = start } else { file = try await service.root().file }
        var type = FileType.directory
        for name in names {
            let entry = try await service.lookUp(name, in: file, as: .superuser)
            (file, type) = (entry.file, entry.attributes.type)
        }
        guard type == .directory else { throw .notDirectory }
        return file
    }
}

extension Credentials {
    /// The gateway itself.
    static let superuser = Credentials(uid: 0, gid: 0, groups: [])
}
