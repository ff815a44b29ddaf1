// What the server asks about a call before it starts it: whether it must not be carried out twice, and how long its
// reply may get. Both for each call, so nothing is allocated here, but for EXPORT.

internal import Model
internal import NIOCore
public import ONCRPC
internal import XDR

extension NFSPrograms {
    /// Those of NFS that change files (RFC 1813 §4.5). WRITE is one of them: a late copy would put old bytes over newer
    /// ones. MOUNT changes nothing.
    public func mustNotRepeat(_ call: RPCCall) -> Bool {
        call.program == Self.nfsProgram && NFSProcedure(rawValue: call.procedure)?.changesFiles == true
    }

    public func maxReplyBytes(_ call: RPCCall) -> Int {
        switch call.program {
        case Self.nfsProgram: break
        case Self.mountProgram: return Self.usualReplyBytes + maxListBytes(MountProcedure(rawValue: call.procedure))
        default: return Self.usualReplyBytes + Self.maxCookieBytes  // NLM repeats the caller's.
        }
        let words: Int
        switch NFSProcedure(rawValue: call.procedure) {
        case .read: words = 2  // offset
        case .readdir: words = 4  // cookie, verifier
        case .readdirplus: words = 5  // cookie, verifier, dircount
        case .readlink: return 8 << 10  // a path of 4,096 bytes
        default: return Self.usualReplyBytes
        }
        let count = try? call.decodeArguments { decoder throws(XDRError) in
            let handleWords = min((Int(try decoder.uint32()) + 3) / 4, 16)
            for _ in 0..<handleWords + words { _ = try decoder.uint32() }
            return Int(try decoder.uint32())
        }
        return min(count ?? 0, Limits.maxTransferBytes) + Self.usualReplyBytes
    }

    /// Headers, two wcc_data of 116 bytes, attributes of 88 and a handle of 68.
    private static var usualReplyBytes: Int { 1 << 10 }

    /// Of the lists that MOUNT answers.
    private func maxListBytes(_ procedure: MountProcedure?) -> Int {
        switch procedure {
        case .dump: MountList.maxBytes
        // As long as the configuration has it, whoever calls. Few do: encoding it twice is no matter.
        case .export: export().header.readableBytes
        case .null, .mnt, .umnt, .umntall, nil: 0
        }
    }
}
