// Takes from the machine what differs from run to run: where Swift's tasks run, and randomness. Hash seeds and addresses are
// taken care of in `main`, before the process begins.

import CSQLite
import FaultInjection
import Glibc

// MARK: Tasks

private typealias Enqueue = @convention(thin) (UnownedJob) -> Void
private typealias EnqueueHook = @convention(thin) (UnownedJob, Enqueue) -> Void

/// What the runtime's thread pool calls.
@_silgen_name("swift_job_run")
func runTaskJob(_ job: UnownedJob, _ executor: UnownedSerialExecutor)

/// The executor of what is isolated to nothing.
let noExecutor = unsafeBitCast((0, 0), to: UnownedSerialExecutor.self)

/// From now on all jobs of tasks are the simulator's.
func takeOverTasks() {
    let hook: EnqueueHook = { job, _ in Simulator.shared.add(job) }
    setHook("swift_task_enqueueGlobal_hook", unsafeBitCast(hook, to: UInt.self))
    setHook("swift_task_enqueueMainExecutor_hook", unsafeBitCast(hook, to: UInt.self))
    // Time belongs to the simulation; nothing in a store asks the runtime for it.
    let refusal: @convention(thin) () -> Void = { fatalError("a task that waits for the machine's clock") }
    setHook("swift_task_enqueueGlobalWithDelay_hook", unsafeBitCast(refusal, to: UInt.self))
    setHook("swift_task_enqueueGlobalWithDeadline_hook", unsafeBitCast(refusal, to: UInt.self))
}

private func setHook(_ name: String, _ value: UInt) {
    guard let hook = dlsym(nil, name) else { fatalError("the Swift runtime has no \(name)") }
    hook.storeBytes(of: value, as: UInt.self)
}

// MARK: Randomness

/// Only used by who has the simulator's baton.
nonisolated(unsafe) private var randomness = SeededGenerator(seed: 0)

private func fill(_ buffer: UnsafeMutableRawPointer, _ count: Int) {
    for index in 0..<count {
        buffer.storeBytes(of: UInt8(truncatingIfNeeded: randomness.next()), toByteOffset: index, as: UInt8.self)
    }
}

/// Stands before that of the runtime: what `SystemRandomNumberGenerator` gives.
@_cdecl("swift_stdlib_random")
public func seededRandom(_ buffer: UnsafeMutableRawPointer, _ count: Int) { fill(buffer, count) }

/// SQLite draws from its default VFS (for the salts of logs), and asks it what time it is.
func takeOverSQLite() {
    guard let vfs = sqlite3_vfs_find(nil) else { fatalError("SQLite has no VFS") }
    vfs.pointee.xRandomness = { _, count, buffer in
        fill(UnsafeMutableRawPointer(buffer!), Int(count))
        return count
    }
    vfs.pointee.xCurrentTime = { _, time in
        time!.pointee = 2_460_000.5
        return SQLITE_OK
    }
    vfs.pointee.xCurrentTimeInt64 = { _, time in
        time!.pointee = 212_544_043_200_000
        return SQLITE_OK
    }
}

/// All randomness from now on follows from the seed.
func seedMachine(_ seed: UInt64) {
    randomness = SeededGenerator(seed: seed)
    // Makes SQLite draw a seed again.
    sqlite3_randomness(0, nil)
}
