// Which calls the server must recognise when a client sends them again (RFC 1813 §4.5): those of NFS that change
// files. WRITE is one of them: a late copy would put old bytes over newer ones. MOUNT changes nothing.

public import ONCRPC

extension NFSPrograms {
    public func mustNotRepeat(_ call: RPCCall) -> Bool {
        call.program == Self.nfsProgram && NFSProcedure(rawValue: call.procedure)?.changesFiles == true
    }
}
