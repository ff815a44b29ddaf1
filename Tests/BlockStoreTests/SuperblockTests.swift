import BlockStore
import ErasureCoding
import FaultInjection
import Model
import Platform
import Testing

struct SuperblockTests {
    private let path = "/v/superblock"

    private func diskWithSuperblock(seed: UInt64) throws -> (SimulatedFileSystem, Superblock) {
        var random = SeededGenerator(seed: seed)
        let disk = SimulatedFileSystem(directories: ["/v"])
        let superblock = try makeSuperblock(using: &random)
        try superblock.write(volumeDirectory: "/v", fileSystem: disk)
        return (disk, superblock)
    }

    private func write(_ bytes: [UInt8], _ disk: SimulatedFileSystem) throws {
        try disk.remove(path)
        let file = try disk.open(path, .createNew)
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
    }

    @Test("what was written is read")
    func roundTrip() throws {
        for seed in 0..<50 as Range<UInt64> {
            let (disk, superblock) = try diskWithSuperblock(seed: seed)
            #expect(try Superblock.read(volumeDirectory: "/v", fileSystem: disk) == superblock)
        }
    }

    @Test("its first line tells a person what it is")
    func firstLine() throws {
        let (disk, _) = try diskWithSuperblock(seed: 1)
        #expect(disk.content(of: path)!.starts(with: Array("Sluice volume superblock\n".utf8)))
    }

