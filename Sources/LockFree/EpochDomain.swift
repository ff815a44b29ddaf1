// Epoch-based reclamation: memory that was taken out of a lock-free structure is freed when nobody can still
// be looking at it (Fraser, "Practical lock-freedom", 2004, §5.2.3).
//
// Whoever looks at nodes is pinned: he has written the epoch that he saw into a slot. The epoch advances from e to
// e + 1 only when every slot is empty or says e, so while somebody is pinned with e the epoch is e or e + 1. Who has
// taken a node out retires it, pinned himself, with the epoch t that he reads after that. It is freed when the epoch
// is t + 3.
//
// Why three. Let the retirer be pinned with p, so t is p or p + 1. The advance to p + 2 has seen his slot empty, so
// all that he did before he left it, the taking out as well, happened before that advance. Freed is at t + 3 ≥ p + 3 and
// seen from a reader with e the epoch is at most e + 1, so e ≥ p + 2: the reader had read the epoch that this advance
// wrote before he read his first pointer, and he can't come upon the node. With two (p = e − 1, t = p) the advance to e
// need not have seen the retirer leave.
//
// Orderings: slots and epoch are sequentially consistent. The proof needs that of {reader writes his slot, reader reads
// the epoch} and {collector writes the epoch, a later collector reads the slots} one of the two readings sees the
// other's writing. The rest is release and acquire, each named where it stands. No fences: the thread sanitizer does not
// know them.
//
// Everything is lock-free but for this: a thread that stops while it is pinned stops reclamation, not progress; and
// who finds all slots taken, by 128 threads that are inside at once, waits for one of them.

internal import Glibc
internal import Synchronization

/// Frees what lock-free structures have let go of. Several structures may share one. Thread-safe.
public final class EpochDomain: @unchecked Sendable {
    /// Threads that may be inside at once: event loops, drains and readers are as many as there are cores, and some.
    private let slotCount: Int

    /// The right to look at nodes. Not to be kept: nothing is freed while one is out.
    struct Pin: ~Copyable {
        fileprivate let slot: Int
    }

    private let slots: UnsafeMutableRawPointer
    private let epoch = Atomic<UInt>(0)
    /// By epoch modulo four: blocks are pushed to that of t, which is the epoch or the one before it; freed is that of
    /// the epoch − 3.
    private let limbo: UnsafeMutablePointer<Atomic<UInt>>
    private let isCollecting = Atomic<Bool>(false)
    private let blocksFreed = Atomic<Int>(0)

    public convenience init() { self.init(slotCount: 128) }

    /// With other slots, for tests.
    init(slotCount: Int) {
        self.slotCount = slotCount
        slots = .allocate(
            byteCount: slotCount * PinSlot.strideBytes, alignment: PinSlot.strideBytes)
        for index in 0..<slotCount {
            (slots + index * PinSlot.strideBytes).bindMemory(to: PinSlot.self, capacity: 1).initialize(to: PinSlot())
        }
        limbo = .allocate(capacity: 4)
        for index in 0..<4 { (limbo + index).initialize(to: Atomic(0)) }
    }

    deinit {
        // Nobody has a reference, so nobody is inside.
        for index in 0..<4 { free(limbo[index].exchange(0, ordering: .acquiring)) }
        for index in 0..<slotCount { slot(index).deinitialize(count: 1) }
        slots.deallocate()
        limbo.deinitialize(count: 4)
        limbo.deallocate()
    }

    private func slot(_ index: Int) -> UnsafeMutablePointer<PinSlot> {
        (slots + index * PinSlot.strideBytes).assumingMemoryBound(to: PinSlot.self)
    }

    // MARK: Pins

    /// Runs `body` pinned. It must not wait for anything.
    @inline(__always)
    func pinned<Result: ~Copyable>(_ body: (borrowing Pin) -> Result) -> Result {
        let pin = enter()
        defer { leave(pin) }
        return body(pin)
    }

