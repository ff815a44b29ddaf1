// The configuration file and the flags, which have the same names; flags win.
//
// The file is YAML. An unknown key is refused: a misspelt one that is silently ignored is found out when it
// is too late.

import Model
import NFS3
import Yams

/// What `serve` can be told, by file or by flags. nil: not said.
struct Configuration: Equatable, Decodable {
    var data: String?
    var volumes: Int?
    var volume: [String]?
    var policy: String?
    var listen: String?
    var rpcbind: Bool?
    /// Whether the superuser may make block and character devices.
    var devices: Bool?
    /// What data on its way may take of the memory; see MemoryPlan.
    var memory: String?
    /// Where pending bytes go that memory has no room for.
    var dump: String?
    /// What the intent journal takes at most on each disk that has it.
    var journal: String?
    /// Seconds after which a file that nobody writes to is settled.
    var idle: Int?
    /// The most files that the volumes together keep open.
    var files: Int?
    /// Only in the file; decoded by Configuration+Exports.swift, which can say where a mistake is.
    var exports: [Export]?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case data, volumes, volume, policy, listen, rpcbind, devices, memory, dump, journal, idle, files
    }

    private static let exportsKey = "exports"

    init() {}

    /// Reads the text of a configuration file.
    init(yaml: String, path: String) throws(Refusal) {
        let known = Set(CodingKeys.allCases.map(\.rawValue) + [Self.exportsKey])
        do {
            guard let root = try Yams.compose(yaml: yaml), root != Node("") else {
                self.init()
                return
            }
            guard case .mapping(let mapping) = root else {
                throw Refusal(.configuration, "\(path): the configuration must be a mapping of keys to values")
            }
            for (key, _) in mapping {
                guard let name = key.string, known.contains(name) else {
                    throw Refusal(
                        .configuration,
                        "\(path): unknown key '\(key.string ?? "?")'; known are \(known.sorted().joined(separator: ", "))"
                    )
                }
            }
            self = try YAMLDecoder().decode(Configuration.self, from: yaml)
            if let exports = mapping[Node(Self.exportsKey)] {
                self.exports = try ConfigurationNode(exports, path: path, key: Self.exportsKey).exports()
            }
        } catch let refusal as Refusal {
            throw refusal
        } catch let DecodingError.typeMismatch(_, context), let DecodingError.dataCorrupted(context) {
            let key = context.codingPath.map(\.stringValue).joined(separator: ".")
            throw Refusal(.configuration, "\(path): the value of '\(key)' has the wrong type")
        } catch {
            let text = "\(error)".split(separator: "\n").joined(separator: " ")
            throw Refusal(.configuration, "\(path): not readable as YAML: \(text)")
        }
    }

    /// This configuration with what `flags` says on top.
    func overridden(by flags: Configuration) -> Configuration {
        var result = self
        if let data = flags.data { result.data = data }
        if let policy = flags.policy { result.policy = policy }
        if let listen = flags.listen { result.listen = listen }
        if let devices = flags.devices { result.devices = devices }
        if let rpcbind = flags.rpcbind { result.rpcbind = rpcbind }
        if let memory = flags.memory { result.memory = memory }
        if let dump = flags.dump { result.dump = dump }
        if let journal = flags.journal { result.journal = journal }
        if let idle = flags.idle { result.idle = idle }
        if let files = flags.files { result.files = files }
        // A number and a list of volumes exclude each other, so a flag of one kind replaces both.
        if flags.volumes != nil || flags.volume != nil {
            result.volumes = flags.volumes
            result.volume = flags.volume
        }
        return result
    }
}

extension Configuration {
    /// The keys, apart from `exports`, whose values differ in `other`.
    func keys(changedIn other: Configuration) -> [String] {
        CodingKeys.allCases.filter { key in
            switch key {
            case .data: data != other.data
            case .volumes: volumes != other.volumes
            case .volume: volume != other.volume
            case .policy: policy != other.policy
            case .listen: listen != other.listen
            case .rpcbind: rpcbind != other.rpcbind
            case .devices: devices != other.devices
            case .memory: memory != other.memory
            case .dump: dump != other.dump
            case .journal: journal != other.journal
            case .idle: idle != other.idle
            case .files: files != other.files
            }
        }.map(\.rawValue)
    }
}

/// HOST:PORT, where port 0 stands for any free one.
struct ListenAddress: Equatable {
    let host: String
    let port: Int

    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
            (0...65535).contains(port)
        else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard !host.isEmpty else { return nil }
        self.host = String(host)
        self.port = port
    }
}
