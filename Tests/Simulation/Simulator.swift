// Runs everything that would run on threads: the work of `WorkThread`s and the jobs of Swift's tasks, one piece at a time,
// the next one always chosen by the seed. So a history is a function of its seed.
//
// One thread runs at a time: the one that has the baton. It runs pieces of work until one of them has to wait; then another
// thread gets the baton and goes on choosing, and the first gets it back when it is chosen and what it waits for is so.
// Stacks of waiting work are independent this way: none has to wait until another, which came later, has returned.
//
// No locks: all state belongs to who has the baton.

import FaultInjection
import Glibc
import Platform

final class Simulator: ThreadScheduler, @unchecked Sendable {
    static let shared = Simulator()

    private struct Lane {
        let name: String
        /// Chosen more seldom than others: a slow disk.
        let isSlow: Bool
        /// nil: run. Nothing is destroyed while the lanes are changed, as that may submit work.
        var work: [(@Sendable () -> Void)?] = []
        var next = 0
        var isRunning = false
        var isEmpty: Bool { next == work.count }
    }

    private enum Job {
        case task(UnownedJob)
        case work(@Sendable () -> Void)
    }

    /// Work that waits, on its own thread.
    private final class Waiter {
        let condition: () -> Bool
        let parking = Parking()
        init(_ condition: @escaping () -> Bool) { self.condition = condition }
    }

    private var lanes: [Lane] = []
    /// Lanes that have work of which none is running.
    private var readyLanes: [Int] = []
    private var jobs: [Job] = []
    private var waiters: [Waiter] = []
    /// Threads that have nothing to do.
    private var idle: [Parking] = []
    private var owner = pthread_self()
    private var random = SeededGenerator(seed: 0)
    private var isDone = false
    private var main = Parking()

    /// Pieces of work since the history began.
    private(set) var steps = 0
    /// A call of the file system lets others run once in so many times; 0: never.
    var callsPerTurn = 0
    /// The same for interruptions.
    var interruptionsPerTurn = 0
    /// Called when nobody can go on, or it doesn't end: with why. Must not return.
    var onStuck: (String) -> Never = { fatalError($0) }

    private static let maxSteps = 4_000_000

    // MARK: Histories

    /// Runs `body` as a task to its end, and all that it has left running.
    func run(seed: UInt64, _ body: @escaping @Sendable () async -> Void) {
        random = SeededGenerator(seed: seed)
        lanes = []
        isDone = false
        steps = 0
        owner = pthread_self()
        Task.detached {
            await body()
            self.isDone = true
        }
        loop(main)
    }

    /// Chooses and runs work; on the main thread until all is done, on others for ever.
    private func loop(_ me: Parking) {
        while true {
            let ready = waiters.isEmpty ? [] : waiters.indices.filter { waiters[$0].condition() }
            let count = readyLanes.count + jobs.count + ready.count
            if count == 0 {
                guard isDone, waiters.isEmpty else { onStuck("nobody can go on\(waitingLanes)") }
                if me === main { return }
                idle.removeAll { $0 === main }
                pass(from: me, to: main)
                continue
            }
            steps += 1
            if steps > Self.maxSteps { onStuck("it doesn't end\(waitingLanes)") }
            var choice = Int.random(in: 0..<count, using: &random)
            if choice < readyLanes.count, lanes[readyLanes[choice]].isSlow, random.next() & 7 != 0 {
                choice = Int.random(in: 0..<count, using: &random)
            }
            if choice < readyLanes.count {
                runLane(at: choice)
            } else if choice < readyLanes.count + jobs.count {
                runJob(at: choice - readyLanes.count)
            } else {
                let waiter = waiters.remove(at: ready[choice - readyLanes.count - jobs.count])
                pass(from: me, to: waiter.parking)
            }
        }
    }

    private var waitingLanes: String {
        lanes.filter { $0.isRunning || !$0.isEmpty }.map { ", \($0.name) \($0.isRunning ? "is at work" : "has work")" }
            .joined()
    }

    private func runLane(at index: Int) {
        let lane = readyLanes[index]
        readyLanes.swapAt(index, readyLanes.count - 1)
        readyLanes.removeLast()
        var work: (@Sendable () -> Void)?
        swap(&work, &lanes[lane].work[lanes[lane].next])
        lanes[lane].next += 1
        if lanes[lane].isEmpty {
            lanes[lane].work.removeAll(keepingCapacity: true)
            lanes[lane].next = 0
        }
        lanes[lane].isRunning = true
        work?()
        work = nil
        lanes[lane].isRunning = false
        if !lanes[lane].isEmpty { readyLanes.append(lane) }
    }

    private func runJob(at index: Int) {
        jobs.swapAt(index, jobs.count - 1)
        switch jobs.removeLast() {
        case .task(let job): runTaskJob(job, noExecutor)
        case .work(let work): work()
        }
    }

    // MARK: The baton

    /// A place where a thread waits for the baton.
    private final class Parking {
        private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

        init() { sem_init(semaphore, 0, 0) }

        deinit {
            sem_destroy(semaphore)
            semaphore.deallocate()
        }

        func wake() { sem_post(semaphore) }

        func wait() { while sem_wait(semaphore) != 0 { precondition(errno == EINTR) } }
    }

    /// Gives the baton away, and returns when it is given back.
    private func pass(from me: Parking, to other: Parking) {
        idle.append(me)
        other.wake()
        me.wait()
        owner = pthread_self()
    }

    private final class NewThread {
        let simulator: Simulator
        init(_ simulator: Simulator) { self.simulator = simulator }

        func run() {
            simulator.owner = pthread_self()
            simulator.loop(Parking())
        }
    }

    private func startThread() {
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<NewThread>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(NewThread(self)).toOpaque())
        precondition(code == 0, "cannot make a thread")
        pthread_detach(thread)
    }

    /// Whoever has no baton is somebody whom the simulation does not know of, and breaks it.
    private func needBaton() {
        guard pthread_equal(pthread_self(), owner) != 0 else { fatalError("a thread that is not the simulator's") }
    }

    // MARK: What work asks for

    override func makeLane(name: String) -> Int {
        needBaton()
        lanes.append(Lane(name: name, isSlow: random.next() & 7 == 0))
        return lanes.count - 1
    }

    override func submit(_ work: @escaping @Sendable () -> Void, to lane: Int?) {
        needBaton()
        guard let lane else {
            jobs.append(.work(work))
            return
        }
        if lanes[lane].isEmpty, !lanes[lane].isRunning { readyLanes.append(lane) }
        lanes[lane].work.append(work)
    }

    override func finish(lane: Int) {
        wait { [self] in lanes[lane].isEmpty && !lanes[lane].isRunning }
    }

    override func wait(until condition: @escaping () -> Bool) {
        needBaton()
        if condition() { return }
        letOthersRun(until: condition)
    }

    private func letOthersRun(until condition: @escaping () -> Bool) {
        let waiter = Waiter(condition)
        waiters.append(waiter)
        if let other = idle.popLast() { other.wake() } else { startThread() }
        waiter.parking.wait()
        owner = pthread_self()
    }

    override func interrupt() { letOthersRun(onceIn: interruptionsPerTurn) }

    /// Before a call of the file system.
    func beforeCall() { letOthersRun(onceIn: callsPerTurn) }

    private func letOthersRun(onceIn count: Int) {
        guard count > 0, random.next() % UInt64(count) == 0, readyLanes.count + jobs.count > 0 else { return }
        needBaton()
        letOthersRun { true }
    }

    /// A job of Swift's runtime.
    func add(_ job: UnownedJob) {
        needBaton()
        jobs.append(.task(job))
    }
}
