// Calls that must fail: the status, and a body that describes the files as they are.

import FileService
import Model
import NFS3
import Testing

/// nfsstat3 (RFC 1813 §2.6), independent of the project's.
enum Status: UInt32 {
    case perm = 1
    case noent = 2
    case acces = 13
    case exist = 17
    case notdir = 20
    case isdir = 21
    case inval = 22
    case fbig = 27
    case mlink = 31
    case nametoolong = 63
    case notempty = 66
    case stale = 70
    case notSync = 10002
    case badCookie = 10003
    case toosmall = 10005
    case badtype = 10007
}

extension ServedStore {
    /// What follows the status in the RESfail arms of RFC 1813 §3.3.
    private enum Part { case postOpAttributes, weakCacheConsistency }

    private static let bodies: [NFSProcedure: [Part]] = [
        .getattr: [], .setattr: [.weakCacheConsistency], .lookup: [.postOpAttributes], .access: [.postOpAttributes],
        .readlink: [.postOpAttributes], .read: [.postOpAttributes], .write: [.weakCacheConsistency],
        .create: [.weakCacheConsistency], .mkdir: [.weakCacheConsistency], .symlink: [.weakCacheConsistency],
        .mknod: [.weakCacheConsistency], .remove: [.weakCacheConsistency], .rmdir: [.weakCacheConsistency],
        .rename: [.weakCacheConsistency, .weakCacheConsistency], .link: [.postOpAttributes, .weakCacheConsistency],
        .readdir: [.postOpAttributes], .readdirplus: [.postOpAttributes], .fsstat: [.postOpAttributes],
        .fsinfo: [.postOpAttributes], .pathconf: [.postOpAttributes], .commit: [.weakCacheConsistency],
    ]

    /// Expects the whole reply to be that of this status.
    /// - Parameter subjects: what its body describes, in order.
    func refuse(
        _ procedure: NFSProcedure, _ arguments: WireBytes, _ status: Status, of subjects: [WireBytes],
        as caller: Credentials = owner, _ clause: String, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let parts = try #require(Self.bodies[procedure], sourceLocation: sourceLocation)
        try #require(parts.count == subjects.count, sourceLocation: sourceLocation)
        var expected = WireBytes.u32(status.rawValue)
        for (part, subject) in zip(parts, subjects) {
            // No pre_op_attr: an operation that failed was atomic with nothing.
            if part == .weakCacheConsistency { expected = expected + .no }
            expected = expected + (await postOp(subject))
        }
        let reply = await call(procedure, arguments, as: caller)
        #expect(reply == expected, "\(procedure), \(clause)", sourceLocation: sourceLocation)
    }
}
