// What a simulation puts in place of threads. Code that runs on `WorkThread`s, and waits for others only with what is in
// this file, runs under it unchanged: one piece of work at a time, in an order that a seed decides.
//
// Threads are the rule: without a scheduler nothing here costs more than a look at a constant.

/// Runs the work of all `WorkThread`s; a simulation overrides every method. All of them are called by work that it runs.
open class ThreadScheduler: @unchecked Sendable {
    /// Set before the first `WorkThread` is made, and never changed.
    public nonisolated(unsafe) private(set) static var installed: ThreadScheduler?

    public init() {}

    public final func install() {
        precondition(Self.installed == nil)
        Self.installed = self
    }

    /// A line of work that is run one piece after another; in place of a thread.
    open func makeLane(name: String) -> Int { fatalError("to be overridden") }

    /// Adds a piece of work to a lane; with nil, to none: it runs at any time.
    open func submit(_ work: @escaping @Sendable () -> Void, to lane: Int?) { fatalError("to be overridden") }

    /// Runs other work until all that was submitted to the lane has run, and forgets the lane.
    open func finish(lane: Int) { fatalError("to be overridden") }

    /// Runs other work until `condition` holds. It changes nothing, and may be called at any time.
    open func wait(until condition: @escaping () -> Bool) { fatalError("to be overridden") }

    /// Runs other work, or doesn't.
    open func interrupt() { fatalError("to be overridden") }
}

/// Stands where it matters that others may come in between, as they may anywhere on threads. No lock may be held.
public func interruption() { ThreadScheduler.installed?.interrupt() }

/// Like `Task.yield`, which goes past a scheduler.
public func yieldToOthers() async {
    guard let scheduler = ThreadScheduler.installed else { return await Task.yield() }
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
        scheduler.submit({ continuation.resume() }, to: nil)
    }
}
