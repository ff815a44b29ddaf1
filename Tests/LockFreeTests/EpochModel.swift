// The algorithm of `EpochDomain` as steps of a few threads, all of whose interleavings are gone through.
//
// A step is one access to what is shared. Slots and epoch are read as they are, since they are sequentially consistent. The
// word by which a node is found is not: a reader may still find it after it was taken out, unless he knows better. What a
// thread knows is what happened before in the language's sense: it leaves that with what it releases, and who acquires it
// there knows it as well.

/// What is done otherwise than it should be.
enum EpochFlaw: CaseIterable {
    /// A block is freed two epochs after its retiring.
    case freesAfterTwo
    /// Who leaves releases nothing.
    case leavesRelaxed
    /// The epoch is not looked at again after the slot was written.
    case looksOnce
    /// The collector doesn't look at the last slot.
    case overlooksSlot
    /// Limbo has a list too few: who retires and who frees may be at the same one.
    case hasThreeLists
    /// Who takes the node out isn't pinned.
    case retiresUnpinned
}

/// Which events happened before something, as bits.
private typealias Knowledge = UInt8
private let takenOut: Knowledge = 1
private func hasUsed(_ thread: Int) -> Knowledge { 2 << Knowledge(thread) }

/// A word and what its last writer knew, if he released it.
private struct Word {
    var value: UInt8 = 0
    var knowledge: Knowledge = 0
}

private struct Worker {
    enum Role: UInt8 { case reader, retirer, collector }
    let role: Role
    /// The step that comes next.
    var step: UInt8 = 0
    /// Still to go, with this one.
    var rounds: UInt8
    var knowledge: Knowledge = 0
    /// The epoch that it saw, and the next slot to be looked at.
    var seen: UInt8 = 0
    var next: UInt8 = 0
    /// It has found the node and is not done with it.
    var isLooking = false
    /// It has looked at it in some round.
    var hasLooked = false
}

/// All that is shared, and where the threads are.
private struct Situation {
    var epoch = Word()
    var slots: [Word]
    /// Whether the node is in the list.
    var limbo: [Word]
    var collecting = Word()
    var isTakenOut = false
    var isFreed = false
    var workers: [Worker]

    /// All of it in three words: a set of these is much quicker than one of situations.
    struct Key: Hashable {
        private var words: (UInt64, UInt64, UInt64) = (0, 0, 0)
        private var bits = 0

        mutating func add(_ value: UInt8, _ count: Int) {
            precondition(value >> UInt8(count) == 0 && bits / 60 < 3)
            if bits % 60 + count > 60 { bits += 60 - bits % 60 }
            switch bits / 60 {
            case 0: words.0 = words.0 << UInt64(count) | UInt64(value)
            case 1: words.1 = words.1 << UInt64(count) | UInt64(value)
            default: words.2 = words.2 << UInt64(count) | UInt64(value)
            }
            bits += count
        }

        static func == (left: Key, right: Key) -> Bool { left.words == right.words }

        func hash(into hasher: inout Hasher) {
            hasher.combine(words.0)
            hasher.combine(words.1)
            hasher.combine(words.2)
        }
    }

    var key: Key {
        var key = Key()
        key.add(epoch.value, 3)
        key.add(epoch.knowledge, 5)
        for slot in slots {
            key.add(slot.value, 3)
            key.add(slot.knowledge, 5)
        }
        for list in limbo {
            key.add(list.value, 1)
            key.add(list.knowledge, 5)
        }
        key.add(collecting.value, 1)
        key.add(collecting.knowledge, 5)
        key.add((isTakenOut ? 1 : 0) | (isFreed ? 2 : 0), 2)
        for worker in workers {
            key.add(worker.step, 3)
            key.add(worker.rounds, 3)
            key.add(worker.knowledge, 5)
            key.add(worker.seen, 3)
            key.add(worker.next, 3)
            key.add((worker.isLooking ? 1 : 0) | (worker.hasLooked ? 2 : 0), 2)
        }
        return key
    }
}

/// Goes through all that may happen.
struct EpochModel {
    struct Result {
        var situations = 0
        /// In how many of them, at the end, the node was freed.
        var freed = 0
        var violation: String?
    }

    private let flaw: EpochFlaw?
    private let start: Situation

    /// - Parameters:
    ///   - readers: how often each looks for the node.
    ///   - collectors: how often each collects.
    init(readers: [UInt8], collectors: [UInt8], flaw: EpochFlaw? = nil) {
        self.flaw = flaw
        // The last slot is a reader's, for the flaw that overlooks it.
        let workers =
            collectors.map { Worker(role: .collector, rounds: $0) } + [Worker(role: .retirer, rounds: 1)]
            + readers.map { Worker(role: .reader, rounds: $0) }
        start = Situation(
            slots: Array(repeating: Word(), count: workers.count),
            limbo: Array(repeating: Word(), count: flaw == .hasThreeLists ? 3 : 4), workers: workers)
    }

    func run() -> Result {
        var result = Result()
        var known: Set<Situation.Key> = [start.key]
        var open = [start]
        while let situation = open.popLast() {
            result.situations += 1
            var isEnd = true
            for index in situation.workers.indices where situation.workers[index].rounds > 0 {
                isEnd = false
                for next in steps(situation, index, &result.violation) where known.insert(next.key).inserted {
                    open.append(next)
                }
                if result.violation != nil { return result }
            }
            if isEnd && situation.isFreed { result.freed += 1 }
        }
        return result
    }

