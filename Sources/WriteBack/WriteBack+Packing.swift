// Packs what is left of files that rest: many ends of files, one behind the other, make full stripes.
//
// A file that rests has its last bytes in the journal only. When those of all that rest make at least a stripe, they are
// striped, oldest first; what is over waits on. When their places, their memory or the journal are needed, they are striped
// whether that makes full stripes or not. One pack is out at a time, beside the drains; each of its files has its one
// write-back task out meanwhile.
//
// A pack that fails loses nothing: its files rest on, and are tried again after the next tick. If it failed for one of them,
// whose bytes can't be read back, that one is left out for a while, and the others are packed without it.

internal import Model
internal import Synchronization

/// The files that rest, and who packs them. Not synchronised.
struct Packing {
    struct Resting {
        let file: OpenFileContext
        let bytes: Int
        /// In the order in which they came to rest.
        let number: UInt64
    }
    private(set) var files: [FileID: Resting] = [:]
    /// Of all of them; where writes overlap each counts.
    private(set) var bytes = 0
    private var lastNumber: UInt64 = 0
    /// Whether a pack is out.
    var isOut = false
    /// Files that are packed whether that makes full stripes or not; without one: as many as are needed.
    private var wanted: [OpenFileContext] = []
    var isForced = false
    /// The last one failed: nothing is packed until a tick.
    var isHeldOff = false
    /// Bytes below which a look was for nothing.
    var leastBytes = 0
    var count: UInt64 = 0
    var failures: UInt64 = 0
    /// How often nothing was packed until a tick.
    var heldOff: UInt64 = 0
    /// Files that were left out since the last tick.
    var leftOut = 0

    /// More of them are no reason to go on without: then it is the journal's disks.
    static let maxLeftOut = 8

    /// How long a file whose bytes can't be read back is left out: so long that what the others have cost in vain with it is
    /// little.
    static let ticksWithoutUnreadable = 60

    mutating func forget(_ file: FileID) {
        if !files.isEmpty, let old = files.removeValue(forKey: file) { bytes -= old.bytes }
    }

    /// The file rests, and has so many bytes.
    mutating func note(_ file: OpenFileContext, _ count: Int) {
        let old = files[file.fileID]
        if old?.file !== file { lastNumber += 1 }
        let number = old?.file === file ? old!.number : lastNumber
        bytes += count - (old?.bytes ?? 0)
        files[file.fileID] = Resting(file: file, bytes: count, number: number)
    }

    /// Those that are named come first, and as a whole.
    mutating func want(_ files: [OpenFileContext]) {
        let ids = Set(wanted.map(\.fileID))
        wanted += files.filter { !ids.contains($0.fileID) }
    }

    /// Those that are wanted first, then those that rest longest.
    mutating func next() -> (files: [OpenFileContext], wantedCount: Int, isForced: Bool) {
        let first = wanted
        let ids = Set(first.map(\.fileID))
        let others = files.values.filter { !ids.contains($0.file.fileID) }.sorted { $0.number < $1.number }
        defer {
            wanted = []
            isForced = false
        }
        return (first + others.map(\.file), first.count, isForced)
    }
}

extension WriteBack {
    /// Takes in a file that was recovered with bytes in the journal.
    public func adopt(_ file: OpenFileContext) {
        state.withLock { state in
            state.active[file.fileID] = file
            state.budget.charge(file.takeCharge())
        }
        forgetIfClean(file)
        noteResting(file)
        packIfWorthwhile()
    }

    /// Has what these files have in the journal striped, for the journal's room; those that rest together, the others, to
    /// which somebody writes, each for itself. Doesn't wait for it.
    public func settleJournaled(_ files: [OpenFileContext]) {
        var packed: [OpenFileContext] = []
        for file in files {
            switch file.requestUnjournal() {
            case .none: break
            case .queue: enqueue(file)
            case .pack: packed.append(file)
            }
        }
        if !packed.isEmpty { pack(packed) }
    }

    /// Packs these files, or if none are named what rests, whether that makes full stripes or not.
    func pack(_ wanted: [OpenFileContext] = []) {
        state.withLock { state in
            if state.packing.isHeldOff { return }
            state.packing.isForced = true
            state.packing.want(wanted)
        }
        packIfWorthwhile()
    }

