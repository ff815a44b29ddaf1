// What every piece of raw memory begins with that readers may still look at after it was taken out.

/// The head of a block of raw memory that an `EpochDomain` frees. Must be the first field of what is in the block.
struct Retired {
    /// The next one in the same limbo list. Not an atomic: it is written before the block is pushed there and read by
    /// who has taken the whole list.
    var next: UnsafeMutableRawPointer?
    /// Deinitialises and frees the block.
    let dispose: @convention(c) (UnsafeMutableRawPointer) -> Void
}
