// The program: runs histories one after the other, and says which seeds have shown something. tools/simulate starts one
// for each processor.
//
//     simulation --from SEED --count N     a line `begin SEED` and a line `end SEED DIGEST CALLS STEPS` or `wrong SEED WHY` for each
//     simulation --seed SEED [--trace]     one history, with all that happens
//
// With --lying-disks syncs do nothing: most histories must find that.

import Glibc
import Platform

/// Addresses and hashes decide the order of sets and dictionaries: they must be the same in each run.
func becomeDeterministic() {
    // <sys/personality.h> is not among Swift's modules.
    typealias Personality = @convention(c) (UInt) -> Int32
    let personality = unsafeBitCast(dlsym(nil, "personality"), to: Personality.self)
    let noRandomAddresses: UInt = 0x0040000
    let current = UInt(bitPattern: Int(personality(0xffff_ffff)))
    guard getenv("SWIFT_DETERMINISTIC_HASHING") == nil || current & noRandomAddresses == 0 else { return }
    setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
    guard personality(current | noRandomAddresses) != -1 else {
        fatalError("addresses can't be made the same in each run")
    }
    var arguments: [UnsafeMutablePointer<CChar>?] = CommandLine.arguments.map { strdup($0) }
    arguments.append(nil)
    execv("/proc/self/exe", arguments)
    fatalError("can't start again: \(String(cString: strerror(errno)))")
}

struct Options {
    var from: UInt64 = 0
    var count: UInt64 = 1
    var traces = false
    var disksLie = false

    init() {
        var arguments = CommandLine.arguments.dropFirst()
        func number() -> UInt64 {
            guard let text = arguments.popFirst(), let number = UInt64(text) else { Options.refuse() }
            return number
        }
        while let argument = arguments.popFirst() {
            switch argument {
            case "--from", "--seed": from = number()
            case "--count": count = number()
            case "--trace": traces = true
            case "--lying-disks": disksLie = true
            default: Options.refuse()
            }
        }
    }

    static func refuse() -> Never {
        print("simulation --from SEED --count N | --seed SEED [--trace] [--lying-disks]")
        exit(64)
    }
}

becomeDeterministic()
let options = Options()
Simulator.shared.install()
takeOverTasks()
takeOverSQLite()
var failures = 0
for seed in options.from..<options.from + options.count {
    print("begin \(seed)")
    // A crash must not take it along.
    fflush(nil)
    let trace = Trace(prints: options.traces, disksLie: options.disksLie)
    Simulator.shared.onStuck = { why in
        print("wrong \(seed) \(why)")
        fflush(nil)
        exit(2)
    }
    if let wrong = History.run(seed: seed, trace: trace) {
        print("wrong \(seed) \(wrong.split(separator: "\n").joined(separator: " "))")
        failures += 1
    } else {
        print("end \(seed) \(String(trace.digest, radix: 16)) \(trace.calls) \(Simulator.shared.steps)")
    }
}
exit(failures == 0 ? 0 : 1)