    /// Whether the file rests may have changed.
    func noteResting(_ file: OpenFileContext) {
        state.withLock { state in
            guard state.active[file.fileID] === file, let bytes = file.restingBytes else {
                return state.packing.forget(file.fileID)
            }
            state.packing.note(file, bytes)
        }
    }

    func packIfWorthwhile() {
        let mustStart = state.withLock { state in
            guard !state.packing.isOut, !state.packing.isHeldOff else { return false }
            guard
                state.packing.isForced
                    || state.packing.bytes >= max(sink.stripeSizeBytes, state.packing.leastBytes)
            else { return false }
            state.packing.isOut = true
            return true
        }
        if mustStart { Task.detached { await self.packNext() } }
    }

    private func packNext() async {
        let (files, wantedCount, isForced) = state.withLock { $0.packing.next() }
        let (turns, parts, mayPad) = choosePack(files, wantedCount: wantedCount, isForced: isForced)
        var isPacked = false
        var unreadable: FileID?
        if !parts.isEmpty {
            do throws(PackFailure) {
                try await sink.pack(parts, mayPad: mayPad)
                isPacked = true
            } catch {
                // Nothing is lost, and the sink has said why.
                unreadable = error.unreadable
                state.withLock { state in
                    if unreadable != nil { state.packing.leftOut += 1 }
                    guard unreadable == nil || state.packing.leftOut == Packing.maxLeftOut else { return }
                    state.packing.isHeldOff = true
                    state.packing.heldOff += 1
                }
            }
        }
        for turn in turns {
            let isCulprit = turn.file.fileID == unreadable
            let ticks = isCulprit ? Packing.ticksWithoutUnreadable : unreadable == nil ? 1 : 0
            end(turn.end(isPacked: isPacked, heldOffTicks: ticks), of: turn.file)
        }
        state.withLock { state in
            if parts.isEmpty {
                state.packing.leastBytes = state.packing.bytes + sink.stripeSizeBytes
            } else if isPacked {
                state.packing.leastBytes = 0
                state.packing.count += 1
            } else {
                state.packing.failures += 1
            }
        }
        for turn in turns {
            forgetIfClean(turn.file)
            noteResting(turn.file)
        }
        state.withLock { state in
            state.packing.isOut = false
            for turn in turns { noteTurnEnded(of: turn.file, &state) }
            // Also where there was no turn.
            state.hasLookedForMemory = false
            state.hasLookedForPlaces = false
        }
        // More than one pack takes, or that could be without another one.
        let left = isPacked || unreadable != nil ? files.prefix(wantedCount).filter(\.isPackable) : []
        if !left.isEmpty { pack(left) }
        if !parts.isEmpty { relievePressure() }
        packIfWorthwhile()
    }

    /// Takes turns of as many files as make a pack, and decides which of their bytes are in it.
    private func choosePack(
        _ files: [OpenFileContext], wantedCount: Int, isForced: Bool
    ) -> (turns: [PackTurn], parts: [PackedPart], mayPad: Bool) {
        let stripe = UInt64(sink.stripeSizeBytes)
        let room = max(UInt64(limits.maxDrainBytes), stripe)
        var chosen: [(turn: PackTurn, maxRuns: Int, bytes: UInt64)] = []
        var (runs, total, wanted) = (0, UInt64(0), UInt64(0))
        for (index, file) in files.enumerated() where total < room && runs < limits.maxRunsPerTurn {
            guard let turn = file.beginPack() else { continue }
            let maxRuns = min(turn.runCount, limits.maxRunsPerTurn - runs)
            let bytes = turn.byteCount(maxRuns: maxRuns)
            chosen.append((turn, maxRuns, bytes))
            runs += maxRuns
            total += bytes
            if index < wantedCount { wanted += bytes }
        }
        // Full stripes, if those who are wanted are in them; or what there is.
        let available = min(total, room)
        var bytes = available / stripe * stripe
        if isForced, bytes == 0 || bytes < min(wanted, available) { bytes = available }
        let mayPad = bytes % stripe != 0
        var parts: [PackedPart] = []
        for (turn, maxRuns, count) in chosen where bytes > 0 && count > 0 {
            parts.append(turn.take(maxRuns: maxRuns, bytes: min(bytes, count), mayPad: mayPad))
            bytes -= min(bytes, count)
        }
        return (chosen.map(\.turn), parts, mayPad)
    }
}
