// Calls with any arguments, over a small tree. Arguments are refused exactly when RFC 1813 doesn't have them
// (ProtocolShapes), replies are what it has, to the last byte, and what reaches the file service is within its limits
// (TreeService checks that) and asked for by somebody who may (FuzzedExports): a caller that no export of the call's
// handles admits doesn't get as far as the service.
//
// The input: 1 byte, every how many calls the service fails (0: never), and calls:
//
//     0   procedure; 32 and up: MOUNT; 0x40: the exports' directories are looked up first; 0x80: without a credential
//     1   who calls (FuzzedCaller); 0x40: the lock manager is called, in the version that the ids say (0: 1)
//     2   count of bytes, 2 bytes
//     4   arguments, in which the word 0xffff_EENN stands for the handle of file NN in export EE
//
// A fuzzer could not guess the signature of a handle, so it names them by the order in which files came to be, from 0,
// and exports by the file that is their directory, downwards from 0xff for the whole store.

import FileService
import Model
import NIOCore
import ONCRPC
import Platform

@testable import NFS3

enum ProceduresFuzzer {
    private static let codec = FileHandleCodec(
        key: FileHandleKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908),
        storeID: StoreID(rawValue: UniqueID(high: 1, low: 0x5157_4c55_4943_4521)))
    /// Of a store that was formatted over.
    private static let otherCodec = FileHandleCodec(
        key: FileHandleKey(1, 2), storeID: StoreID(rawValue: UniqueID(high: 1, low: 5)))
    private static let maxCalls = 40

    static func run(_ input: [UInt8]) {
        var choices = FuzzInput(input)
        let service = TreeService(failingEvery: Int(choices.byte()))
        let programs = NFSPrograms(service: service, handles: codec, exports: ExportTable(FuzzedExports.all))
        for _ in 0..<maxCalls where !choices.rest.isEmpty {
            let (number, caller) = (choices.byte(), choices.byte())
            let who = FuzzedCaller(caller, hasCredential: number & 0x80 == 0)
            let given = choices.bytes(atMost: choices.number16())
            let (arguments, exportRoots) = expanded(given, service)
            let isForLocks = caller & 0x40 != 0
            let program: UInt32 = isForLocks ? 100021 : number & 0x20 == 0 ? 100003 : 100005
            let version = isForLocks ? 1 + UInt32(caller >> 4 & 3) : 3
            let procedure = UInt32(number & 0x1f)
            let call = RPCCall(
                xid: 1, program: program, version: version, procedure: procedure, credential: who.credential,
                clientAddress: who.address, arguments: Payload(bytes: arguments))
            if number & 0x40 != 0 {
                service.permits = [lookingUpExports]
                _ = runToEnd { await programs.findExportRoots() }
            }
            // The lock manager has no business with the files.
            service.permits = isForLocks ? [] : permits(program, who, exportRoots)
            // With handles of several exports it isn't known here whose the call is.
            service.hiddenParents = Set(exportRoots).count == 1 ? exportRoots.filter { $0 != .root } : []
            let outcome = runToEnd { await programs.handle(call) }
            let what = "program \(program), procedure \(procedure)"
            let shape = isForLocks ? ProtocolShapes.locks(version, procedure) : shape(program, procedure)
            check(outcome, shape, arguments, what)
            checkRights(outcome, what, service.permits)
            if what == "program 100003, procedure 3" { checkParent(outcome, arguments, service) }
        }
    }

    /// The gateway itself.
    private static let lookingUpExports = Permit(
        caller: Credentials(uid: 0, gid: 0, groups: []), mayChange: false)

    /// Of all exports whose handles are in the call. Which directory is which of those below the root may change.
    private static func permits(_ program: UInt32, _ who: FuzzedCaller, _ exportRoots: [FileID]) -> [Permit] {
        let permits = FuzzedExports.all.indices.map { FuzzedExports.permit($0, who) }
        if program == 100005 { return permits.contains { $0 != nil } ? [lookingUpExports] : [] }
        let isInStore = exportRoots.contains(.root)
        let isBelow = exportRoots.contains { $0 != .root }
        return ((isInStore ? permits[..<1] : []) + (isBelow ? permits[1...] : [])).compactMap(\.self)
    }

    private static func shape(_ program: UInt32, _ procedure: UInt32) -> ProcedureShape? {
        program == 100003
            ? NFSProcedure(rawValue: procedure).flatMap { ProtocolShapes.nfs[$0] }
            : MountProcedure(rawValue: procedure).flatMap { ProtocolShapes.mount[$0] }
    }

    private static func check(_ outcome: RPCOutcome, _ shape: ProcedureShape?, _ arguments: [UInt8], _ what: String) {
        let isDecodable = shape?.arguments.end(in: arguments) != nil
        switch outcome {
        case .success(let body):
            hold(isDecodable, "\(what): arguments that the protocol doesn't have were taken: \(arguments)")
            var results = Array(body.header.readableBytesView) + (body.payload?.bytes ?? [])
            results += [UInt8](repeating: 0, count: -results.count & 3)
            hold(shape?.results.end(in: results) == results.count, "\(what): a reply that the protocol doesn't have")
            checkSize(results.count, what, arguments)
        case .garbageArguments:
            hold(!isDecodable, "\(what): arguments were refused that the protocol has: \(arguments)")
        case .procedureUnavailable: hold(shape == nil, "\(what) is unavailable")
        case .systemError, .authenticationError: fatalError("\(what) ended in \(outcome)")
        }
    }

    /// Directory replies are no longer than asked for, without the status (§3.3.16, §3.3.17).
    private static func checkSize(_ count: Int, _ what: String, _ arguments: [UInt8]) {
        let isListing = what == "program 100003, procedure 16" || what == "program 100003, procedure 17"
        guard isListing, let handleCount = wireWord(arguments, 0) else { return }
        let lastWord = (Int(handleCount) + 3) / 4 + (what.hasSuffix("16") ? 5 : 6)
        guard let limit = wireWord(arguments, lastWord) else { return }
        hold(count <= 4 + max(Int(limit), 88), "\(what): \(count) bytes where \(limit) were asked for")
    }

    /// ACCESS promises nobody changes (§3.3.4: modify, extend, delete) in an export that is read-only to them.
    private static func checkRights(_ outcome: RPCOutcome, _ what: String, _ permits: [Permit]) {
        guard what == "program 100003, procedure 4", !permits.contains(where: \.mayChange),
            case .success(let body) = outcome, wireWord(Array(body.header.readableBytesView), 0) == 0
        else { return }
        let rights = body.header.readableBytesView.last ?? 0
        hold(rights & 0x1c == 0, "\(what): rights \(rights) where nothing may be changed")
    }

    /// LOOKUP of ".." leads to nothing that is not in the export.
    private static func checkParent(_ outcome: RPCOutcome, _ arguments: [UInt8], _ service: TreeService) {
        guard let exportRoot = service.hiddenParents.first, wireWord(arguments, 12) == 2,
            arguments.dropFirst(52).starts(with: "..".utf8), case .success(let body) = outcome,
            case let words = (0..<7).map({ wireWord(Array(body.header.readableBytesView), $0) }), words[0] == 0,
            let id = words[6]
        else { return }
        hold(service.isInside(UInt64(id), exportRoot), "\"..\" leads to file \(id), out of the export of \(exportRoot)")
    }

    /// The arguments with handles in the places of their numbers, and the roots of the exports of these.
    private static func expanded(_ given: [UInt8], _ service: TreeService) -> ([UInt8], [FileID]) {
        var arguments: [UInt8] = []
        var exportRoots: [FileID] = []
        arguments.reserveCapacity(given.count + 80)
        var rest = given[...]
        while !rest.isEmpty {
            let four = Array(rest.prefix(4))
            rest = rest.dropFirst(4)
            if four.count == 4, four[0] == 0xff, four[1] == 0xff {
                let exportRoot = service.file(number: Int(0xff - four[2])).id
                exportRoots.append(exportRoot)
                let bytes = handle(four[3], exportRoot, service).bytes
                arguments += [0, 0, 0, UInt8(bytes.count)] + bytes
            } else {
                arguments += four
            }
        }
        return (arguments, exportRoots)
    }

    private static func handle(_ number: UInt8, _ exportRoot: FileID, _ service: TreeService) -> FileHandle {
        switch number {
        case 0xff: return otherCodec.handle(of: TreeService.root, exportRoot: exportRoot)
        case 0xfe:
            var bytes = codec.handle(of: TreeService.root, exportRoot: exportRoot).bytes
            bytes[35] ^= 1
            return FileHandle(bytes)
        case 0xfd:
            return codec.handle(
                of: FileReference(id: .root, generation: FileGeneration(rawValue: 99)), exportRoot: exportRoot)
        default: return codec.handle(of: service.file(number: Int(number)), exportRoot: exportRoot)
        }
    }
}
