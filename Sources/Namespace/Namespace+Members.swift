// Changing the set of mirrors while the namespace is in use. All of it runs on the applier's thread, between two
// batches; bodies go on meanwhile.

public import Model
internal import Platform

extension Namespace {
    /// Copies the state to a new mirror, in place of whatever is there, and makes it one of the mirrors.
    ///
    /// When this returns, everything that the log need not keep is on the mirror, and `record` has said that it counts
    /// as one. If this throws it is none; a copy that failed has left nothing behind that wasn't there before.
    /// - Parameter record: is given all mirrors, the new one included, on the applier's thread, so that no failure is
    ///   told of between the copy and its record: the place to write down, durably, which those are. It may
    ///   block. Returns whether the new one is recorded; if not, it is given up and `onMirrorFailure` is told.
    public func addMirror(
        _ location: MirrorLocation, record: @escaping @Sendable (_ mirrors: [VolumeID]) -> Bool
    ) async throws(NamespaceError) {
        try await onApplier { [self] () throws(NamespaceError) in
            guard !mirrors.volumes.contains(location.volume) else {
                throw .inputOutput("\(location.path) is a mirror already")
            }
            try applier.level()
            try mirrors.add(try mirrors.copy(to: location, fileSystem), record: record)
        }
    }

    /// Gives up the mirror on a volume that has failed, if there is one; `onMirrorFailure` is told as of any other.
    public func dropMirror(on volume: VolumeID) async throws(NamespaceError) {
        try await onApplier { [self] () throws(NamespaceError) in
            try mirrors.giveUp(volume, because: "its volume has failed")
        }
    }

    /// The volumes whose mirrors are in use; throws when nothing works any more.
    public func mirrorVolumes() async throws(NamespaceError) -> [VolumeID] {
        try await withMirrors { $0 }
    }

    /// Runs `body` with the volumes whose mirrors are in use, on the applier's thread, so that no failure is told of
    /// until it returns. It may block. Throws when nothing works any more.
    public func withMirrors<Value: Sendable>(
        _ body: @escaping @Sendable (_ mirrors: [VolumeID]) -> Value
    ) async throws(NamespaceError) -> Value {
        try await onApplier { [self] () throws(NamespaceError) in
            try mirrors.tellFailures()
            return body(mirrors.volumes)
        }
    }

    /// Applies everything that is durable by now to the mirrors. For tests.
    func applyNow() async throws(NamespaceError) {
        try await onApplier { [self] () throws(NamespaceError) in try applier.applyAll() }
    }

    private func onApplier<Value: Sendable>(
        _ body: @escaping @Sendable () throws(NamespaceError) -> Value
    ) async throws(NamespaceError) -> Value {
        guard !isClosed else { throw .closed }
        let result = await applier.thread.runUnlessStopped { () -> Result<Value, NamespaceError> in
            do throws(NamespaceError) {
                return .success(try body())
            } catch {
                return .failure(error)
            }
        }
        guard let result else { throw .closed }
        return try result.get()
    }
}
