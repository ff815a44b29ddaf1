// SIGHUP: the exports of the configuration file are read again. A file that can't be used changes nothing. Clients
// feel the new rules at their next call.

import FileService
import Logging
import NFS3

struct ExportReload<Service: FileService>: Sendable {
    let programs: NFSPrograms<Service>
    let table: ExportTable
    /// The file as it was at the start: what was read from it then, apart from the exports, is still in force.
    let configuration: Configuration
    let path: String?
    let log: Logger

    func run() async {
        guard let path else {
            log.warning("SIGHUP: there is no configuration file to read exports from")
            return
        }
        let read: Configuration
        do throws(Refusal) {
            read = try Configuration.read(path)
        } catch {
            log.error("SIGHUP: the exports stay as they are: \(error.message)")
            return
        }
        // A file that is empty for a moment, or lost a line, must not open everything to everyone.
        guard read.exports != nil || table.exports == [.open] else {
            log.error("SIGHUP: the exports stay as they are: \(path) has none; serving all to everyone takes a restart")
            return
        }
        let exports = read.exports ?? [.open]
        let changes = Self.changes(from: table.exports, to: exports)
        table.replace(exports)
        await findRoots()
        log.info("SIGHUP: exports reloaded: \(changes.isEmpty ? "no change" : changes.joined(separator: ", "))")
        let others = configuration.keys(changedIn: read)
        if !others.isEmpty {
            log.warning("SIGHUP: a restart is needed for the changes of: \(others.joined(separator: ", "))")
        }
    }

    /// Looks up which directories the exports are, and says which are missing.
    func findRoots() async {
        for path in await programs.findExportRoots() {
            log.warning("the export \(path) is not a directory of the store; it can be mounted once it is there")
        }
    }

    /// What a person wants to read about a reload.
    static func changes(from old: [Export], to new: [Export]) -> [String] {
        let before = Dictionary(uniqueKeysWithValues: old.map { ($0.path, $0) })
        let after = Set(new.map(\.path))
        return new.compactMap { export in
            guard let known = before[export.path] else { return "added \(export.path)" }
            return known == export ? nil : "changed \(export.path)"
        } + old.filter { !after.contains($0.path) }.map { "removed \($0.path)" }
    }
}
