// A program whose procedures are the ways in which a call can end, and which remembers its calls.

import NIOCore
import ONCRPC
import Platform
import Synchronization
import XDR

/// Program 7, versions 2 to 4.
final class EchoPrograms: RPCDispatcher {
    static let program: UInt32 = 7
    static let versions: ClosedRange<UInt32> = 2...4

    struct Call: Equatable {
        let xid: UInt32
        let procedure: UInt32
        let argumentsCount: Int
    }

    /// Procedures by number; all others are unavailable.
    enum Procedure: UInt32 {
        case empty = 0
        /// Answers the `opaque<>` that is its argument.
        case echo, garbage, systemError, tooWeak
        /// Ends after it was suspended once.
        case later
        /// The same, for calls that must not be repeated: an echo, one that fails if it has arguments, and one that
        /// was suspended.
        case change, fragileChange, laterChange
        /// Must not be repeated either, but asks to be tried again.
        case jukebox

        var mustNotRepeat: Bool { rawValue >= Self.change.rawValue }
    }

    private let log = Mutex<[Call]>([])
    var calls: [Call] { log.withLock { $0 } }

    func versions(ofProgram program: UInt32) -> ClosedRange<UInt32>? {
        program == Self.program ? Self.versions : nil
    }

    func mustNotRepeat(_ call: RPCCall) -> Bool {
        Procedure(rawValue: call.procedure)?.mustNotRepeat == true
    }

    func handle(_ call: RPCCall) async -> RPCOutcome {
        log.withLock {
            $0.append(Call(xid: call.xid, procedure: call.procedure, argumentsCount: call.argumentsCount))
        }
        switch Procedure(rawValue: call.procedure) {
        case .empty: return .success(RPCReplyBody(ByteBuffer()))
        case .echo, .change:
            do throws(XDRError) {
                let range = try call.decodeArguments { (decoder) throws(XDRError) in
                    try decoder.payloadRange(maxCount: 1 << 20)
                }
                let payload = try call.payload(range)
                return .success(RPCReplyBody(ByteBuffer(integer: UInt32(payload.count)), payload: payload))
            } catch {
                return .garbageArguments
            }
        case .garbage: return .garbageArguments
        case .systemError: return .systemError
        case .tooWeak: return .authenticationError(.tooWeak)
        case .later, .laterChange:
            await Task.yield()
            return .success(RPCReplyBody(ByteBuffer()))
        case .fragileChange:
            return call.argumentsCount == 0 ? .success(RPCReplyBody(ByteBuffer())) : .systemError
        case .jukebox:
            var body = RPCReplyBody(ByteBuffer())
            body.asksToTryAgain = true
            return .success(body)
        case nil: return .procedureUnavailable
        }
    }
}
