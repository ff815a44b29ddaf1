// The program that tools/fuzz builds: libFuzzer around one of the fuzzers.
//
//     fuzzing FUZZER [libFuzzer's arguments]

import Glibc

/// libFuzzer's own main function, without its main.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ argumentCount: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ runOne: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

guard CommandLine.argc > 1, let name = CommandLine.unsafeArgv[1], let chosen = Fuzzer(rawValue: String(cString: name))
else {
    print("usage: fuzzing \(Fuzzer.allCases.map(\.rawValue).joined(separator: "|")) [libFuzzer's arguments]")
    exit(64)
}
let fuzzer = chosen
// libFuzzer starts itself again with its first arguments, so the name stays where it is: it has no "-", and so would
// be taken for a directory of inputs if it were not taken out.
nonisolated(unsafe) var arguments = CommandLine.unsafeArgv
nonisolated(unsafe) var count = CommandLine.argc - 1
arguments[1] = arguments[0]
arguments += 1
exit(
    runDriver(&count, &arguments) { bytes, count in
        fuzzer.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
        return 0
    })