    /// What may come of the next step of a thread.
    private func steps(_ old: Situation, _ index: Int, _ violation: inout String?) -> [Situation] {
        var new = old
        switch old.workers[index].role {
        case .reader: return read(old, index, &violation)
        case .retirer: retire(&new, index)
        case .collector: collect(&new, index, &violation)
        }
        return [new]
    }

    // MARK: Accesses

    private func acquire(_ word: Word, _ worker: inout Worker) -> UInt8 {
        worker.knowledge |= word.knowledge
        return word.value
    }

    private func release(_ word: inout Word, _ value: UInt8, _ worker: Worker) {
        word = Word(value: value, knowledge: worker.knowledge)
    }

    // MARK: Programs

    /// Steps 0 to 2 of those who pin themselves.
    private func enter(_ situation: inout Situation, _ index: Int) {
        let worker = situation.workers[index]
        switch worker.step {
        case 0:
            situation.workers[index].seen = acquire(situation.epoch, &situation.workers[index])
            situation.workers[index].step = 1
        case 1:
            release(&situation.slots[index], worker.seen + 1, worker)
            situation.workers[index].step = flaw == .looksOnce ? 3 : 2
        default:
            let now = acquire(situation.epoch, &situation.workers[index])
            situation.workers[index].step = now == worker.seen ? 3 : 1
            situation.workers[index].seen = now
        }
    }

    private func leave(_ situation: inout Situation, _ index: Int) {
        release(&situation.slots[index], 0, situation.workers[index])
        if flaw == .leavesRelaxed { situation.slots[index].knowledge = 0 }
        situation.workers[index].step = 0
        situation.workers[index].rounds -= 1
    }

    private func read(_ old: Situation, _ index: Int, _ violation: inout String?) -> [Situation] {
        var new = old
        switch old.workers[index].step {
        case 0..<3: enter(&new, index)
        case 3:
            new.workers[index].step = 5
            var found = new
            found.workers[index].step = 4
            found.workers[index].isLooking = true
            found.workers[index].hasLooked = true
            guard old.isTakenOut else { return [found] }
            // Who doesn't know may still see it.
            new.workers[index].knowledge |= takenOut
            return old.workers[index].knowledge & takenOut == 0 ? [found, new] : [new]
        case 4:
            if old.isFreed { violation = "a reader looks at what is freed" }
            new.workers[index].isLooking = false
            new.workers[index].knowledge |= hasUsed(index)
            new.workers[index].step = 5
        default: leave(&new, index)
        }
        return [new]
    }

    private func retire(_ situation: inout Situation, _ index: Int) {
        switch situation.workers[index].step {
        case 0..<3:
            if flaw == .retiresUnpinned { situation.workers[index].step = 3 } else { enter(&situation, index) }
        case 3:
            situation.isTakenOut = true
            situation.workers[index].knowledge |= takenOut
            situation.workers[index].step = 4
        case 4:
            situation.workers[index].seen = acquire(situation.epoch, &situation.workers[index])
            situation.workers[index].step = 5
        case 5:
            let list = Int(situation.workers[index].seen) % situation.limbo.count
            _ = acquire(situation.limbo[list], &situation.workers[index])
            release(&situation.limbo[list], 1, situation.workers[index])
            situation.workers[index].step = 6
        default:
            if flaw == .retiresUnpinned { situation.workers[index].rounds = 0 } else { leave(&situation, index) }
        }
    }

    private func collect(_ situation: inout Situation, _ index: Int, _ violation: inout String?) {
        func end(_ situation: inout Situation) {
            release(&situation.collecting, 0, situation.workers[index])
            situation.workers[index].step = 0
            situation.workers[index].rounds -= 1
        }
        switch situation.workers[index].step {
        case 0:
            if acquire(situation.collecting, &situation.workers[index]) == 1 {
                situation.workers[index].rounds -= 1
                return
            }
            situation.collecting.value = 1
            situation.workers[index].step = 1
        case 1:
            situation.workers[index].seen = acquire(situation.epoch, &situation.workers[index])
            situation.workers[index].next = 0
            situation.workers[index].step = 2
        case 2:
            let slot = Int(situation.workers[index].next)
            let word = acquire(situation.slots[slot], &situation.workers[index])
            if word != 0 && word != situation.workers[index].seen + 1 {
                situation.workers[index].step = 5
                return
            }
            situation.workers[index].next += 1
            let slots = situation.slots.count - (flaw == .overlooksSlot ? 1 : 0)
            if Int(situation.workers[index].next) == slots { situation.workers[index].step = 3 }
        case 3:
            release(&situation.epoch, situation.workers[index].seen + 1, situation.workers[index])
            situation.workers[index].step = 4
        case 4:
            // The list of the epoch that is left behind: (seen + 1) − 3, or − 2.
            let lists = situation.limbo.count
            let list = (Int(situation.workers[index].seen) + 2 * lists - (flaw == .freesAfterTwo ? 1 : 2)) % lists
            let isThere = acquire(situation.limbo[list], &situation.workers[index]) == 1
            situation.limbo[list].value = 0
            situation.workers[index].step = 5
            guard isThere else { return }
            situation.isFreed = true
            for (reader, worker) in situation.workers.enumerated() where worker.role == .reader {
                if worker.isLooking { violation = "freed while reader \(reader) looks at it" }
                if worker.hasLooked && situation.workers[index].knowledge & hasUsed(reader) == 0 {
                    violation = "freed by who doesn't know that reader \(reader) is done"
                }
            }
        default: end(&situation)
        }
    }
}
