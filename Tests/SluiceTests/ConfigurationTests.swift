// The configuration file and the addresses: what is taken, and that what is not is refused by name.

import Foundation
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
                """, path: "file")
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
    }
}
