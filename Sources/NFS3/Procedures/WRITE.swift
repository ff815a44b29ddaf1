// WRITE (RFC 1813 §3.3.7): bytes of a file, stable as asked for or more.

internal import FileService
internal import Model
internal import ONCRPC
internal import Platform
internal import XDR

struct WRITE: Procedure {
    static let failureBody: [FailurePart] = [.weakCacheConsistency]
    let file: FileHandle
    let offset: UInt64
    let count: UInt32
    let stability: WriteStability
    /// Where the data is in the arguments.
    private let dataRange: Range<Int>
    /// The data: slices of the buffers that it was received in.
    private var data = Payload()
    var subjects: [FileHandle] { [file] }

    init(from decoder: inout XDRDecoder) throws(XDRError) {
        file = try decoder.fileHandle()
        offset = try decoder.uint64()
        count = try decoder.uint32()
        stability = try WriteStability(from: &decoder)
        // Above wtmax, which FSINFO announced, the arguments are garbage.
        dataRange = try decoder.payloadRange(maxCount: Limits.maxTransferBytes)
    }

    static func decode(_ call: RPCCall) throws(XDRError) -> WRITE {
        var arguments = try call.decodeArguments { (decoder) throws(XDRError) in try WRITE(from: &decoder) }
        arguments.data = try call.payload(arguments.dataRange)
        return arguments
    }

    func run(_ context: CallContext<some FileService>) async throws(NFSStatus) -> RPCReplyBody {
        let file = try context.reference(self.file)
        // The RFC has both numbers and says nothing of a difference: no guess is made which one was meant.
        guard Int(count) == data.count else { throw .invalidArgument }
        guard offset <= Limits.maxFileBytes, UInt64(count) <= Limits.maxFileBytes - offset else {
            throw .fileTooBig
        }
        let result = try await context.asking { service throws(FileError) in
            try await service.write(data, to: file, offset: offset, stability: stability, as: context.caller)
        }
        return context.reply {
            $0.weakCacheConsistency(result.change)
            $0.xdr.uint32(count)
            $0.xdr.uint32(result.stability.wireValue)
            $0.xdr.uint64(result.verifier.rawValue)
        }
    }
}

/// stable_how
extension WriteStability {
    fileprivate init(from decoder: inout XDRDecoder) throws(XDRError) {
        switch try decoder.uint32() {
        case 0: self = .unstable
        case 1: self = .dataSync
        case 2: self = .fileSync
        default: throw .invalidValue
        }
    }

    fileprivate var wireValue: UInt32 {
        switch self {
        case .unstable: 0
        case .dataSync: 1
        case .fileSync: 2
        }
    }
}
