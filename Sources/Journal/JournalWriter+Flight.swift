// From a group to all replicas, whatever fails on the way. See JournalWriter.swift.

internal import Glibc
internal import Model
internal import Platform
internal import Synchronization

extension JournalWriter {
    /// A group on its way.
    struct Flight {
        enum Stage {
            case placing
            /// Slots for a new segment.
            case obtaining(volumes: [VolumeID], slots: [VolumeID: Slot], isNewGeneration: Bool)
            case writing(GroupHeader)
        }

        let items: [Item]
        var stage = Stage.placing
        /// Since when the stage's replicas have been at it.
        var since = Duration.zero
        /// Those that have not ended yet.
        var pending: [VolumeID] = []
        /// What ends belongs to this attempt, or is too late.
        var attempt = 0
        /// Where there was no room, which says nothing of their health.
        var withoutRoom: Set<VolumeID> = []
        /// Everything was tried that leaves the room that should be left.
        var isLastResort = false
        var beganSegment = false
        /// Slots with what no durable group will ever follow: they are used again when the flight has landed.
        var abandoned: [Slot] = []

        init(items: [Item]) { self.items = items }
    }

    func directory(_ id: VolumeID) -> JournalDirectory? { directories.first { $0.id == id } }

    // MARK: A place

    /// Finds a place for the flight's group.
    func place() {
        let areUsable = generation.volumes.allSatisfy { directory($0)?.isUsable == true }
        if areUsable, let current, UInt64(buffer.groupBytes) <= current.segment.slotBytes - current.position {
            return write()
        }
        if isInPlaceOfThread { return leaveToThread { $0.place() } }
        guard areUsable else { return changeReplicas() }
        obtainSlots(generation.volumes, isNewGeneration: false)
    }

    /// Goes on without those that failed or have no room.
    func changeReplicas() {
        guard var flight else { preconditionFailure("no flight") }
        let chosen = IntentJournal.chooseReplicas(
            directories.map(\.volume), preferred: generation.volumes,
            avoided: directories.filter { $0.isDropped || flight.withoutRoom.contains($0.id) }.map(\.id),
            count: replicaCount)
        if chosen.count < replicaCount {
            guard flight.isLastResort else {
                // What is to be freed is freed by what is appended: now the room that is left to others is taken.
                flight.isLastResort = true
                flight.withoutRoom = []
                self.flight = flight
                return changeReplicas()
            }
            return giveUp("of \(replicaCount) volumes that it needs only \(chosen.count) can be written")
        }
        obtainSlots(chosen, isNewGeneration: Set(chosen) != Set(generation.volumes))
    }

    /// The flight finds no place. That nobody waits for anybody is no reason to fail.
    private func giveUp(_ reason: String) {
        guard let flight else { preconditionFailure("no flight") }
        guard flight.items.isEmpty else { return fail(reason) }
        self.flight = nil
        for slot in flight.abandoned { release(slot) }
        pump()
    }

    private func begin(_ stage: Flight.Stage, pending: [VolumeID]) -> Int {
        lastAttempt += 1
        flight?.attempt = lastAttempt
        flight?.stage = stage
        flight?.since = clock.elapsed()
        flight?.pending = pending
        return lastAttempt
    }

    // MARK: Slots

    private func obtainSlots(_ volumes: [VolumeID], isNewGeneration: Bool) {
        let bytes = UInt64(max(bounds.segmentBytes, SegmentFormat.unit + buffer.groupBytes))
        let minFreeBytes = flight?.isLastResort == true ? 0 : bounds.minFreeBytes
        let attempt = begin(
            .obtaining(volumes: volumes, slots: [:], isNewGeneration: isNewGeneration), pending: volumes)
        for id in volumes {
            guard let directory = directory(id) else { preconditionFailure("chosen of those that are there") }
            directory.obtainSlot(bytes: bytes, leaving: minFreeBytes) { [self] result in
                thread.submit { [self] in obtained(result, of: directory, attempt) }
            }
        }
    }

    private func obtained(_ result: Result<Slot, IOError>, of directory: JournalDirectory, _ attempt: Int) {
        guard let flight, flight.attempt == attempt, flight.pending.contains(directory.id),
            case .obtaining(let volumes, var slots, let isNewGeneration) = flight.stage
        else {
            // Too late. If it is dropped, nothing of it is used again.
            if case .success(let slot) = result { release(slot) }
            return
        }
        self.flight?.pending.removeAll { $0 == directory.id }
        switch result {
        case .success(let slot):
            slots[directory.id] = slot
            self.flight?.stage = .obtaining(volumes: volumes, slots: slots, isNewGeneration: isNewGeneration)
        case .failure(let error): exclude(directory, error)
        }
        continueIfAllEnded()
    }

    /// A volume is left out: for now for lack of room, for good after an error.
    private func exclude(_ directory: JournalDirectory, _ error: IOError) {
        if error.isOutOfSpace || error.isShortage {
            flight?.withoutRoom.insert(directory.id)
        } else {
            drop(directory, error)
        }
    }

