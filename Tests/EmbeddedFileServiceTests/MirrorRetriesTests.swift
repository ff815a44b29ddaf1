import Model
import Testing

@testable import EmbeddedFileService

@Suite("When a copy of the metadata is tried again")
struct MirrorRetriesTests {
    private let volumes = (0..<4).map { VolumeID(rawValue: UniqueID(high: 0, low: UInt64($0))) }

    @Test("volumes that never failed come first, in their order, then those that failed least often")
    func order() {
        var retries = MirrorRetries(mirrors: [])
        #expect(retries.next(of: volumes, at: .zero) == volumes[0])
        retries.failed(volumes[0], at: .zero)
        #expect(retries.next(of: volumes, at: .seconds(1)) == volumes[1])
        retries.failed(volumes[0], at: .seconds(1))
        retries.failed(volumes[1], at: .seconds(1))
        let later = Duration.seconds(100_000)
        #expect(retries.next(of: volumes, at: later) == volumes[2])
        #expect(retries.next(of: Array(volumes[..<2]), at: later) == volumes[1])
        #expect(retries.next(of: [volumes[0]], at: later) == volumes[0])
        #expect(retries.next(of: [], at: later) == nil)
    }

    @Test("a volume that failed waits for a minute, then twice as long each time, up to an hour, and is never barred")
    func backOff() {
        var retries = MirrorRetries(mirrors: [])
        var time = Duration.zero
        var waits: [Int64] = []
        for _ in 0..<80 {
            retries.failed(volumes[0], at: time)
            let failed = time
            // To the second.
            while retries.next(of: [volumes[0]], at: time) == nil, time - failed < .seconds(5000) {
                time += .seconds(1)
            }
            waits.append((time - failed).components.seconds)
        }
        #expect(waits[..<8] == [60, 120, 240, 480, 960, 1920, 3600, 3600])
        #expect(waits[8...].allSatisfy { $0 == 3600 })
    }

    @Test("failures in a row, on whatever volumes, make a pause that grows to a minute, and ends with a success")
    func pause() {
        var retries = MirrorRetries(mirrors: [])
        var time = Duration.zero
        var pauses: [Int64] = []
        for number in 0..<100 {
            // Always another volume, so that none has to wait for itself.
            let volume = VolumeID(rawValue: UniqueID(high: 1, low: UInt64(number)))
            #expect(retries.next(of: [volume], at: time) == volume)
            retries.failed(volume, at: time)
            let failed = time
            while retries.isPaused(at: time), time - failed < .seconds(5000) {
                #expect(retries.next(of: [volumes[0]], at: time) == nil)
                time += .seconds(1)
            }
            pauses.append((time - failed).components.seconds)
        }
        #expect(pauses[..<8] == [1, 2, 4, 8, 16, 32, 60, 60] && pauses[8...].allSatisfy { $0 == 60 })
        retries.failed(at: time)
        #expect(retries.isPaused(at: time + .seconds(59)))
        retries.succeeded(volumes[0])
        #expect(!retries.isPaused(at: time))
        retries.failed(at: time)
        #expect(!retries.isPaused(at: time + .seconds(1)))
    }

    @Test("a volume whose mirror is gone waits, too, but holds up no other; one that has its mirror doesn't")
    func lost() {
        var retries = MirrorRetries(mirrors: [volumes[0], volumes[1]])
        retries.see(mirrors: [volumes[0]], at: .seconds(5))
        #expect(!retries.isPaused(at: .seconds(5)))
        #expect(retries.next(of: [volumes[1], volumes[2]], at: .seconds(5)) == volumes[2])
        #expect(retries.next(of: [volumes[1]], at: .seconds(64)) == nil)
        #expect(retries.next(of: [volumes[1]], at: .seconds(65)) == volumes[1])
        retries.succeeded(volumes[1])
        retries.see(mirrors: [volumes[0], volumes[1]], at: .seconds(66))
        // It fails again: longer this time.
        retries.see(mirrors: [volumes[0]], at: .seconds(70))
        #expect(retries.next(of: [volumes[1]], at: .seconds(189)) == nil)
        #expect(retries.next(of: [volumes[1]], at: .seconds(190)) == volumes[1])
        // What was noted once is not noted again.
        retries.see(mirrors: [volumes[0]], at: .seconds(190))
        #expect(retries.next(of: [volumes[1]], at: .seconds(190)) == volumes[1])
        // A copy that could not be recorded counts once.
        retries.failed(volumes[2], at: .seconds(200))
        retries.see(mirrors: [volumes[0]], at: .seconds(201))
        #expect(retries.next(of: [volumes[2]], at: .seconds(260)) == volumes[2])
    }
}