    @Test("a missing file and a missing directory are told apart from damage")
    func missing() {
        let disk = SimulatedFileSystem(directories: ["/v"])
        for directory in ["/v", "/w"] {
            #expect(throws: SuperblockError.missing(path: directory + "/superblock")) {
                try Superblock.read(volumeDirectory: directory, fileSystem: disk)
            }
        }
    }

    @Test("any changed byte, any lost end and an added byte is damage")
    func damage() throws {
        let (disk, _) = try diskWithSuperblock(seed: 2)
        let whole = disk.content(of: path)!
        func expectDamage(_ what: String) {
            do {
                _ = try Superblock.read(volumeDirectory: "/v", fileSystem: disk)
                Issue.record("\(what) was not noticed")
            } catch {
                if case SuperblockError.damaged = error { return }
                Issue.record(error, "\(what)")
            }
        }
        for offset in whole.indices {
            disk.flipBits(path, at: offset, mask: 1 << (offset % 8))
            expectDamage("byte \(offset) changed")
            disk.flipBits(path, at: offset, mask: 1 << (offset % 8))
        }
        #expect((try? Superblock.read(volumeDirectory: "/v", fileSystem: disk)) != nil)
        try write(whole + [0], disk)
        expectDamage("a byte more")
        for count in whole.indices.reversed() {
            disk.truncate(path, to: count)
            expectDamage("cut to \(count)")
        }
    }

    @Test("another format version is named, whatever its fields are")
    func otherVersion() throws {
        let (disk, _) = try diskWithSuperblock(seed: 3)
        var bytes = Array(try #require(disk.content(of: path))[..<25])
        bytes += [0, 0, 0, 9, 0, 0, 0, 2, 1, 2]
        withUnsafeBytes(of: CRC32C.checksum(bytes).bigEndian) { bytes += Array($0) }
        try write(bytes, disk)
        #expect(throws: SuperblockError.otherFormatVersion(path: path, found: 9)) {
            try Superblock.read(volumeDirectory: "/v", fileSystem: disk)
        }
    }

    @Test("a mirror is named once, whatever it is made with or told")
    func repeatedMirrors() throws {
        let (_, superblock) = try diskWithSuperblock(seed: 5)
        let ids = superblock.registeredVolumes.map(\.id)
        var changed = superblock
        changed.mirrorSet = [ids[1], ids[0], ids[1], ids[1]]
        #expect(changed.mirrorSet == [ids[1], ids[0]])
        let made = Superblock(
            storeID: superblock.storeID, volumeID: ids[0], volumeIndex: 0, defaultPolicy: superblock.defaultPolicy,
            epoch: superblock.epoch, mirrorSet: [ids[0], ids[0]], journal: superblock.journal,
            registeredVolumes: superblock.registeredVolumes, handleKey: superblock.handleKey,
            createdAt: superblock.createdAt)
        #expect(made.mirrorSet == [ids[0]])
        var journal = JournalGeneration(
            epoch: superblock.epoch, volumes: [ids[1], ids[1]], firstNumber: superblock.journal.firstNumber)
        #expect(journal.volumes == [ids[1]])
        journal.volumes = [ids[0], ids[1], ids[0]]
        #expect(journal.volumes == [ids[0], ids[1]])
    }

    @Test("a journal that begins in a later epoch than the store's is damage")
    func laterJournal() throws {
        let (disk, superblock) = try diskWithSuperblock(seed: 7)
        var wrong = superblock
        wrong.journal.epoch = superblock.epoch.next
        try wrong.write(volumeDirectory: "/v", fileSystem: disk)
        #expect(throws: SuperblockError.damaged(path: path, reason: "its fields make no sense")) {
            try Superblock.read(volumeDirectory: "/v", fileSystem: disk)
        }
    }

    @Test(
        "a volume that is named twice on the disk, as a mirror, a replica or as registered, is damage under a right checksum"
    )
    func repeatedVolumes() throws {
        let (disk, superblock) = try diskWithSuperblock(seed: 5)
        let mirrors = superblock.mirrorSet
        #expect(mirrors.count == 3)
        let whole = try #require(disk.content(of: path))
        // Magic, version, length; then store, volume, index, policy's name, epoch, promise, number of mirrors.
        let firstMirror = 25 + 8 + 16 + 16 + 4 + (4 + superblock.defaultPolicy.description.utf8.count) + 8 + 8 + 4
        // The journal's epoch, number of replicas, these, and first number.
        let firstReplica = firstMirror + 16 * mirrors.count + 8 + 4
        let replicas = superblock.journal.volumes
        #expect(replicas.count == 3)
        // Number of volumes; each with its index and path.
        let firstVolume = firstReplica + 16 * replicas.count + 8 + 4
        let volumeBytes = 16 + 4 + 4 + superblock.registeredVolumes[0].lastKnownPath.utf8.count
        for (from, to) in [
            (firstMirror, firstMirror + 32), (firstReplica, firstReplica + 16),
            (firstVolume, firstVolume + volumeBytes),
        ] {
            var bytes = Array(whole.dropLast(4))
            bytes.replaceSubrange(to..<to + 16, with: bytes[from..<from + 16])
            withUnsafeBytes(of: CRC32C.checksum(bytes).bigEndian) { bytes += Array($0) }
            try write(bytes, disk)
            #expect(throws: SuperblockError.damaged(path: path, reason: "its fields make no sense")) {
                try Superblock.read(volumeDirectory: "/v", fileSystem: disk)
            }
        }
    }

    @Test("an epoch without a next one is damage")
    func lastEpoch() throws {
        let (disk, superblock) = try diskWithSuperblock(seed: 6)
        var last = superblock
        last.promisedEpoch = Epoch(rawValue: 1 << 63)
        try last.write(volumeDirectory: "/v", fileSystem: disk)
        #expect(throws: SuperblockError.self) { try Superblock.read(volumeDirectory: "/v", fileSystem: disk) }
    }

    @Test("is replaced with the one descriptor of the reserve when no other is left")
    func withoutDescriptors() throws {
        let (disk, superblock) = try diskWithSuperblock(seed: 7)
        var new = superblock
        new.promisedEpoch = superblock.promisedEpoch.next
        let reserve = DescriptorReserve(paths: [path], fileSystem: disk)
        reserve.fill()
        disk.maxOpenFiles = disk.openFileCount
        #expect(throws: IOError.self) { try new.write(volumeDirectory: "/v", fileSystem: disk) }
        for _ in 0..<3 {
            new.promisedEpoch = new.promisedEpoch.next
            try new.write(volumeDirectory: "/v", fileSystem: disk, reserve: reserve)
            #expect(reserve.isFull)
        }
        disk.maxOpenFiles = nil
        let after = disk.crash(seed: 1)
        #expect(try Superblock.read(volumeDirectory: "/v", fileSystem: after) == new)
    }

    @Test("with the power lost at any call of a rewrite, the old one or the new one is there")
    func atomicReplacement() throws {
        var seen: Set<Epoch> = []
        for calls in 0... {
            for seed in 0..<20 as Range<UInt64> {
                let (disk, old) = try diskWithSuperblock(seed: 4)
                var new = old
                new.epoch = old.epoch.next
                disk.losePower(afterCalls: calls)
                let isAcknowledged = (try? new.write(volumeDirectory: "/v", fileSystem: disk)) != nil
                let found = try Superblock.read(volumeDirectory: "/v", fileSystem: disk.crash(seed: seed))
                #expect(found == new || (found == old && !isAcknowledged), "\(calls) calls, seed \(seed)")
                seen.insert(found.epoch)
                if isAcknowledged, seed == 19 {
                    #expect(seen.count == 2)
                    return
                }
            }
        }
    }
}
