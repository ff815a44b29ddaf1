// Messages made by hand: these functions share nothing with the code under test.

/// Big-endian words.
func words(_ values: UInt32...) -> [UInt8] {
    values.flatMap { [UInt8($0 >> 24), UInt8($0 >> 16 & 0xff), UInt8($0 >> 8 & 0xff), UInt8($0 & 0xff)] }
}

/// `opaque<>`: count, bytes, zeroes up to a multiple of 4.
func opaque(_ bytes: [UInt8]) -> [UInt8] {
    words(UInt32(bytes.count)) + bytes + [UInt8](repeating: 0, count: -bytes.count & 3)
}

/// A fragment with its mark (RFC 5531 §11).
func fragment(_ bytes: [UInt8], isLast: Bool = true) -> [UInt8] {
    words((isLast ? 0x8000_0000 : 0) | UInt32(bytes.count)) + bytes
}

/// AUTH_NONE as credential or verifier.
let noAuthenticator = words(0, 0)

/// AUTH_SYS (RFC 5531 appendix A).
func systemAuthenticator(
    stamp: UInt32 = 0, machine: [UInt8] = Array("client".utf8), uid: UInt32, gid: UInt32, groups: [UInt32]
) -> [UInt8] {
    let parameters =
        words(stamp) + opaque(machine) + words(uid, gid) + words(UInt32(groups.count)) + groups.flatMap { words($0) }
    return words(1) + opaque(parameters)
}

/// A call message (RFC 5531 §9) without a mark.
func callMessage(
    xid: UInt32, rpcVersion: UInt32 = 2, program: UInt32 = testProgram, version: UInt32 = 3, procedure: UInt32,
    credential: [UInt8] = noAuthenticator, verifier: [UInt8] = noAuthenticator, arguments: [UInt8] = []
) -> [UInt8] {
    words(xid, 0, rpcVersion, program, version, procedure) + credential + verifier + arguments
}

/// An accepted reply with AUTH_NONE as verifier: xid, REPLY, MSG_ACCEPTED, verifier, status and more.
func acceptedReply(xid: UInt32, status: UInt32, _ more: [UInt8] = []) -> [UInt8] {
    words(xid, 1, 0, 0, 0, status) + more
}

/// A number that no one has registered.
let testProgram: UInt32 = 0x2000_0042
