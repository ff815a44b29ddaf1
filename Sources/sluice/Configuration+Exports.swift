// The exports of the configuration file. Decoded by hand, so that each mistake is reported with its line and the
// path of its key: a rule that is silently read as something else lets the wrong clients in.

import NFS3
import Yams

/// A value of the file and where it stands.
struct ConfigurationNode {
    private let node: Node
    private let path: String
    private let key: String

    init(_ node: Node, path: String, key: String) {
        self.node = node
        self.path = path
        self.key = key
    }

    private func refusal(_ problem: String) -> Refusal {
        let line = node.mark.map { ":\($0.line)" } ?? ""
        return Refusal(.configuration, "\(path)\(line): \(key) \(problem)")
    }

    func exports() throws(Refusal) -> [Export] {
        var exports: [Export] = []
        for node in try elements() {
            let export = try node.export()
            guard !exports.contains(where: { $0.path == export.path }) else {
                throw node.refusal("has the path \(export.path), which an export before it has")
            }
            exports.append(export)
        }
        return exports
    }

    private func export() throws(Refusal) -> Export {
        let values = try values(of: ["path", "clients"])
        let path = try required("path", values)
        let clients = try required("clients", values)
        let text = try path.text()
        let exportPath: ExportPath
        do throws(ExportPath.Refusal) {
            exportPath = try ExportPath(text)
        } catch {
            throw path.refusal("\(error)")
        }
        var rules: [Export.Client] = []
        for node in try clients.elements() { rules.append(try node.client()) }
        guard !rules.isEmpty else { throw clients.refusal("is empty: nobody could mount it") }
        return Export(path: exportPath, clients: rules)
    }

    private func client() throws(Refusal) -> Export.Client {
        let values = try values(
            of: ["network", "access", "squash", "anonymousUID", "anonymousGID", "privilegedPort"])
        let node = try required("network", values)
        let text = try node.text()
        let network: ClientNetwork
        do throws(ClientNetwork.Refusal) {
            network = try ClientNetwork(text)
        } catch {
            throw node.refusal("\(error)")
        }
        var client = Export.Client(network: network)
        if let access = values["access"] { client.access = try access.choice(Export.Access.self) }
        if let squash = values["squash"] { client.squash = try squash.choice(Export.Squash.self) }
        if let uid = values["anonymousUID"] { client.anonymousUID = try uid.identifier() }
        if let gid = values["anonymousGID"] { client.anonymousGID = try gid.identifier() }
        if let port = values["privilegedPort"] {
            guard let needed = port.node.bool else { throw port.refusal("must be true or false") }
            client.needsPrivilegedPort = needed
        }
        return client
    }

    private func elements() throws(Refusal) -> [ConfigurationNode] {
        guard case .sequence(let sequence) = node else { throw refusal("must be a list") }
        return sequence.enumerated().map { ConfigurationNode($1, path: path, key: "\(key)[\($0)]") }
    }

    private func values(of known: [String]) throws(Refusal) -> [String: ConfigurationNode] {
        guard case .mapping(let mapping) = node else { throw refusal("must be a mapping of keys to values") }
        var values: [String: ConfigurationNode] = [:]
        for (name, value) in mapping {
            let text = name.string ?? "?"
            guard known.contains(text) else {
                throw ConfigurationNode(name, path: path, key: "\(key).\(text)")
                    .refusal("is unknown; known are \(known.sorted().joined(separator: ", "))")
            }
            values[text] = ConfigurationNode(value, path: path, key: "\(key).\(text)")
        }
        return values
    }

    private func required(
        _ name: String, _ values: [String: ConfigurationNode]
    ) throws(Refusal) -> ConfigurationNode {
        guard let value = values[name] else { throw refusal("needs '\(name)'") }
        return value
    }

    private func text() throws(Refusal) -> String {
        guard case .scalar(let scalar) = node else { throw refusal("must be a text") }
        return scalar.string
    }

    private func choice<Value: RawRepresentable<String> & CaseIterable>(_: Value.Type) throws(Refusal) -> Value {
        guard let value = Value(rawValue: try text()) else {
            throw refusal("must be one of \(Value.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return value
    }

    private func identifier() throws(Refusal) -> UInt32 {
        guard let number = node.int, let id = UInt32(exactly: number) else {
            throw refusal("must be a number from 0 to \(UInt32.max)")
        }
        return id
    }
}
