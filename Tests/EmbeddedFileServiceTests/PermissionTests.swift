// Who may do what with names, beyond what the property tests cover, which know one user.

import FileService
import Model
import Testing

@testable import EmbeddedFileService

@Suite("Permissions", .timeLimit(.minutes(10)))
struct PermissionTests {
    private let store: SimulatedStore

    init() async throws {
        store = try SimulatedStore()
        try await store.open()
    }

    /// Linux and the BSDs: the entry ".." of a directory that moves to another parent is changed.
    @Test("a directory that the caller can't write is renamed in its parent, but not into another one")
    func renameOfDirectoryNotWritable() async throws {
        let service = store.service
        let user = SimulatedStore.user
        func make(_ text: String, in parent: FileReference, owner: UInt32 = user.uid) async throws -> FileReference {
            let made = try await service.makeDirectory(
                name(text), in: parent, attributes: AttributeUpdate(mode: 0o755, uid: owner),
                as: SimulatedStore.superuser)
            return made.entry.file
        }
        let parent = try await make("parent", in: service.rootReference())
        _ = try await make("foreign", in: parent, owner: 0)
        _ = try await make("own", in: parent)
        let target = try await make("target", in: parent)
        await #expect(throws: FileError.accessDenied) {
            try await service.rename(name("foreign"), in: parent, to: name("x"), in: target, as: user)
        }
        _ = try await service.rename(name("own"), in: parent, to: name("x"), in: target, as: user)
        _ = try await service.rename(name("foreign"), in: parent, to: name("y"), in: parent, as: user)
        _ = try await service.rename(name("y"), in: parent, to: name("y"), in: target, as: SimulatedStore.superuser)
    }
}
