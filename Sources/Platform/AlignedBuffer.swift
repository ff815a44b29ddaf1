// Memory for cells, parity and disk I/O: page-aligned, outside of Swift's arrays, so that ISA-L and the
// kernel get the alignment they like and a cell can be filled in place.

internal import Glibc

/// A fixed piece of page-aligned memory. Its content is undefined until written.
///
/// Not synchronised: one owner fills it, then hands it on.
public final class AlignedBuffer: @unchecked Sendable {
    public let bytes: UnsafeMutableRawBufferPointer

    /// Page size, which also suits O_DIRECT and AVX-512.
    public static let alignment = 4096

    /// - Precondition: `count` > 0.
    public init(count: Int) {
        precondition(count > 0)
        guard let memory = aligned_alloc(Self.alignment, (count + Self.alignment - 1) & ~(Self.alignment - 1)) else {
            fatalError("out of memory for a buffer of \(count) bytes")
        }
        bytes = UnsafeMutableRawBufferPointer(start: memory, count: count)
    }

    deinit { free(bytes.baseAddress) }
}
