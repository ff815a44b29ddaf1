// What happened in a history: a digest of every call of the file system, to compare two runs, and, when asked for, lines. And how it is run.

import FaultInjection
import Platform

final class Trace: @unchecked Sendable {
    private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325
    private(set) var calls = 0
    let prints: Bool
    /// Syncs do nothing, to see that histories find that.
    let disksLie: Bool

    init(prints: Bool, disksLie: Bool) {
        self.prints = prints
        self.disksLie = disksLie
    }

    func note(_ text: @autoclosure () -> String) {
        if prints { print(text()) }
    }

    func add(_ call: FileCall) {
        calls += 1
        mix(call.path)
        mix(UInt64(UInt32(bitPattern: call.error?.code ?? 0)) << 32 | UInt64(Self.number(call.operation)))
        mix(call.offset)
        if let other = call.other { mix(other) }
        if let bytes = call.bytes {
            mix(UInt64(bytes.count))
            // What was read comes from what was written.
            if call.operation == .write { mix(bytes) }
        }
        note(
            "    \(call.operation) \(call.path) \(call.other.map { "to \($0) " } ?? "")"
                + "\(call.bytes.map { "at \(call.offset) of \($0.count) " } ?? "")\(call.error.map { "-> \($0)" } ?? "")"
        )
    }

    private static func number(_ operation: FileOperation) -> Int {
        FileOperation.allCases.firstIndex(of: operation) ?? -1
    }

    private func mix(_ value: UInt64) { digest = (digest ^ value) &* 0x0000_0100_0000_01b3 ^ (digest >> 29) }

    private func mix(_ text: String) { for byte in text.utf8 { mix(UInt64(byte)) } }

    private func mix(_ bytes: UnsafeRawBufferPointer) {
        var offset = 0
        while offset + 8 <= bytes.count {
            mix(bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
            offset += 8
        }
        while offset < bytes.count {
            mix(UInt64(bytes[offset]))
            offset += 1
        }
    }
}
