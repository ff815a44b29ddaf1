// What all callers of a history share: the store, the model of its files, and what has gone wrong.

import FaultInjection
import FileService
import Model
import Platform

@testable import EmbeddedFileService

/// A history has shown that the store is wrong.
struct Wrong: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Used by one thread at a time, as everything in a simulation is.
final class World: @unchecked Sendable {
    let clock = SimulatedClock()
    var disk: SimulatedFileSystem
    private(set) var opened: EmbeddedFileService?
    /// Of what is drawn by callers; the order in which they run is the simulator's.
    var random: SeededGenerator
    private var lastEvent = 0
    private var lastNumber = 0
    private(set) var files: [Int: FileModel] = [:]
    /// The first thing that was wrong.
    private(set) var wrong: Wrong?
    /// Calls may fail: faults were injected since the start, volumes are missing, or there is little room.
    var mayFail = false
    /// Some of the callers that are under way.
    var busyCallers = 0
    let trace: Trace
    private var firstVerifier: WriteVerifier?
    private var servedSince = Timestamp(seconds: 0, nanoseconds: 0)

    static let user = Credentials(uid: 0, gid: 0, groups: [])

    init(disk: SimulatedFileSystem, seed: UInt64, trace: Trace) {
        self.disk = disk
        self.trace = trace
        random = SeededGenerator(seed: seed)
    }

    var service: EmbeddedFileService {
        guard let opened else { preconditionFailure("the store is not open") }
        return opened
    }

    func serve(_ service: EmbeddedFileService?) {
        opened = service
        guard let service else { return }
        firstVerifier = service.core.verifier.current
        servedSince = clock.now()
    }

    var hasPower: Bool { disk.hasPower }
    var isOver: Bool { wrong != nil || !hasPower }

    /// The next moment of the history.
    func event() -> Int {
        lastEvent += 1
        return lastEvent
    }

    func newNumber() -> Int {
        lastNumber += 1
        return lastNumber
    }

    func note(_ text: @autoclosure () -> String) { trace.note("\(lastEvent) \(text())") }

    func isWrong(_ text: String) {
        guard wrong == nil else { return }
        wrong = Wrong(text)
        note("WRONG: \(text)")
    }

    func mustNot(_ objection: String?, _ when: @autoclosure () -> String) {
        if let objection { isWrong("\(objection), \(when())") }
    }

    // MARK: Files

    func add(_ file: FileModel) { files[file.number] = file }

    func forget(file number: Int) { files[number] = nil }

    /// In the order of their numbers, so that a seed always finds the same.
    var sortedFiles: [FileModel] { files.values.sorted { $0.number < $1.number } }

    /// What a caller sees that began then.
    func view(began: Int) -> FileModel.View { .served(callBegan: began, service.core.verifier.current) }

    /// To be called before the times of a file are looked at.
    func noteReverts(of file: FileModel) {
        guard mayFail else { return }
        let hasLost = opened.map { $0.core.verifier.current != firstVerifier } ?? true
        // A drain may also fail with bytes that a truncate had taken away meanwhile; then nothing is lost, and nobody told.
        if hasLost || file.hasFailed || file.isChangeUnderWay || file.hasUnpromisedWrites {
            file.revertedAt = min(servedSince, file.revertedAt?.lowerBound ?? servedSince)...clock.now()
        }
    }

    // MARK: Answers

    /// A call was refused. Returns whether the caller may go on.
    func failed(_ error: FileError, _ what: @autoclosure () -> String, mayBeStale: Bool = false) -> Bool {
        note("\(what()) -> \(error)")
        if let opened, opened.failure != nil, opened.core.verifier.current == firstVerifier {
            isWrong("the store has failed for good, with the verifier that it had")
        }
        guard hasPower else { return false }
        switch error {
        case .busy: return true
        case .inputOutput, .noSpace, .readOnly:
            if !mayFail { isWrong("\(what()): \(error), although nothing has failed") }
        case .stale:
            if !mayBeStale { isWrong("\(what()): \(error)") }
        default: isWrong("\(what()): \(error)")
        }
        return wrong == nil
    }
}

func pattern(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        let bytes = UnsafeMutableRawBufferPointer(buffer)
        var index = 0
        while index + 8 <= count {
            bytes.storeBytes(of: random.next(), toByteOffset: index, as: UInt64.self)
            index += 8
        }
        while index < count {
            bytes[index] = UInt8(truncatingIfNeeded: random.next())
            index += 1
        }
        initialized = count
    }
}

func name(_ text: String) -> FileName {
    guard let name = try? FileName(Array(text.utf8)) else { preconditionFailure("bad name") }
    return name
}
