// The configuration file and the addresses: what is taken, and that what is not is refused by name.

import EmbeddedFileService
import Foundation
import NFS3
import Testing

@testable import sluice

@Suite("Configuration")
struct ConfigurationTests {
    private func whyRefused(_ yaml: String) -> Refusal? {
        do throws(Refusal) {
            _ = try Configuration(yaml: yaml, path: "file")
            return nil
        } catch {
            return error
        }
    }

    @Test("a file says what the flags of the same names say")
    func allKeys() throws {
        let configuration = try Configuration(
            yaml: """
                data: /var/lib/sluice
                volume: [/srv/a, /srv/b]
                policy: RS-3-2-64k
                listen: "[::1]:2049"
                devices: true
                memory: 2GiB
                dump: /var/tmp/sluice
                idle: 20
                files: 1000
                """, path: "file")
        #expect(configuration.memory == "2GiB" && configuration.dump == "/var/tmp/sluice" && configuration.idle == 20)
        #expect(configuration.files == 1000)
        #expect(configuration.data == "/var/lib/sluice")
        #expect(configuration.volume == ["/srv/a", "/srv/b"])
        #expect(configuration.volumes == nil)
        #expect(configuration.policy == "RS-3-2-64k")
        #expect(configuration.listen == "[::1]:2049")
        #expect(configuration.devices == true)
    }

    @Test("an empty file, or one of comments, says nothing", arguments: ["", "# nothing\n", "---\n"])
    func empty(yaml: String) throws {
        #expect(try Configuration(yaml: yaml, path: "file") == Configuration())
    }

    @Test("an unknown key is refused by name, with the code of a wrong configuration")
    func unknownKey() throws {
        let refusal = try #require(whyRefused("data: /x\nvolums: 5\n"))
        #expect(refusal.code == .configuration)
        #expect(refusal.message.contains("'volums'") && refusal.message.contains("volumes"))
    }

    @Test(
        "values of the wrong type and what is no YAML are refused in one line",
        arguments: ["volumes: many", "volume: /one", "data: [a, b]", "- a\n- b", "data: \"unfinished", "data: {a: b}"])
    func wrongTypes(yaml: String) throws {
        let refusal = try #require(whyRefused(yaml))
        #expect(refusal.code == .configuration)
        #expect(!refusal.message.contains("\n"))
    }

    @Test("what a refusal quotes stays in its line, and does nothing to a terminal")
    func quoting() throws {
        for yaml in ["\"a\\nb\": 1", "exports: [{\"a\\nb\": 1}]"] {
            #expect(try #require(whyRefused(yaml)).message.contains("a\\u{a}b"))
        }
        #expect(Refusal(.usage, "/a\r\n\u{1b}[2Jé\u{2028}").message == "/a\\u{d}\\u{a}\\u{1b}[2Jé\\u{2028}")
    }

    @Test("flags win; a flag of one kind of volumes replaces the file's other kind")
    func flagsWin() throws {
        let file = try Configuration(yaml: "data: /a\nvolumes: 5\nlisten: 127.0.0.1:1\n", path: "file")
        var flags = Configuration()
        flags.listen = "127.0.0.1:2"
        flags.devices = true
        flags.volume = ["/v"]
        let both = file.overridden(by: flags)
        #expect(
            both.data == "/a" && both.listen == "127.0.0.1:2" && both.devices == true && both.volume == ["/v"]
                && both.volumes == nil)
    }

    @Test("a bad policy is a usage error from a flag, a configuration error from a file")
    func policies() {
        var configuration = Configuration()
        configuration.policy = "RS-2-2-64k"
        for (isFromFlag, code) in [(true, Refusal.Code.usage), (false, .configuration)] {
            #expect {
                try configuration.parsedPolicy(isFromFlag: isFromFlag)
            } throws: { error in
                (error as? Refusal)?.code == code && (error as? Refusal)?.message.contains("k must be greater") == true
            }
        }
    }

    @Test("addresses: host and port, IPv6 in brackets, port 0")
    func addresses() {
        #expect(ListenAddress("127.0.0.1:0").map { $0.host == "127.0.0.1" && $0.port == 0 } == true)
        #expect(ListenAddress("[::1]:2049").map { $0.host == "::1" && $0.port == 2049 } == true)
        for bad in ["", "2049", "host:", ":2049", "host:70000", "host:-1", "host:x"] {
            #expect(ListenAddress(bad) == nil, "\(bad)")
        }
    }

    @Test("the sample configuration is one")
    func sample() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let path = root.appending(path: "etc/sluice.yaml").path
        let configuration = try Configuration.read(path)
        #expect(configuration.data != nil && configuration.volume?.count == 5 && configuration.listen != nil)
        #expect(try configuration.parsedPolicy(isFromFlag: false) != nil)
        #expect(configuration.rpcbind == false && configuration.exports?.first?.clients.count == 2)
    }
}

