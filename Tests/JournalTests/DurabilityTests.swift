// What a power cut leaves of slots and of copies of segments, at the moments that matter.

import FaultInjection
import Glibc
import Model
import Platform
import Synchronization
import Testing

@testable import Journal

@Suite("Journal: durability of slots and copies")
struct DurabilityTests {
    /// What a disk may hold after a power cut at this moment.
    private func images(of disk: SimulatedFileSystem) -> [SimulatedFileSystem] {
        (0..<24).map { disk.crash(seed: $0) }
    }

    // MARK: Slots

    private static let slot = "/v0/journal/1.segment"
    private static let slotBytes = 40_000

    private func makeSlot(on disk: SimulatedFileSystem) throws {
        let volume = JournalVolume(
            id: VolumeID(rawValue: UniqueID(high: 7, low: 0)), directory: "/v0/journal", isUsable: { true },
            onFailure: { _ in })
        _ = try JournalDirectory(volume, disk).makeSlot(bytes: UInt64(Self.slotBytes), leaving: 0)
    }

    @Test("a slot that was made is there after a power cut, with all its bytes", arguments: 0..<24 as Range<UInt64>)
    func slotIsDurable(seed: UInt64) throws {
        for hasDirectory in [false, true] {
            let disk = SimulatedFileSystem(directories: ["/v0"])
            // By somebody who has not come so far as to make that durable.
            if hasDirectory { try disk.createDirectory("/v0/journal") }
            try makeSlot(on: disk)
            let image = disk.crash(seed: seed)
            #expect(image.content(of: Self.slot)?.count == Self.slotBytes, "seed \(seed), \(hasDirectory)")
        }
    }

    @Test("what has the name of a slot is whole, wherever the power goes while it is made")
    func slotIsWhole() throws {
        var calls = 0
        var isMade = false
        while !isMade {
            for seed in 0..<24 as Range<UInt64> {
                let disk = SimulatedFileSystem(directories: ["/v0"])
                disk.losePower(afterCalls: calls)
                do { try makeSlot(on: disk) } catch { #expect(!disk.hasPower, "\(error)") }
                isMade = disk.hasPower
                let count = disk.crash(seed: seed).content(of: Self.slot)?.count ?? Self.slotBytes
                #expect(count == Self.slotBytes, "\(calls) calls, seed \(seed)")
            }
            calls += 1
        }
        #expect(calls > 5)
    }

    // MARK: Copies

    /// A store whose first replica is gone, and three segments, of three groups each, that are to be copied from the second
    /// volume to the third.
    private func storeShortOfReplicas() async throws -> (TestStore, originals: [[UInt8]]) {
        let store = TestStore(segmentBytes: 32 << 10)
        try store.start()
        for index in 0..<9 { await store.append("\(index)", bytes: 6000) }
        store.disk.disappear("/v0/")
        // Too large for what is left of a segment.
        await store.append("after", bytes: 20_000)
        #expect(store.generation.volumes == [store.ids[1], store.ids[2]])
        #expect(store.journal!.usage.segmentsShortOfReplicas == 3)
        // Behind these come what was begun with the first replica, and the present one.
        return (store, Array(try segments(1, of: store.disk).prefix(3)))
    }

    /// Slots that hold something, as they are in memory.
    private func segments(_ volume: Int, of disk: SimulatedFileSystem) throws -> [[UInt8]] {
        let directory = "/v\(volume)/journal"
        return try disk.list(directory).filter { $0.hasSuffix(".segment") }.sorted()
            .compactMap { disk.content(of: directory + "/" + $0) }.filter { $0.contains { $0 != 0 } }
    }

    @Test("a copy of a segment counts as a replica when it is there after a power cut, from its first byte to its last")
    func copyIsDurable() async throws {
        let (store, originals) = try await storeShortOfReplicas()
        try await eventually("all are copied") {
            store.journal!.tick()
            return store.journal!.usage.segmentsShortOfReplicas == 0
        }
        for (seed, image) in images(of: store.disk).enumerated() {
            let copies = Set(try segments(2, of: image))
            let missing = originals.indices.filter { !copies.contains(originals[$0]) }
            #expect(missing == [], "seed \(seed)")
        }
        await store.close()
    }

    @Test("the header of a copy comes last: what has it after a power cut has everything")
    func headerComesLast() async throws {
        let (store, originals) = try await storeShortOfReplicas()
        let images = Mutex<[SimulatedFileSystem]>([])
        store.disk.observe(
            before: { _ in },
            after: { [disk = store.disk] call in
                // A group that begins a segment is written together with its header.
                guard call.operation == .write, call.offset == 0, call.bytes?.count == SegmentFormat.unit,
                    call.path.hasPrefix("/v2/journal/")
                else { return }
                images.withLock { if $0.isEmpty { $0 = self.images(of: disk) } }
            })
        try await eventually("the header of a copy is written") {
            store.journal!.tick()
            return images.withLock { !$0.isEmpty }
        }
        await store.close()
        var found = 0
        for (seed, image) in images.withLock({ $0 }).enumerated() {
            for copy in try segments(2, of: image) {
                for original in originals where original.prefix(SegmentFormat.unit) == copy.prefix(SegmentFormat.unit) {
                    found += 1
                    let isWhole = copy == original
                    #expect(isWhole, "seed \(seed)")
                }
            }
        }
        #expect(found > 0)
    }
}
