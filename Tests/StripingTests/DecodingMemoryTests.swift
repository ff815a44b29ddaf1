import Synchronization
import Testing

@testable import Striping

/// Bytes that are held, and the most that ever were.
private final class Seen: Sendable {
    private let state = Mutex((now: 0, highest: 0))

    func change(by bytes: Int) {
        state.withLock { state in
            state.now += bytes
            state.highest = max(state.highest, state.now)
        }
    }

    var highest: Int { state.withLock { $0.highest } }
}

@Suite("The memory of readers that decode")
struct DecodingMemoryTests {
    @Test("is never exceeded, and who waits is served")
    func bounded() async {
        let memory = DecodingMemory(capacity: 100)
        let seen = Seen()
        await withTaskGroup(of: Void.self) { tasks in
            for index in 0..<200 {
                tasks.addTask {
                    let bytes = [1, 30, 60, 1000][index % 4]
                    await memory.with(bytes) {
                        seen.change(by: min(bytes, 100))
                        await Task.yield()
                        seen.change(by: -min(bytes, 100))
                    }
                }
            }
        }
        #expect(seen.highest <= 100)
        #expect(memory.used == 0)
    }
}