    func drop(_ directory: JournalDirectory, _ error: IOError, hangs: Bool = false) {
        guard directory.drop(after: error, hangs: hangs) else { return }
        shared.withLock { $0.usage.failedReplicas += 1 }
        publish()
    }

    private func continueIfAllEnded() {
        guard let flight, flight.pending.isEmpty else { return }
        switch flight.stage {
        case .placing: break
        case .obtaining(let volumes, let slots, let isNewGeneration):
            let good = volumes.compactMap { slots[$0] }.filter { $0.directory.isUsable }
            guard good.count == volumes.count else {
                for slot in slots.values { release(slot) }
                return changeReplicas()
            }
            beginSegment(good, isNewGeneration: isNewGeneration)
        case .writing(let header):
            guard let current else { preconditionFailure("written where?") }
            let isEverywhere = current.slots.allSatisfy {
                !$0.directory.isDropped && !flight.withoutRoom.contains($0.directory.id)
            }
            if isEverywhere { return flightLanded(header) }
            if isInPlaceOfThread { return leaveToThread { $0.continueIfAllEnded() } }
            leaveSegment()
            changeReplicas()
        }
    }

    // MARK: Segments

    private func beginSegment(_ slots: [Slot], isNewGeneration: Bool) {
        mayCallOut()
        if isNewGeneration {
            let volumes = slots.map(\.directory.id)
            guard let begun = callbacks.beginGeneration(volumes, nextNumber) else {
                return fail("no new epoch could be begun")
            }
            guard begun.epoch > generation.epoch, Set(begun.volumes) == Set(volumes), begun.firstNumber == nextNumber
            else { return fail("epoch \(begun.epoch) is not what was asked for") }
            generation = begun
        }
        let identity = SegmentIdentity(epoch: generation.epoch, number: nextSegment)
        nextSegment += 1
        // It counts also where its first group doesn't.
        let oldestLive = oldestLive(before: nextNumber) ?? identity.number
        let header = SegmentHeader(identity: identity, firstNumber: nextNumber, oldestLive: oldestLive)
        let segment = Segment(
            header, storeID, slotBytes: slots.map(\.size).min() ?? 0,
            replicas: slots.map { Segment.Replica(slot: $0, isComplete: true) })
        watch(segment)
        segments.append(segment)
        current = Current(segment: segment, slots: slots, position: UInt64(SegmentFormat.unit))
        buffer.put(header)
        flight?.beganSegment = true
        write()
    }

    /// After a write to it has failed, nothing more comes into the current segment.
    private func leaveSegment() {
        guard let current else { return }
        self.current = nil
        for slot in current.slots
        where !slot.directory.isUsable || flight?.withoutRoom.contains(slot.directory.id) == true {
            // All that was answered is in it; but who knows what is after the failure.
            current.segment.setComplete(slot, false)
        }
        guard !current.segment.hasGroups else { return }
        // Nothing that counts.
        segments.removeAll { $0 === current.segment }
        flight?.abandoned += current.slots
    }

    private func write() {
        guard let current, flight != nil else { preconditionFailure("write what, and where?") }
        let segment = current.segment
        let header = buffer.address(
            to: segment.identity, position: current.position,
            oldestLive: oldestLive(before: buffer.nextNumber) ?? segment.number)
        let isFirst = current.position == UInt64(SegmentFormat.unit)
        let range = GroupBuffer.range(groupBytes: header.byteCount, withSegmentHeader: isFirst)
        let offset = isFirst ? 0 : current.position
        let memory = buffer.memory
        let attempt = begin(.writing(header), pending: current.slots.map(\.directory.id))
        for slot in current.slots {
            slot.directory.submit(.write) { [self] in
                var failure: IOError?
                do throws(IOError) {
                    try slot.file.write(UnsafeRawBufferPointer(rebasing: memory.bytes[range]), at: offset)
                    try slot.file.sync()
                } catch {
                    failure = error
                }
                if failure == nil,
                    thread.runIfIdle({ inPlaceOfThread { written(slot.directory, nil, attempt) } })
                {
                    return
                }
                thread.submit { [self, failure] in written(slot.directory, failure, attempt) }
            }
        }
    }

    private func written(_ directory: JournalDirectory, _ failure: IOError?, _ attempt: Int) {
        guard let flight, flight.attempt == attempt, flight.pending.contains(directory.id) else { return }
        self.flight?.pending.removeAll { $0 == directory.id }
        if let failure { exclude(directory, failure) }
        continueIfAllEnded()
    }

    // MARK: Patience

    /// Drops the replicas that the flight has waited for too long.
    func dropHangingReplicas() {
        guard let flight, !flight.pending.isEmpty, clock.elapsed() - flight.since > bounds.patience else { return }
        for id in flight.pending {
            guard let directory = directory(id) else { continue }
            drop(
                directory, IOError(code: ETIMEDOUT, operation: "write of the journal", path: directory.path),
                hangs: true)
        }
        buffer.leaveMemory()
        self.flight?.pending = []
        continueIfAllEnded()
    }
}
