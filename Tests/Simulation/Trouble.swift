// What befalls volumes: they fail, vanish, hang, get full, and bits of what they hold flip.

import BlockStore
import FaultInjection
import Glibc
import Journal
import Model
import Platform

@testable import EmbeddedFileService
@testable import Namespace

/// Calls on a volume that don't return for a while.
private final class Hang: @unchecked Sendable {
    var callsBefore: Int
    let duration: Duration
    /// What comes of the calls then; nil: they are carried out.
    var fault: Fault?
    var end: Duration?
    var isEnded = false

    init(callsBefore: Int, duration: Duration, fault: Fault?) {
        self.callsBefore = callsBefore
        self.duration = duration
        self.fault = fault
    }
}

/// What befalls the volumes of a history.
final class Trouble: @unchecked Sendable {
    private let world: World
    private let paths: [String]
    /// All volumes may get full; a full one counts as a bad one, so that nothing else befalls any.
    let isShortOfSpace: Bool
    private let flipsBits: Bool
    /// The volumes that things may befall.
    var bad: [Int]
    private var hangs: [Hang] = []
    /// Volumes that are none any more.
    private(set) var ruined: Set<Int> = []
    private var random: SeededGenerator

    init(_ world: World, _ paths: [String], bad: [Int], isShortOfSpace: Bool, flipsBits: Bool, seed: UInt64) {
        self.world = world
        self.paths = paths
        self.bad = bad
        self.isShortOfSpace = isShortOfSpace
        self.flipsBits = flipsBits
        random = SeededGenerator(seed: seed)
    }