@Suite("Exports in the configuration")
struct ExportConfigurationTests {
    private func refusal(_ yaml: String) -> String? {
        do throws(Refusal) {
            _ = try Configuration(yaml: yaml, path: "file")
            return nil
        } catch {
            return error.code == .configuration ? error.message : "another code: \(error)"
        }
    }

    @Test("rules are read as written, with exports(5)'s defaults: rw, root squash, a privileged port")
    func rules() throws {
        let exports = try #require(
            try Configuration(
                yaml: """
                    exports:
                      - path: /projects/
                        clients:
                          - { network: 192.0.2.0/24, access: ro, squash: all, anonymousUID: 7, anonymousGID: 8, privilegedPort: false }
                          - network: "*"
                      - { path: "/", clients: [ { network: "fd00::/8" } ] }
                    """, path: "file"
            ).exports)
        #expect(
            exports == [
                Export(
                    path: try ExportPath("/projects"),
                    clients: [
                        Export.Client(
                            network: try ClientNetwork("192.0.2.0/24"), access: .readOnly, squash: .all,
                            anonymousUID: 7, anonymousGID: 8, needsPrivilegedPort: false),
                        Export.Client(
                            network: .everyone, access: .readWrite, squash: .root, anonymousUID: 65534,
                            anonymousGID: 65534, needsPrivilegedPort: true),
                    ]),
                Export(path: try ExportPath("/"), clients: [Export.Client(network: try ClientNetwork("fd00::/8"))]),
            ])
        #expect(try Configuration(yaml: "data: /x", path: "file").exports == nil)
        #expect(try Configuration(yaml: "exports: []", path: "file").exports == [])
    }

    @Test(
        "a mistake is refused with its line and the path of its key",
        arguments: [
            ("exports:\n- path: /a\n  clients:\n  - {netwrk: '*'}", "file:4: exports[0].clients[0].netwrk is unknown"),
            ("exports:\n- path: /a\n  client: []", "file:3: exports[0].client is unknown"),
            ("exports:\n- path: /a", "exports[0] needs 'clients'"),
            ("exports:\n- path: /a\n  clients: []", "exports[0].clients is empty"),
            ("exports:\n- path: a\n  clients: [{network: '*'}]", "file:2: exports[0].path must begin with '/'"),
            ("exports:\n- path: /a/../b\n  clients: [{network: '*'}]", "exports[0].path has '..' in it"),
            (
                "exports:\n- {path: /a, clients: [{network: '*'}]}\n- {path: /a/, clients: [{network: '*'}]}",
                "exports[1] has the path /a, which"
            ),
            (
                "exports:\n- path: /a\n  clients:\n  - {network: 192.0.2.1/24}",
                "file:4: exports[0].clients[0].network has bits set"
            ),
            ("exports:\n- {path: /a, clients: [{network: 192.0.2.0/40}]}", "needs a prefix of 0 to 32"),
            ("exports:\n- {path: /a, clients: [{network: '*', squash: some}]}", "must be one of none, root, all"),
            ("exports:\n- {path: /a, clients: [{network: '*', access: w}]}", "must be one of rw, ro"),
            ("exports:\n- {path: /a, clients: [{network: '*', anonymousUID: -2}]}", "must be a number from 0"),
            ("exports:\n- {path: /a, clients: [{network: '*', privilegedPort: 1}]}", "must be true or false"),
            ("exports: /a", "exports must be a list"), ("exports: [/a]", "exports[0] must be a mapping"),
        ])
    func mistakes(yaml: String, expected: String) {
        let message = refusal(yaml)
        #expect(message?.contains(expected) == true, "\(message ?? "accepted")")
    }

    @Test("a reload says what changed, and which other keys need a restart")
    func changes() throws {
        func exports(_ text: String) throws -> [Export] {
            try Configuration(yaml: "exports: \(text)", path: "file").exports ?? []
        }
        let old = try exports("[{path: /a, clients: [{network: '*'}]}, {path: /b, clients: [{network: '*'}]}]")
        let new = try exports(
            "[{path: /b, clients: [{network: '*', access: ro}]}, {path: /c, clients: [{network: '*'}]}]")
        typealias Reload = ExportReload<EmbeddedFileService>
        #expect(Reload.changes(from: old, to: new) == ["changed /b", "added /c", "removed /a"])
        #expect(Reload.changes(from: old, to: old) == [])
        let before = try Configuration(yaml: "data: /a\nrpcbind: true", path: "file")
        let after = try Configuration(yaml: "data: /b\nlisten: 127.0.0.1:1\nrpcbind: true\nexports: []", path: "file")
        #expect(before.keys(changedIn: after) == ["data", "listen"])
    }
}
