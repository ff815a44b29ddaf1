// The fuzzers by name. Each is a function of an input and nothing else, so that an input that failed once fails
// again: no clock, no randomness, no threads whose order matters.
//
// An input that breaks what a fuzzer holds to be true stops the process, as the preconditions do of what is fuzzed:
// libFuzzer then keeps the input, and in a test the run fails.

/// What can be fuzzed. The raw values are the names in tools/fuzz and of the files of the corpus.
enum Fuzzer: String, CaseIterable, Sendable {
    /// A stream of bytes into an RPC connection, in any cuts.
    case records
    /// Calls of NFS, MOUNT and the lock manager with any arguments, one after the other, over a small tree.
    case procedures
    /// What is read from disks: superblocks, metadata records, names of block files, policies.
    case disk
    /// A damaged copy of the metadata: any bytes changed in its SQLite database.
    case mirror
    /// The configuration file, networks, paths of exports, addresses.
    case configuration

    func run(_ input: [UInt8]) {
        switch self {
        case .records: RecordsFuzzer.run(input)
        case .procedures: ProceduresFuzzer.run(input)
        case .disk: DiskFuzzer.run(input)
        case .mirror: MirrorFuzzer.run(input)
        case .configuration: ConfigurationFuzzer.run(input)
        }
    }
}

/// Ends the process if the claim is false.
func hold(_ claim: Bool, _ why: @autoclosure () -> String, file: StaticString = #file, line: UInt = #line) {
    if !claim { fatalError(why(), file: file, line: line) }
}

/// Takes an input apart. Where it has ended all is 0, so that every input means something.
struct FuzzInput {
    private(set) var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }
    mutating func number16() -> Int { Int(byte()) << 8 | Int(byte()) }
    mutating func number32() -> UInt32 { UInt32(number16()) << 16 | UInt32(number16()) }

    mutating func bytes(atMost count: Int) -> [UInt8] {
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
    }
}

/// Big-endian words at multiples of 4.
func wireWord(_ bytes: some RandomAccessCollection<UInt8>, _ index: Int) -> UInt32? {
    guard bytes.count >= 4 * index + 4 else { return nil }
    return bytes.dropFirst(4 * index).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
}