    private func pick(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

    /// - Parameter mayHang: somebody sees to it that time passes.
    func inject(mayHang: Bool) {
        for volume in bad where pick(0..<2) == 0 {
            world.mayFail = true
            let path = paths[volume] + "/"
            let calls = pick(0..<150)
            switch pick(0..<(mayHang ? 6 : 4)) {
            case 0:
                world.note("\(path) will vanish")
                world.disk.inject(Fault(path, code: EIO, afterCalls: calls))
            case 1:
                world.note("\(path) vanishes")
                world.disk.disappear(path)
            case 4, 5: hang(path, afterCalls: calls)
            default:
                let operation: FileOperation? = [.write, .sync, .open, .read, .syncDirectory, .rename, nil][pick(0..<7)]
                let fault = Fault(
                    path, operation, code: EIO, afterCalls: calls, count: [1, 3, nil][pick(0..<3)],
                    writtenBytes: pick(0..<2) == 0 ? 0 : pick(0..<5000))
                world.note("\(path) will fail: \(fault)")
                world.disk.inject(fault)
            }
        }
        // A start that is to succeed needs room for the journal.
        if isShortOfSpace, pick(0..<2) == 0 { changeRoom(atLeast: mayHang ? 0 : 128 << 10) }
    }

    /// Some volumes get full, or have room again.
    func changeRoom(atLeast bytes: Int = 0) {
        for volume in isShortOfSpace ? Array(paths.indices) : bad where pick(0..<2) == 0 {
            let prefix = paths[volume] + "/"
            if pick(0..<2) == 0 {
                world.mayFail = true
                world.note("\(prefix) gets full")
                world.disk.setCapacity(world.disk.usedBytes(under: prefix) + bytes + pick(0..<40_000), under: prefix)
            } else {
                world.note("\(prefix) has room")
                world.disk.setCapacity(nil, under: prefix)
            }
        }
    }

    /// More volumes vanish than may, all at once, with all the bad ones among them: so nothing is written any more that would
    /// lack more blocks than it may. They come back with what they had.
    func loseTooMany(parityUnits: Int) {
        guard !isShortOfSpace else { return }
        let good = paths.indices.filter { !bad.contains($0) }.shuffled(using: &random)
        let lost = bad + good.prefix(pick(parityUnits + 1 - bad.count..<good.count + 1))
        world.mayFail = true
        world.note("\(lost.sorted()) vanish")
        for volume in lost { world.disk.disappear(paths[volume] + "/") }
    }

    /// The power goes when one of the next superblocks is replaced: between two of an epoch, mostly.
    func losePowerInEpoch(within renames: Int) {
        let disk = world.disk
        nonisolated(unsafe) var left = pick(0..<renames)
        for path in paths {
            disk.before(.rename, under: path + "/superblock") {
                left -= 1
                if left == -1 { disk.losePower(afterCalls: 0) }
            }
        }
    }

    // MARK: Hanging

    private func hang(_ path: String, afterCalls calls: Int) {
        let prefix = path + ["", "journal/"][pick(0..<2)]
        let operations: [FileOperation] = [
            [.write], [.sync], [.write, .sync],
            [.open, .remove, .rename, .syncDirectory, .read, .write, .sync, .truncate],
        ][pick(0..<4)]
        let fault = pick(0..<2) == 0 ? nil : Fault(prefix, code: EIO)
        let hang = Hang(callsBefore: calls / 3, duration: .seconds(pick(1..<[60, 200][pick(0..<2)])), fault: fault)
        hangs.append(hang)
        world.note("\(prefix) will hang: \(operations) for \(hang.duration)")
        let (world, disk) = (world, world.disk)
        for operation in operations {
            disk.before(operation, under: prefix) {
                hang.callsBefore -= 1
                guard hang.callsBefore < 0, !hang.isEnded else { return }
                if hang.end == nil {
                    hang.end = world.clock.time + hang.duration
                    world.note("\(prefix) hangs")
                }
                Simulator.shared.wait { hang.isEnded || !disk.hasPower || hang.end! <= world.clock.time }
                if !hang.isEnded { world.note("\(prefix) hangs no more") }
                hang.isEnded = true
                if let fault = hang.fault { disk.inject(fault) }
                hang.fault = nil
            }
        }
    }

    /// Nobody is to wait any more.
    func endHangs() {
        guard !hangs.isEmpty else { return }
        for hang in hangs { hang.isEnded = true }
        hangs = []
        world.disk.removeHooks()
    }

    // MARK: Flipped bits

    /// On a disk that nobody uses at the moment; or, as far as checksums cover each read of it, that is used.
    func flipBits(isUsed: Bool) {
        guard flipsBits else { return }
        for volume in bad where pick(0..<3) == 0 {
            let path = paths[volume]
            func files(_ directory: String) -> [String] {
                ((try? world.disk.list(path + directory)) ?? []).sorted().map { path + directory + $0 }
            }
            let choices =
                switch pick(0..<(isUsed ? 4 : 7)) {
                case 0..<2: world.disk.blockFiles(of: path)
                case 2..<4: files("/journal/")
                case 4..<6: files("/metadata/").filter { !$0.hasSuffix("-shm") }
                default: [path + "/superblock"]
                }
            guard let file = choices.randomElement(using: &random), let status = (try? world.disk.status(file)) ?? nil,
                status.size > 0
            else { continue }
            if file == path + "/superblock" { ruined.insert(volume) }
            for _ in 0..<pick(1..<4) {
                // What is at the beginning counts more than that it is a part of the whole.
                let offset = pick(0..<(pick(0..<2) == 0 ? Int(status.size) : min(Int(status.size), 9000)))
                world.note("a bit of \(file) flips at \(offset)")
                world.disk.flipBits(file, at: offset, mask: 1 << pick(0..<8))
            }
        }
    }

    // MARK: Other bad ones

    /// Volumes that something may have befallen since the beginning.
    private lazy var everBad = Set(bad)

    /// Whether nothing that is in the journal or the mirrors depends on any m volumes at this moment. Not asked is who is
    /// said to have the journal: that is to be found out.
    func isRedundant(parityUnits: Int) -> Bool {
        guard !isShortOfSpace, !flipsBits, let core = world.opened?.core, !core.failure.hasOccurred,
            core.journal?.usage.segmentsShortOfReplicas == 0
        else { return false }
        let healthy = Set(core.volumes.present.filter(\.isHealthy).map(\.id))
        let mirrors = Set(core.epochs.mirrorSet).intersection(core.namespace.mirrors.volumes)
        return mirrors.intersection(healthy).count > parityUnits
    }

    /// Other volumes are the bad ones from now on. To be called when `isRedundant`, just before an end: what befell the old
    /// ones they lack or have; what is in blocks must be in enough of those that nothing has befallen.
    func chooseOthers(count: Int, policy: ErasureCodingPolicy) {
        let others = Array(paths.indices.shuffled(using: &random).prefix(count))
        let suspects = everBad.union(others)
        var blocks: [BlockGroupID: Int] = [:]
        for (volume, path) in paths.enumerated() {
            for group in Set(world.disk.blockFiles(of: path).compactMap(group)) {
                blocks[group, default: 0] += suspects.contains(volume) ? 0 : 1
            }
        }
        guard blocks.values.allSatisfy({ $0 >= policy.dataUnits }) else { return }
        bad = others
        everBad = suspects
        world.note("bad ones from now on: \(bad)")
    }

    private func group(_ path: String) -> BlockGroupID? {
        let name = path.split(separator: "/").last ?? ""
        return Int64(name.dropFirst("blk_".count)).map { BlockID(rawValue: $0).group }
    }
}
