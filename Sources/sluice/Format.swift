// `sluice format`: makes a new store on a list of volumes.

import ArgumentParser
import EmbeddedFileService
import Logging
import Model
import Platform

struct Format: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a new store on a list of volumes, one directory per disk.",
        discussion: "The volumes must be empty directories (lost+found may be there) that exist.")

    @OptionGroup var store: StoreFlags

    func run() async throws {
        let log = Logger(label: "sluice") { StreamLogHandler.standardError(label: $0) }
        let fileSystem = FileSystem()
        let flags = store.configuration
        guard flags.volume != nil || flags.volumes != nil else {
            throw Refusal(.usage, "--volume DIR, once for each disk, is needed")
        }
        let places = try StorePlaces(
            data: flags.data, count: flags.volumes, listed: flags.volume, fileSystem: fileSystem)
        let lock = try places.lock(fileSystem: fileSystem)
        defer { lock.close() }
        guard places.mustFormat || flags.volume != nil else {
            throw Refusal(.usage, "\(places.data) holds a store already")
        }
        try Self.format(places, policy: try flags.parsedPolicy(isFromFlag: true), fileSystem: fileSystem, log: log)
        try places.remember(fileSystem: fileSystem)
    }

    /// Formats the volumes, which are made when they are to be made.
    static func format(
        _ places: StorePlaces, policy: ErasureCodingPolicy?, fileSystem: FileSystem, log: Logger
    ) throws(Refusal) {
        guard let policy = policy ?? ErasureCodingPolicy.standard(forVolumes: places.volumes.count) else {
            throw Refusal(.usage, "\(places.volumes.count) volumes are too few; a store needs at least 3")
        }
        guard places.volumes.count >= policy.totalUnits else {
            throw Refusal(
                .usage, "\(policy) needs \(policy.totalUnits) volumes, only \(places.volumes.count) are named")
        }
        func format() throws(Refusal) {
            var random = SystemRandomNumberGenerator()
            do throws(StoreRefusal) {
                try EmbeddedFileService.format(
                    volumes: places.volumes, policy: policy, fileSystem: fileSystem, clock: SystemClock(),
                    random: &random)
            } catch {
                throw Refusal(error)
            }
        }
        if places.mustFormat {
            try places.makeVolumes(fileSystem: fileSystem, format: format)
        } else {
            try format()
        }
        log.info("formatted \(places.volumes.count) volumes with \(policy)")
    }
}
