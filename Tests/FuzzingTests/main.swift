// The program that tools/fuzz builds: libFuzzer around one of the fuzzers.
//
//     SLUICE_FUZZER=NAME fuzzing [libFuzzer's arguments]
//
// The name is in the environment because libFuzzer starts the program again, with its own arguments, to merge.

import Glibc

/// libFuzzer's own main function, without its main.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ argumentCount: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ runOne: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

guard let name = getenv("SLUICE_FUZZER"), let fuzzer = Fuzzer(rawValue: String(cString: name)) else {
    print("SLUICE_FUZZER must be one of: \(Fuzzer.allCases.map(\.rawValue).joined(separator: " "))")
    exit(64)
}
let chosen = fuzzer
nonisolated(unsafe) var arguments = CommandLine.unsafeArgv
nonisolated(unsafe) var count = CommandLine.argc
exit(
    runDriver(&count, &arguments) { bytes, count in
        chosen.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
        return 0
    })
