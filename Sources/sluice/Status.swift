// `sluice status`: how a store is, served or not.

import ArgumentParser
import EmbeddedFileService
import Foundation
import Logging
import Model
import Platform

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show volumes, policy, files and health of a store, whether it is served or not.")

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var store: StoreFlags

    func run() async throws {
        let status = try await Self.status(of: store)
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            print(String(decoding: try encoder.encode(status), as: UTF8.self))
        } else {
            print(Self.text(status))
        }
    }

    private static func status(of store: StoreFlags) async throws(Refusal) -> StoreStatus {
        let flags = store.configuration
        guard let data = flags.data else { throw Refusal(.usage, "--data DIR is needed") }
        if let status = ControlSocket.ask(in: data) { return status }
        let fileSystem = FileSystem()
        guard (try? fileSystem.status(data)) ?? nil != nil else { throw Refusal(.store, "\(data): no such directory") }
        let places = try StorePlaces(
            data: data, count: flags.volumes, listed: flags.volume, fileSystem: fileSystem)
        guard !places.mustFormat else { throw Refusal(.store, "\(data) holds no store") }
        // Not while a gateway starts or stops: it would see half a state.
        let lock = try places.lock(fileSystem: fileSystem)
        defer { lock.close() }
        let log = Logger(label: "sluice") { StreamLogHandler.standardError(label: $0) }
        do throws(StoreRefusal) {
            return try await EmbeddedFileService.inspect(
                volumes: places.volumes, fileSystem: fileSystem, clock: SystemClock(), log: log)
        } catch {
            throw Refusal(error)
        }
    }

    static func text(_ status: StoreStatus) -> String {
        func size(_ bytes: UInt64) -> String {
            let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
            var value = Double(bytes)
            var unit = 0
            while value >= 1024, unit < units.count - 1 {
                value /= 1024
                unit += 1
            }
            return unit == 0 ? "\(bytes) B" : String(format: "%.1f %@", value, units[unit])
        }
        var lines = [
            "health    \(status.health.rawValue)\(status.isServed ? ", being served" : ", not served")",
            "store     \(status.storeID), epoch \(status.epoch), \(status.policy)",
            "files     \(status.files) in \(status.directories) directories, \(size(status.bytes))",
            "groups    \(status.blockGroups), \(status.degradedBlockGroups) degraded, "
                + "\(status.unreadableBlockGroups) unreadable",
        ]
        lines += status.reasons.map { "because   \($0)" }
        lines += status.volumes.map { volume in
            "volume    \(volume.index) \(volume.path): \(volume.state)"
                + (volume.isHealthy
                    ? ", \(size(volume.availableBytes)) of \(size(volume.totalBytes)) free" : "")
                + (volume.holdsMetadata ? ", holds metadata" : "")
        }
        if let journal = status.journal {
            lines.append(
                "journal   \(size(journal.bytes)) of \(size(journal.capacityBytes)) in \(journal.segments) segments on volumes "
                    + journal.replicas.map(String.init).joined(separator: ", "))
        }
        if let dump = status.dump {
            lines.append(
                "dump      " + (dump.state == "ready" ? "ready" : "drained out of order instead: \(dump.state)")
                    + ", \(size(dump.bytes)) in \(dump.segments) files")
        }
        if status.isServed {
            let counters = status.counters
            lines.append(
                "since start: \(counters.decodedStripes) stripes decoded, \(counters.failedBlockReads) failed block "
                    + "reads, \(counters.writeBackErrors) write-back errors, \(size(counters.pendingBytes)) pending in "
                    + "\(counters.openFiles) files, \(counters.stalledWrites) writes held back, \(counters.refusedWrites) refused, "
                    + "\(size(counters.dumpedBytes)) dumped, \(counters.failedDumps) times not possible, "
                    + "\(counters.failedDumpReads) failed reads of it")
        }
        return lines.joined(separator: "\n")
    }
}
