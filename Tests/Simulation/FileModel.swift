// What a file may hold. Each byte is a register that several callers write: WRITEs, truncates, and what was there before.
// A change is gone for sure only when another one, begun after its answer, is certain to have taken effect; so calls that
// were under way together may have had any order. The same for size, times and mode.
//
// A change is certain
// * on the disks: when it was promised: answered stable, or by a COMMIT that covers it, with the verifier of its WRITE;
// * while the store is served: when it was answered, and, unless it was promised, the verifier is still that of its WRITE.

import FileService
import Glibc
import Model

/// One change of a file.
struct FileChange {
    enum Effect {
        case bytes(offset: Int, [UInt8])
        case size(Int)
        case mode(UInt32)
        case modificationTime(Timestamp)
        /// All that was there when everything was looked at last.
        case whole([UInt8], mode: UInt32, modificationTime: Timestamp)
    }

    let effect: Effect
    let began: Int
    /// When it was answered, with whatever; nil: it was not.
    var ended: Int?
    var isAnswered = false
    var isPromised = false
    /// That the WRITE was answered with.
    var verifier: WriteVerifier?
    /// Between these the server looked at the clock.
    var times: ClosedRange<Timestamp>

    /// Up to where the file reaches by this alone.
    var reach: Int? {
        switch effect {
        case .bytes(let offset, let bytes): offset + bytes.count
        case .size(let size): size
        case .whole(let bytes, _, _): bytes.count
        case .mode, .modificationTime: nil
        }
    }

    /// Whether bytes beyond what this reaches are cut off.
    var cuts: Bool {
        switch effect {
        case .size, .whole: true
        default: false
        }
    }

    fileprivate func touches(_ range: Range<Int>) -> Bool {
        switch effect {
        case .bytes(let offset, let bytes): offset < range.upperBound && range.lowerBound < offset + bytes.count
        case .size(let size): size < range.upperBound
        case .whole: true
        case .mode, .modificationTime: false
        }
    }

    fileprivate func byte(at position: Int) -> UInt8 {
        switch effect {
        case .bytes(let offset, let bytes): bytes[position - offset]
        case .whole(let bytes, _, _): position < bytes.count ? bytes[position] : 0
        default: 0
        }
    }

    /// Whether the found bytes at `range` are what this has there.
    fileprivate func agrees(with found: UnsafeRawBufferPointer, from start: Int, at range: Range<Int>) -> Bool {
        switch effect {
        case .bytes(let offset, let bytes):
            return bytes.withUnsafeBytes {
                memcmp(
                    $0.baseAddress! + (range.lowerBound - offset), found.baseAddress! + (range.lowerBound - start),
                    range.count) == 0
            }
        case .whole(let bytes, _, _):
            let held = range.clamped(to: 0..<bytes.count)
            if !held.isEmpty, held.lowerBound == range.lowerBound {
                let isEqual = bytes.withUnsafeBytes {
                    memcmp(
                        $0.baseAddress! + held.lowerBound, found.baseAddress! + (held.lowerBound - start), held.count)
                        == 0
                }
                return isEqual && isZero(found, from: start, at: held.upperBound..<range.upperBound)
            }
            return isZero(found, from: start, at: range)
        default: return isZero(found, from: start, at: range)
        }
    }

    private func isZero(_ found: UnsafeRawBufferPointer, from start: Int, at range: Range<Int>) -> Bool {
        !range.contains { found[$0 - start] != 0 }
    }
}

/// A file of the model.
final class FileModel: @unchecked Sendable {
    let number: Int
    var reference: FileReference
    private(set) var changes: [FileChange]
    /// Somebody has asked for the removal of what may be its last name.
    var isRemovalAsked = false
    /// Its creation was not answered, but it is there: it has nothing in it, and any mode and time.
    var isNew = false
    /// A call about it was answered with an error since the start.
    var hasFailed = false
    /// What failed writes had done may have been taken back, at any of these times: clients are to look again.
    var revertedAt: ClosedRange<Timestamp>?

    /// Seen by whom.
    enum View {
        /// After a crash: what was not promised is maybe there.
        case disks
        /// While it is served: by a call that began then, when the verifier is this.
        case served(callBegan: Int, WriteVerifier)
    }

    init(number: Int, reference: FileReference, mode: UInt32, times: ClosedRange<Timestamp>, at event: Int) {
        self.number = number
        self.reference = reference
        changes = []
        // A new file: its time is any of the creation.
        changes = [
            FileChange(
                effect: .whole([], mode: mode, modificationTime: times.upperBound), began: event, ended: event,
                isAnswered: true, isPromised: true, times: times)
        ]
    }

    /// What was found after a start is what there is.
    func rebase(on bytes: [UInt8], mode: UInt32, modificationTime: Timestamp, at event: Int) {
        changes = [
            FileChange(
                effect: .whole(bytes, mode: mode, modificationTime: modificationTime), began: event, ended: event,
                isAnswered: true, isPromised: true, times: modificationTime...modificationTime)
        ]
        isNew = false
        revertedAt = nil
        hasFailed = false
    }

    /// Returns its index.
    func begin(_ effect: FileChange.Effect, at event: Int, _ now: Timestamp) -> Int {
        changes.append(
            FileChange(effect: effect, began: event, times: now...Timestamp(seconds: .max, nanoseconds: 0)))
        return changes.count - 1
    }

