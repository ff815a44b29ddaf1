// Reply messages (RFC 5531 §9), encoded by libtirpc's xdr_replymsg. The verifier is AUTH_NONE.

internal import CTirpc
internal import NIOCore
internal import Platform
internal import XDR

/// The body of a reply.
enum ReplyMessage {
    case success(RPCReplyBody)
    case programUnavailable
    case programMismatch(ClosedRange<UInt32>)
    case procedureUnavailable
    case garbageArguments
    case systemError
    /// RPC_MISMATCH; only version 2 of the protocol is served.
    case rpcMismatch
    case authenticationError(RPCAuthenticationStatus)

    /// A mark, and the longest reply without results: PROG_MISMATCH with its two versions, 8 words.
    private static let maxHeaderBytes = 4 + 8 * 4
    /// Results up to here are copied behind the header, which is cheaper than a buffer of their own.
    private static let maxCopiedBytes = 4 << 10
    private static let padding = ByteBuffer(repeating: 0, count: 3)

    /// Appends the buffers of a record of one fragment; returns how many bytes they have.
    func encode(xid: UInt32, into buffers: inout [ByteBuffer]) -> Int {
        var results = ByteBuffer()
        var payload = Payload()
        if case .success(let body) = self {
            results = body.header
            payload = body.payload ?? payload
        }
        let isCopied = results.readableBytes <= Self.maxCopiedBytes

        var encoder = XDREncoder(capacity: Self.maxHeaderBytes + (isCopied ? results.readableBytes : 0))
        encoder.uint32(0)  // the mark, when the length is known
        var message = message(xid: xid)
        encoder.encode(atMost: Self.maxHeaderBytes - 4) { xdr_replymsg($0, &message) }
        var head = encoder.finish()
        let paddingBytes = -payload.count & 3
        let total = head.readableBytes + results.readableBytes + payload.count + paddingBytes
        head.setInteger(0x8000_0000 | UInt32(total - 4), at: 0)

        if isCopied {
            head.writeBuffer(&results)
            buffers.append(head)
        } else {
            buffers.append(head)
            buffers.append(results)
        }
        buffers.append(contentsOf: payload.segments)
        if paddingBytes > 0, let zeroes = Self.padding.getSlice(at: 0, length: paddingBytes) { buffers.append(zeroes) }
        return total
    }

    private func message(xid: UInt32) -> rpc_msg {
        var message = rpc_msg()  // all zero: verifier AUTH_NONE
        message.rm_xid = xid
        message.rm_direction = REPLY
        switch self {
        case .success: accept(&message, SUCCESS)
        case .programUnavailable: accept(&message, PROG_UNAVAIL)
        case .programMismatch(let versions):
            accept(&message, PROG_MISMATCH)
            message.ru.RM_rmb.ru.RP_ar.ru.AR_versions.low = versions.lowerBound
            message.ru.RM_rmb.ru.RP_ar.ru.AR_versions.high = versions.upperBound
        case .procedureUnavailable: accept(&message, PROC_UNAVAIL)
        case .garbageArguments: accept(&message, GARBAGE_ARGS)
        case .systemError: accept(&message, SYSTEM_ERR)
        case .rpcMismatch:
            message.ru.RM_rmb.rp_stat = MSG_DENIED
            message.ru.RM_rmb.ru.RP_dr.rj_stat = RPC_MISMATCH
            message.ru.RM_rmb.ru.RP_dr.ru.RJ_versions.low = UInt32(RPC_MSG_VERSION)
            message.ru.RM_rmb.ru.RP_dr.ru.RJ_versions.high = UInt32(RPC_MSG_VERSION)
        case .authenticationError(let status):
            message.ru.RM_rmb.rp_stat = MSG_DENIED
            message.ru.RM_rmb.ru.RP_dr.rj_stat = AUTH_ERROR
            message.ru.RM_rmb.ru.RP_dr.ru.RJ_why = auth_stat(status.rawValue)
        }
        return message
    }

    private func accept(_ message: inout rpc_msg, _ status: accept_stat) {
        message.ru.RM_rmb.rp_stat = MSG_ACCEPTED
        message.ru.RM_rmb.ru.RP_ar.ar_stat = status
        if status == SUCCESS { sluice_set_no_results(&message) }
    }
}
