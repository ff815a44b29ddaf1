// What a start makes of the journal: the records that mirrors lack, and the payload that is not striped yet. Reads only.

internal import BlockStore
internal import Journal
internal import Model
internal import Namespace
internal import Platform

/// The log from where the mirrors are.
struct StoreRecovery {
    let journal: RecoveredJournal
    /// Those that some of `mirrors` lack, in order.
    let records: [MetadataRecord]
    let payloads: RecoveredPayloads
    /// Those of the inspection from which the log goes on, the one that is farthest first.
    let mirrors: [(location: MirrorLocation, position: MirrorPosition)]

    /// Throws what a person needs to know when the log is not whole.
    init(
        _ inspection: StoreInspection, _ volumes: [JournalVolume], _ fileSystem: FileSystem
    ) throws(StoreRefusal) {
        let superblock = inspection.superblock
        let lowest = inspection.mirrors.map(\.position.logNumber).min() ?? superblock.journal.firstNumber
        var records: [MetadataRecord] = []
        var scan = RecoveredPayloads.Scan()
        var damage: String?
        do throws(JournalRefusal) {
            journal = try IntentJournal.recover(
                volumes, generation: superblock.journal, storeID: superblock.storeID, fileSystem: fileSystem
            ) { entry in
                var record: MetadataRecord?
                if !entry.record.isEmpty {
                    do throws(CorruptMetadata) {
                        let decoded = try MetadataRecord(decoding: entry.record)
                        if decoded.number != entry.number { damage = damage ?? "\(entry.number): \(decoded.number)" }
                        if entry.number > lowest { records.append(decoded) }
                        record = decoded
                    } catch {
                        damage = damage ?? "\(entry.number): \(error)"
                    }
                }
                scan.visit(record, payloads: entry.payloads)
            }
        } catch {
            throw StoreRefusal(.stale, "\(error)\(inspection.missingInBrackets)")
        }
        // Its checksum was right, so this is no bad disk: it was written so.
        if let damage { throw StoreRefusal(.damaged, "a record of the journal cannot be understood: \(damage)") }

        let last = journal.lastNumber
        let first = journal.firstNumber ?? last.next
        mirrors = inspection.mirrors.filter { $0.position.logNumber.next >= first }
        guard let best = mirrors.first else {
            throw StoreRefusal(
                .stale,
                "the metadata end at record \(inspection.mirrors[0].position.logNumber), the journal begins at \(first)"
                    + inspection.missingInBrackets)
        }
        guard best.position.logNumber <= last else {
            throw StoreRefusal(
                .stale,
                "the metadata are at record \(best.position.logNumber), the journal ends at \(last)"
                    + inspection.missingInBrackets)
        }
        self.records = records
        payloads = RecoveredPayloads(scan)
    }
}

extension StoreInspection {
    /// For the end of a line.
    fileprivate var missingInBrackets: String {
        missing.isEmpty ? "" : "; missing: \(missing.joined(separator: ", "))"
    }
}

extension JournalVolume {
    /// The place for a replica on a volume of the store.
    init(_ volume: Volume) {
        self.init(
            id: volume.id, directory: volume.journalDirectory, isUsable: { volume.isHealthy },
            onFailure: { volume.fail(.inputOutput($0)) })
    }
}
