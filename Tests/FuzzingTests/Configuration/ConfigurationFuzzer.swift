// What an administrator writes: the configuration file, and the texts in it. Refused in one line, or read as what it
// says: what was read and is written again is read the same. The first byte chooses what.

import EmbeddedFileService
import Glibc
import Model
import NIOCore

@testable import NFS3
@testable import sluice

enum ConfigurationFuzzer {
    static func run(_ input: [UInt8]) {
        var choices = FuzzInput(input)
        let choice = choices.byte()
        let text = String(decoding: choices.rest, as: UTF8.self)
        switch choice % 5 {
        case 0: file(text)
        case 1: network(text)
        case 2: path(text)
        case 3: address(text)
        default: memory(text)
        }
    }

    private static func file(_ yaml: String) {
        let configuration: Configuration
        do throws(Refusal) {
            configuration = try Configuration(yaml: yaml, path: "file")
        } catch {
            isOneLine(error)
            return
        }
        if let memory = configuration.memory { self.memory(memory) }
        do throws(Refusal) {
            _ = try configuration.idleTime(isFromFlag: false)
            _ = try configuration.maxFiles(isFromFlag: false)
        } catch {
            isOneLine(error)
        }
        let exports = configuration.exports ?? []
        hold(Set(exports.map(\.path)).count == exports.count, "two exports have one path: \(exports)")
        for export in exports {
            hold(!export.clients.isEmpty, "an export that nobody can mount: \(export)")
            path(export.path.description)
            for client in export.clients { network(client.network.description) }
        }
    }

    private static func isOneLine(_ refusal: Refusal) {
        hold(refusal.code == .configuration, "code \(refusal.code)")
        hold(
            !refusal.message.unicodeScalars.contains { $0.properties.generalCategory == .control },
            "more than a line: \(refusal.message.debugDescription)")
    }

    /// The shares are all there, and no more than the whole.
    private static func memory(_ text: String) {
        let plan: MemoryPlan
        do throws(Refusal) {
            plan = try MemoryPlan(text, isFromFlag: false)
        } catch {
            isOneLine(error)
            return
        }
        let shares = [
            plan.requestBytes, plan.store.pendingBytes, plan.store.decodingBytes, plan.store.cellBytes,
        ]
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        hold(Int(digits) != nil && text.count == digits.count + 3, "\(text.debugDescription) is a size")
        hold(shares.allSatisfy { $0 >= 16 << 20 }, "a share too small: \(shares)")
        let whole = (Int(digits) ?? 0) << (text.hasSuffix("MiB") ? 20 : text.hasSuffix("GiB") ? 30 : 40)
        hold(shares.reduce(0, +) <= whole, "\(text) is shared out as \(shares)")
    }

    private static func network(_ text: String) {
        guard let network = try? ClientNetwork(text) else { return }
        hold(
            text.utf8.allSatisfy { "*0123456789abcdefABCDEF.:/".utf8.contains($0) }, "\(text.debugDescription) is taken"
        )
        hold((try? ClientNetwork(network.description)) == network, "\(network) is not what it says")
        hold((network == .everyone) == (text == "*"), "\(text) is everyone")
        let parts = text.split(separator: "/").map(String.init)
        // The address that is written is in its network.
        for host in ["0.0.0.1", "192.0.2.1", "::1", "2001:db8::1", "::ffff:192.0.2.1"] + parts.prefix(1) {
            guard let client = try? SocketAddress(ipAddress: host, port: 1) else { continue }
            let isIn = text == "*" || isIn(host, parts)
            hold(network.contains(client) == isIn, "\(host) in \(text): \(!isIn)")
        }
    }

    /// Bit for bit, with IPv4 addresses as IPv6 maps them (RFC 4291 §2.5.5.2).
    private static func isIn(_ host: String, _ network: [String]) -> Bool {
        guard let written = network.first.flatMap(bits), let found = bits(host) else { return false }
        let bitsBefore = network[0].contains(":") ? 0 : 96
        let count = network.count == 2 ? bitsBefore + (Int(network[1]) ?? 0) : 128
        let isMapped = { (bits: [Bool]) in bits.prefix(96) == mappedPrefix[...] }
        return written.prefix(count) == found.prefix(count) && isMapped(written) == isMapped(found)
    }

    private static let mappedPrefix = Array(repeating: false, count: 80) + Array(repeating: true, count: 16)

    private static func bits(_ host: String) -> [Bool]? {
        var bytes = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET6, host, &bytes) != 1 {
            guard inet_pton(AF_INET, host, &bytes) == 1 else { return nil }
            bytes = Array(repeating: 0, count: 10) + [0xff, 0xff] + bytes.prefix(4)
        }
        return bytes.flatMap { byte in (0..<8).map { byte & 0x80 >> $0 != 0 } }
    }

    private static func path(_ text: String) {
        guard let path = try? ExportPath(text) else { return }
        hold(path.bytes.count <= ExportPath.maxBytes, "a path of \(path.bytes.count) bytes")
        hold((try? ExportPath(path.description)) == path, "\(path) is not what it says")
        let names = text.utf8.split(separator: UInt8(ascii: "/"))
        hold(
            path.names.map { $0.bytes[...] } == names.map { Array($0)[...] } && text.utf8.first == UInt8(ascii: "/")
                && !names.contains { Array($0) == Array(".".utf8) || Array($0) == Array("..".utf8) },
            "\(text) is read as \(path)")
    }

    private static func address(_ text: String) {
        guard let address = ListenAddress(text) else { return }
        // In what is no host name, a bracket can become one character with the combining mark after it.
        guard address.host.utf8.allSatisfy({ $0 < 0x80 }) else { return }
        let again = "[\(address.host)]:\(address.port)"
        hold(ListenAddress(again) == address, "\(address) is not what it says")
        hold((0...65535).contains(address.port), "port \(address.port)")
    }
}
