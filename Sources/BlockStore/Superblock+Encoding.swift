// The bytes of a superblock, all numbers big-endian:
//
//     "Sluice volume superblock\n"    so that `head -1` tells a person what it is
//     format version  4
//     length of body  4
//     body            fields in the order of `Superblock`, strings and lists with a 32-bit count
//     CRC32C          4               of everything before
//
// Magic, version, length and checksum stay where they are in later versions, so that an old program can
// tell a newer volume from a damaged one.

internal import ErasureCoding
internal import Model

extension Superblock {
    private static let magic = Array("Sluice volume superblock\n".utf8)

    func encoded() -> [UInt8] {
        var body = ByteWriter()
        body.put(storeID.rawValue)
        body.put(volumeID.rawValue)
        body.put(UInt32(volumeIndex))
        body.put(defaultPolicy.description)
        body.put(epoch.rawValue)
        body.put(promisedEpoch.rawValue)
        body.put(UInt32(mirrorSet.count))
        for volume in mirrorSet { body.put(volume.rawValue) }
        body.put(journal.epoch.rawValue)
        body.put(UInt32(journal.volumes.count))
        for volume in journal.volumes { body.put(volume.rawValue) }
        body.put(journal.firstNumber.rawValue)
        body.put(UInt32(registeredVolumes.count))
        for volume in registeredVolumes {
            body.put(volume.id.rawValue)
            body.put(UInt32(volume.index))
            body.put(volume.lastKnownPath)
        }
        body.put(handleKey.k0)
        body.put(handleKey.k1)
        body.put(UInt64(bitPattern: createdAt.seconds))
        body.put(createdAt.nanoseconds)

        var all = ByteWriter()
        all.bytes = Self.magic
        all.put(Self.formatVersion)
        all.put(UInt32(body.bytes.count))
        all.bytes += body.bytes
        all.put(CRC32C.checksum(all.bytes))
        return all.bytes
    }

    /// - Parameter path: for the error.
    init(encoded bytes: [UInt8], path: String) throws(SuperblockError) {
        guard bytes.starts(with: Self.magic) else {
            throw .damaged(path: path, reason: "its first line is not that of a superblock")
        }
        var reader = ByteReader(bytes: bytes[Self.magic.count...])
        let version: UInt32
        let body: ArraySlice<UInt8>
        do throws(ByteReader.Truncated) {
            version = try reader.number()
            body = try reader.take(Int(try reader.number() as UInt32))
            let covered = bytes.prefix(body.endIndex)
            guard try reader.number() == CRC32C.checksum(Array(covered)), reader.isAtEnd else {
                throw ByteReader.Truncated()
            }
        } catch {
            throw .damaged(path: path, reason: "its checksum is wrong")
        }
        guard version == Self.formatVersion else { throw .otherFormatVersion(path: path, found: version) }
        do throws(ByteReader.Truncated) {
            try self.init(body: body)
        } catch {
            throw .damaged(path: path, reason: "its fields make no sense")
        }
    }

    private init(body: ArraySlice<UInt8>) throws(ByteReader.Truncated) {
        var reader = ByteReader(bytes: body)
        storeID = StoreID(rawValue: try reader.uniqueID())
        volumeID = VolumeID(rawValue: try reader.uniqueID())
        volumeIndex = Int(try reader.number() as UInt32)
        guard let policy = try? ErasureCodingPolicy(reader.string()) else { throw ByteReader.Truncated() }
        defaultPolicy = policy
        epoch = Epoch(rawValue: try reader.number())
        promisedEpoch = Epoch(rawValue: try reader.number())
        let mirrors = try reader.volumes()
        mirrorSet = mirrors
        let journalEpoch = Epoch(rawValue: try reader.number())
        let replicas = try reader.volumes()
        journal = JournalGeneration(
            epoch: journalEpoch, volumes: replicas, firstNumber: LogNumber(rawValue: try reader.number()))
        registeredVolumes = []
        for _ in 0..<(try reader.number() as UInt32) {
            registeredVolumes.append(
                RegisteredVolume(
                    id: VolumeID(rawValue: try reader.uniqueID()), index: Int(try reader.number() as UInt32),
                    lastKnownPath: try reader.string()))
        }
        handleKey = HandleKey(k0: try reader.number(), k1: try reader.number())
        let seconds = Int64(bitPattern: try reader.number())
        let nanoseconds: UInt32 = try reader.number()
        guard nanoseconds < 1_000_000_000, reader.isAtEnd else { throw ByteReader.Truncated() }
        // A volume that is named twice would count twice, as a mirror or for the quorum of a start. And there must be a
        // next epoch.
        guard Set(mirrors).count == mirrors.count, Set(replicas).count == replicas.count, journalEpoch <= epoch,
            (1...UInt64(Int64.max)).contains(journal.firstNumber.rawValue),
            Set(registeredVolumes.map(\.id)).count == registeredVolumes.count,
            max(epoch, promisedEpoch).rawValue <= UInt64(Int64.max), volumeIndex < Limits.maxVolumes
        else { throw ByteReader.Truncated() }
        createdAt = Timestamp(seconds: seconds, nanoseconds: nanoseconds)
    }
}

private struct ByteWriter {
    var bytes: [UInt8] = []

    mutating func put(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.bigEndian) { bytes += $0 }
    }

    mutating func put(_ id: UniqueID) {
        put(id.high)
        put(id.low)
    }

    mutating func put(_ text: String) {
        put(UInt32(text.utf8.count))
        bytes += text.utf8
    }
}

private struct ByteReader {
    /// More was asked for than is there, or what is there makes no sense.
    struct Truncated: Error {}

    var bytes: ArraySlice<UInt8>

    var isAtEnd: Bool { bytes.isEmpty }

    mutating func take(_ count: Int) throws(Truncated) -> ArraySlice<UInt8> {
        guard count <= bytes.count else { throw Truncated() }
        defer { bytes = bytes.dropFirst(count) }
        return bytes.prefix(count)
    }

    mutating func number<Number: FixedWidthInteger>() throws(Truncated) -> Number {
        try take(Number.bitWidth / 8).reduce(0) { $0 << 8 | Number($1) }
    }

    mutating func uniqueID() throws(Truncated) -> UniqueID {
        UniqueID(high: try number(), low: try number())
    }

    mutating func volumes() throws(Truncated) -> [VolumeID] {
        var volumes: [VolumeID] = []
        for _ in 0..<(try number() as UInt32) { volumes.append(VolumeID(rawValue: try uniqueID())) }
        return volumes
    }

    mutating func string() throws(Truncated) -> String {
        String(decoding: try take(Int(try number() as UInt32)), as: UTF8.self)
    }
}