    private func enter() -> Pin {
        // Threads begin at different slots, and each mostly finds the one that it had before.
        let hash = UInt64(UInt(bitPattern: Int(pthread_self()))) &* 0x9E37_79B9_7F4A_7C15
        var index = Int(truncatingIfNeeded: hash >> 57) % slotCount
        var current = epoch.load(ordering: .sequentiallyConsistent)
        while true {
            for _ in 0..<slotCount {
                let word = slot(index).pointee.word
                    .compareExchange(
                        expected: 0, desired: PinSlot.word(ofEpoch: current), ordering: .sequentiallyConsistent)
                if word.exchanged {
                    // The slot must name the epoch as it is after the slot was written.
                    while true {
                        let now = epoch.load(ordering: .sequentiallyConsistent)
                        if now == current { return Pin(slot: index) }
                        current = now
                        slot(index).pointee.word.store(
                            PinSlot.word(ofEpoch: current), ordering: .sequentiallyConsistent)
                    }
                }
                index = (index + 1) % slotCount
            }
            sched_yield()
        }
    }

    private func leave(_ pin: borrowing Pin) {
        // Pairs with the reading of the slots in `collect`: all that was looked at was so before that.
        slot(pin.slot).pointee.word.store(0, ordering: .releasing)
    }

    // MARK: Blocks

    /// Counts a block that the structure has made; -1 for one that it has freed itself, since nobody else ever saw it.
    func countMade(_ blocks: Int, _ pin: borrowing Pin) {
        // Only who has the slot writes, so that no counter is shared by all inserters.
        let made = slot(pin.slot).pointee.blocksMade.load(ordering: .relaxed)
        slot(pin.slot).pointee.blocksMade.store(made + blocks, ordering: .relaxed)
    }

    /// Counts blocks that a structure freed which nobody else can reach any more.
    func countFreed(_ blocks: Int) { blocksFreed.add(blocks, ordering: .relaxed) }

    /// Frees the block when nobody can be looking at it any more.
    /// - Precondition: nobody who is pinned from now on can find it, and nobody else retires it. It begins with a
    ///   `Retired`.
    func retire(_ block: UnsafeMutableRawPointer, _ pin: borrowing Pin) {
        let list = limbo + Int(epoch.load(ordering: .sequentiallyConsistent) % 4)
        var head = list.pointee.load(ordering: .relaxed)
        while true {
            block.assumingMemoryBound(to: Retired.self).pointee.next = UnsafeMutableRawPointer(bitPattern: head)
            // Releasing pairs with the exchange in `collect`, which reads what is in the block.
            let push = list.pointee.weakCompareExchange(
                expected: head, desired: UInt(bitPattern: block), ordering: .releasing)
            if push.exchanged { return }
            head = push.original
        }
    }

    /// Advances the epoch if nobody is pinned with an older one, and frees what that allows. Four calls with nobody
    /// pinned free all that was retired before them. Does nothing while another thread is at it. Not for use while pinned.
    public func collect() {
        guard !isCollecting.exchange(true, ordering: .acquiring) else { return }
        defer { isCollecting.store(false, ordering: .releasing) }
        let current = epoch.load(ordering: .sequentiallyConsistent)
        for index in 0..<slotCount {
            // Also acquires what `leave` released.
            let word = slot(index).pointee.word.load(ordering: .sequentiallyConsistent)
            if word != 0 && word != PinSlot.word(ofEpoch: current) { return }
        }
        epoch.store(current + 1, ordering: .sequentiallyConsistent)
        // Of epoch (current + 1) − 3. Nobody pushes there: who is pinned retires with `current` or `current + 1`.
        free(limbo[Int((current + 2) % 4)].exchange(0, ordering: .acquiring))
    }

    /// Frees all that was retired before, if nobody stays pinned meanwhile.
    public func collectAll() { for _ in 0..<4 { collect() } }

    private func free(_ list: UInt) {
        var count = 0
        var next = UnsafeMutableRawPointer(bitPattern: list)
        while let block = next {
            let retired = block.assumingMemoryBound(to: Retired.self).pointee
            next = retired.next
            retired.dispose(block)
            count += 1
        }
        if count > 0 { countFreed(count) }
    }

    /// Blocks that were made and are not freed yet, in structures or in limbo. Exact while nobody is at work.
    public var liveBlocks: Int {
        var made = 0
        for index in 0..<slotCount { made += slot(index).pointee.blocksMade.load(ordering: .relaxed) }
        return made - blocksFreed.load(ordering: .relaxed)
    }
}
