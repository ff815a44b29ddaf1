// The flags that say which store is meant, shared by the sub-commands.

import ArgumentParser
import Foundation
import Glibc
import Logging
import Model
import Platform

struct StoreFlags: ParsableArguments {
    @Option(help: "The gateway's directory; holds nothing that the volumes can't rebuild.")
    var data: String?

    @Option(help: "Make N volumes under an empty data directory, for trying it out.")
    var volumes: Int?

    @Option(name: .customLong("volume"), help: "A volume's directory; repeat for each.")
    var volume: [String] = []

    @Option(help: "How files are coded: RS-k-m-cellk or XOR-2-1-cellk. Default: by the number of volumes.")
    var policy: String?

    var configuration: Configuration {
        var configuration = Configuration()
        configuration.data = data
        configuration.volumes = volumes
        configuration.volume = volume.isEmpty ? nil : volume
        configuration.policy = policy
        return configuration
    }
}

extension Configuration {
    /// The file at `path`; an empty configuration without one.
    static func read(_ path: String?) throws(Refusal) -> Configuration {
        guard let path else { return Configuration() }
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw Refusal(.configuration, "\(path): cannot be read")
        }
        return try Configuration(yaml: text, path: path)
    }

    func parsedPolicy(isFromFlag: Bool) throws(Refusal) -> ErasureCodingPolicy? {
        guard let policy else { return nil }
        do throws(ErasureCodingPolicy.Refusal) {
            return try ErasureCodingPolicy(policy)
        } catch {
            throw Refusal(isFromFlag ? .usage : .configuration, error.description)
        }
    }
}

extension Configuration {
    func idleTime(isFromFlag: Bool) throws(Refusal) -> Duration? {
        guard let idle else { return nil }
        guard (1...3600).contains(idle) else {
            throw Refusal(
                isFromFlag ? .usage : .configuration, "idle: \(idle) is not a number of seconds from 1 to 3600")
        }
        return .seconds(idle)
    }

    /// The least is eight segments: with fewer there is no half of them to be settled while the others fill.
    func journalBytes(isFromFlag: Bool) throws(Refusal) -> Int? {
        guard let journal else { return nil }
        let bytes = try DataSize.bytes(journal, key: "journal", isFromFlag: isFromFlag)
        guard (128 << 20...64 << 30).contains(bytes) else {
            throw Refusal(isFromFlag ? .usage : .configuration, "journal: \(journal) is not from 128MiB to 64GiB")
        }
        return bytes
    }

    func maxFiles(isFromFlag: Bool) throws(Refusal) -> Int? {
        guard let files else { return nil }
        guard (512...65_536).contains(files) else {
            throw Refusal(isFromFlag ? .usage : .configuration, "files: \(files) is not a number from 512 to 65536")
        }
        return files
    }
}

extension StorePlaces {
    /// Keeps a second process away from the store; held until the file is closed.
    func lock(fileSystem: FileSystem) throws(Refusal) -> File {
        do throws(IOError) {
            return try fileSystem.lock("\(data)/lock")
        } catch {
            throw error.code == EWOULDBLOCK
                ? Refusal(.inUse, "another process uses \(data)") : Refusal(.configuration, "\(error)")
        }
    }
}