    func end(
        _ index: Int, at event: Int, _ now: Timestamp, isAnswered: Bool, isPromised: Bool = false,
        verifier: WriteVerifier? = nil
    ) {
        changes[index].ended = event
        changes[index].isAnswered = isAnswered
        changes[index].isPromised = isPromised
        changes[index].verifier = verifier
        changes[index].times = changes[index].times.lowerBound...now
    }

    /// A COMMIT was answered.
    func commit(_ range: Range<Int>, began: Int, verifier: WriteVerifier) {
        for index in changes.indices {
            guard case .bytes(let offset, let bytes) = changes[index].effect, changes[index].isAnswered,
                let ended = changes[index].ended, ended < began, changes[index].verifier == verifier,
                range.lowerBound <= offset, offset + bytes.count <= range.upperBound
            else { continue }
            changes[index].isPromised = true
        }
    }

    var isChangeUnderWay: Bool { changes.contains { $0.ended == nil } }

    var hasUnpromisedWrites: Bool {
        changes.contains { change in
            if case .bytes = change.effect { !change.isPromised } else { false }
        }
    }

    /// The largest size that it may have.
    var maxSize: Int { changes.compactMap(\.reach).max() ?? 0 }

    // MARK: What may be seen

    private func isCertain(_ change: FileChange, _ view: View) -> Bool {
        switch view {
        case .disks: change.isPromised
        case .served(let callBegan, let verifier):
            change.isAnswered && change.ended! <= callBegan && (change.isPromised || change.verifier == verifier)
        }
    }

    /// Those that may be what is there, of those for which `isConcerned` holds.
    private func candidates(_ view: View, _ isConcerned: (FileChange) -> Bool) -> [FileChange] {
        let concerned = changes.filter(isConcerned)
        let certain = concerned.filter { isCertain($0, view) }
        // The last beginning among the certain ones decides.
        let limit = certain.map(\.began).max() ?? -1
        return concerned.filter { $0.ended == nil || $0.ended! >= limit }
    }

    /// Why `found`, at `offset`, can't be what is there; nil when it can.
    func objection(to found: [UInt8], at offset: Int, _ view: View) -> String? {
        let all = offset..<offset + found.count
        if all.isEmpty { return nil }
        var ends: Set<Int> = [all.upperBound]
        for change in changes {
            if case .bytes(let start, _) = change.effect { ends.insert(start) }
            if let reach = change.reach { ends.insert(reach) }
        }
        var start = all.lowerBound
        for end in ends.sorted() where end > start && end <= all.upperBound {
            let range = start..<end
            start = end
            let candidates = candidates(view) { $0.touches(range) }
            let isFine = found.withUnsafeBytes { bytes in
                candidates.contains { $0.agrees(with: bytes, from: offset, at: range) }
            }
            if isFine { continue }
            for position in range
            where !candidates.contains(where: { $0.byte(at: position) == found[position - offset] }) {
                return "file \(number): byte \(position) is \(found[position - offset]), but may only be "
                    + candidates.map { "\($0.byte(at: position)) of \($0.began)" }.joined(separator: " or ")
            }
        }
        return nil
    }

    func objection(toSize size: Int, _ view: View) -> String? {
        let concerned = changes.filter { $0.reach != nil }
        for change in concerned where isCertain(change, view) {
            // What may have cut it since.
            let cut =
                concerned.filter {
                    $0.cuts && $0.began != change.began && ($0.ended == nil || $0.ended! >= change.began)
                }
                .compactMap(\.reach).min() ?? .max
            if size < min(cut, change.reach!) {
                return "file \(number) has \(size) bytes, but \(change.began) made it \(change.reach!)"
            }
        }
        let limit = concerned.filter { $0.cuts && isCertain($0, view) }.map(\.began).max() ?? -1
        let largest =
            concerned.filter { $0.ended == nil || $0.ended! >= limit }.compactMap(\.reach).max() ?? 0
        return size > largest ? "file \(number) has \(size) bytes, but \(largest) at most" : nil
    }

    func objection(toMode mode: UInt32, _ view: View) -> String? {
        let candidates = candidates(view) { change in
            switch change.effect {
            case .mode, .whole: true
            default: false
            }
        }
        let allowed = candidates.map { change -> UInt32 in
            switch change.effect {
            case .mode(let mode), .whole(_, let mode, _): mode
            default: 0
            }
        }
        return allowed.contains(mode) ? nil : "file \(number) has mode \(mode), but may only have \(allowed)"
    }

    func objection(toTime time: Timestamp, _ view: View) -> String? {
        func sets(_ change: FileChange) -> Bool {
            if case .mode = change.effect { return false }
            return true
        }
        func mayBe(_ change: FileChange) -> Bool {
            if case .modificationTime(let exact) = change.effect { return time == exact }
            return change.times.contains(time)
        }
        // A truncate to the size that it has sets no time.
        let certain = changes.filter { change in
            if case .size = change.effect { return false }
            return sets(change) && isCertain(change, view)
        }
        let limit = certain.map(\.began).max() ?? -1
        let allowed = changes.filter { sets($0) && ($0.ended == nil || $0.ended! >= limit) }
        return allowed.contains(where: mayBe) || revertedAt?.contains(time) == true
            ? nil
            : "file \(number) was modified at \(time), but may only have been at "
                + allowed.map { "\($0.times) by \($0.began)" }.joined(separator: " or ")
    }
}
