// Calls with any arguments, over a small tree. Arguments are refused exactly when RFC 1813 doesn't have them
// (ProtocolShapes), replies are what it has, to the last byte, and what reaches the file service is within its limits
// (TreeService checks that).
//
// The input: 1 byte, every how many calls the service fails (0: never), and calls:
//
//     0   procedure; 32 and up: MOUNT; 0x80: without a credential
//     1   count of bytes, 2 bytes
//     3   arguments, in which the word 0xffff_ffNN stands for the handle NN
//
// A fuzzer could not guess the signature of a handle, so it names them by the order in which they came to be.

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
    private static let caller = Credentials(uid: 1000, gid: 100, groups: [4])
    private static let maxCalls = 40

    static func run(_ input: [UInt8]) {
        var choices = FuzzInput(input)
        let service = TreeService(failingEvery: Int(choices.byte()))
        let programs = NFSPrograms(service: service, handles: codec)
        for _ in 0..<maxCalls where !choices.rest.isEmpty {
            let number = choices.byte()
            let given = choices.bytes(atMost: choices.number16())
            let arguments = expanded(given, service)
            let program: UInt32 = number & 0x20 == 0 ? 100003 : 100005
            let procedure = UInt32(number & 0x1f)
            let call = RPCCall(
                xid: 1, program: program, version: 3, procedure: procedure,
                credential: number & 0x80 == 0 ? .system(caller, machineName: []) : .none,
                arguments: Payload(bytes: arguments))
            let outcome = runToEnd { await programs.handle(call) }
            check(outcome, shape(program, procedure), arguments, "program \(program), procedure \(procedure)")
        }
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
            hold(isDecodable, "\(what): arguments that RFC 1813 doesn't have were taken: \(arguments)")
            var results = Array(body.header.readableBytesView) + (body.payload?.bytes ?? [])
            results += [UInt8](repeating: 0, count: -results.count & 3)
            hold(shape?.results.end(in: results) == results.count, "\(what): a reply that RFC 1813 doesn't have")
            checkSize(results.count, what, arguments)
        case .garbageArguments:
            hold(!isDecodable, "\(what): arguments were refused that RFC 1813 has: \(arguments)")
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

    /// The arguments with handles in the places of their numbers.
    private static func expanded(_ given: [UInt8], _ service: TreeService) -> [UInt8] {
        var arguments: [UInt8] = []
        arguments.reserveCapacity(given.count + 80)
        var rest = given[...]
        while !rest.isEmpty {
            let four = rest.prefix(4)
            rest = rest.dropFirst(4)
            if four.count == 4, four.dropLast().allSatisfy({ $0 == 0xff }), let number = four.last {
                let bytes = handle(number, service).bytes
                arguments += [0, 0, 0, UInt8(bytes.count)] + bytes
            } else {
                arguments += four
            }
        }
        return arguments
    }

    private static func handle(_ number: UInt8, _ service: TreeService) -> FileHandle {
        switch number {
        case 0xff: return otherCodec.handle(of: TreeService.root)
        case 0xfe:
            var bytes = codec.handle(of: TreeService.root).bytes
            bytes[35] ^= 1
            return FileHandle(bytes)
        case 0xfd:
            return codec.handle(of: FileReference(id: .root, generation: FileGeneration(rawValue: 99)))
        default: return codec.handle(of: service.file(number: Int(number)))
        }
    }
}
