// The header of a call (RFC 5531 §9), decoded by libtirpc's xdr_callmsg and xdr_authunix_parms. They get
// memory for all that they would allocate otherwise.

internal import CTirpc
internal import Model
internal import NIOCore
internal import Platform
internal import XDR

/// What the first bytes of a record say.
enum CallMessage {
    case call(Header)
    /// RPC_MISMATCH: not version 2.
    case wrongRPCVersion(xid: UInt32)
    case rejected(xid: UInt32, RPCAuthenticationStatus)
    /// A well-formed beginning of a message that is no call.
    case reply
    case undecodable

    struct Header {
        let xid: UInt32
        let program: UInt32
        let version: UInt32
        let procedure: UInt32
        let credential: RPCCredential
        /// Where the arguments start in the record.
        let length: Int
    }

    /// The most bytes of a credential or verifier (RFC 5531 §8.2); libtirpc's MAX_AUTH_BYTES.
    private static let maxAuthenticatorBytes = 400

    /// Decodes the header of a record whose first segment contains it, if it is there at all.
    init(_ record: Payload) {
        guard let head = record.segments.first else {
            self = .undecodable
            return
        }
        self = head.withUnsafeReadableBytes { bytes in
            withUnsafeTemporaryAllocation(of: CChar.self, capacity: 2 * Self.maxAuthenticatorBytes) { room in
                Self.decode(bytes, authenticators: room)
            }
        }
    }

    private static func decode(
        _ bytes: UnsafeRawBufferPointer, authenticators room: UnsafeMutableBufferPointer<CChar>
    ) -> CallMessage {
        var message = rpc_msg()
        // xdr_callmsg stops at the first field that it doesn't like; what it hasn't reached stays as set here.
        message.rm_direction = msg_type(UInt32.max)
        message.ru.RM_cmb.cb_rpcvers = UInt32(RPC_MSG_VERSION)
        message.ru.RM_cmb.cb_cred.oa_base = room.baseAddress
        message.ru.RM_cmb.cb_verf.oa_base = room.baseAddress! + maxAuthenticatorBytes
        var decoder = XDRDecoder(bytes)
        let isCall = decoder.withStream { xdr_callmsg($0, &message) } != 0
        let xid = message.rm_xid
        let call = message.ru.RM_cmb
        guard isCall else {
            if message.rm_direction == REPLY { return .reply }
            guard message.rm_direction == CALL else { return .undecodable }
            if call.cb_rpcvers != UInt32(RPC_MSG_VERSION) { return .wrongRPCVersion(xid: xid) }
            if call.cb_cred.oa_length > maxAuthenticatorBytes { return .rejected(xid: xid, .badCredential) }
            if call.cb_verf.oa_length > maxAuthenticatorBytes { return .rejected(xid: xid, .badVerifier) }
            return .undecodable
        }
        let body = UnsafeRawBufferPointer(start: room.baseAddress, count: Int(call.cb_cred.oa_length))
        switch credential(flavor: call.cb_cred.oa_flavor, body: body) {
        case .failure(let status):
            return .rejected(xid: xid, status.why)
        case .success(let credential):
            return .call(
                Header(
                    xid: xid, program: call.cb_prog, version: call.cb_vers, procedure: call.cb_proc,
                    credential: credential, length: decoder.position))
        }
    }

    private struct Rejection: Error { let why: RPCAuthenticationStatus }

    /// The verifier of AUTH_NONE and AUTH_SYS proves nothing and isn't looked at. For an unknown flavor RFC 5531
    /// names no status: AUTH_REJECTEDCRED, as libtirpc's server answers; it is also what makes a client that
    /// sends AUTH_SHORT fall back to AUTH_SYS (appendix A). AUTH_TOOWEAK is for known flavors.
    private static func credential(
        flavor: enum_t, body: UnsafeRawBufferPointer
    ) -> Result<RPCCredential, Rejection> {
        switch flavor {
        case AUTH_NONE:
            return .success(.none)
        case AUTH_SYS:
            guard let credential = systemCredential(body) else { return .failure(Rejection(why: .badCredential)) }
            return .success(credential)
        default:
            return .failure(Rejection(why: .rejectedCredential))
        }
    }

    /// `authsys_parms` (RFC 5531 appendix A): a machine name of at most 255 bytes and at most 16 groups.
    private static func systemCredential(_ body: UnsafeRawBufferPointer) -> RPCCredential? {
        let nameCapacity = Int(MAX_MACHINE_NAME) + 1  // a C string
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: nameCapacity) { name in
            withUnsafeTemporaryAllocation(of: gid_t.self, capacity: Int(NGRPS)) { groups -> RPCCredential? in
                var parameters = authunix_parms()
                parameters.aup_machname = name.baseAddress
                parameters.aup_gids = groups.baseAddress
                var decoder = XDRDecoder(body)
                guard decoder.withStream({ xdr_authunix_parms($0, &parameters) }) != 0 else { return nil }
                let credentials = Credentials(
                    uid: parameters.aup_uid, gid: parameters.aup_gid,
                    groups: Array(groups[..<Int(parameters.aup_len)]))
                let nameBytes = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(name).prefix { $0 != 0 })
                return .system(credentials, machineName: Array(nameBytes))
            }
        }
    }
}
