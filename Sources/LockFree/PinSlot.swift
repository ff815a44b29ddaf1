// A place where one thread at a time says that it is reading, on cache lines of its own.

internal import Synchronization

/// One of an `EpochDomain`'s slots.
struct PinSlot: ~Copyable {
    /// 0 while nobody has the slot; else the epoch that its thread entered in, × 2 + 1.
    let word = Atomic<UInt>(0)
    /// Blocks that were made less those that were freed unshared, by the threads that had this slot. Written only by who
    /// has it.
    let blocksMade = Atomic<Int>(0)

    /// Neighbours in an array would share a line, and each pin would take the line from all other threads. Two lines,
    /// because processors fetch them in pairs.
    static let strideBytes = 128

    static func word(ofEpoch epoch: UInt) -> UInt { epoch << 1 | 1 }
}
