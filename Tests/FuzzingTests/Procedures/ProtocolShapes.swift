// The arguments and results of NFS version 3 and MOUNT version 3, transcribed from RFC 1813, and of the lock manager as
// far as it says no (X/Open's XNFS, version 3W, chapters 10 and 14).

@testable import NFS3

/// What a procedure takes and gives.
struct ProcedureShape: Sendable {
    let arguments: XDRShape
    /// Of a success, with the status if there is one.
    let results: XDRShape
}

enum ProtocolShapes {
    // §2.6
    private static let handle = XDRShape.opaque(64)
    private static let time = XDRShape.sequence([.word, .number(0...999_999_999)])
    private static let attributes = XDRShape.sequence([
        .number(1...7), .number(0...0o7777), .word, .word, .word, .hyper, .hyper, .word, .word, .hyper, .hyper, time,
        time, time,
    ])
    private static let postOpAttributes = XDRShape.optional(attributes)
    private static let weakCacheConsistency = XDRShape.sequence([
        .optional(.sequence([.hyper, time, time])), postOpAttributes,
    ])
    private static let postOpHandle = XDRShape.optional(handle)
    private static let setTime = XDRShape.union(
        [0: .nothing, 1: .nothing, 2: .sequence([.word, .word])], other: nil)
    private static let setAttributes = XDRShape.sequence([
        .optional(.word), .optional(.word), .optional(.word), .optional(.hyper), setTime, setTime,
    ])
    private static let name = XDRShape.opaque(.max)
    private static let entryInDirectory = XDRShape.sequence([handle, name])

    /// Every status of §2.6.
    private static let statuses: [UInt32] = [
        1, 2, 5, 6, 13, 17, 18, 19, 20, 21, 22, 27, 28, 30, 31, 63, 66, 69, 70, 71, 10001, 10002, 10003, 10004, 10005,
        10006, 10007, 10008,
    ]

    private static func results(ok: XDRShape, failed: XDRShape) -> XDRShape {
        var arms = Dictionary(uniqueKeysWithValues: statuses.map { ($0, failed) })
        arms[0] = ok
        return .union(arms, other: nil)
    }

    private static func shape(_ arguments: [XDRShape], ok: [XDRShape], failed: XDRShape) -> ProcedureShape {
        ProcedureShape(arguments: .sequence(arguments), results: results(ok: .sequence(ok), failed: failed))
    }

    /// §3.3, in its order.
    static let nfs: [NFSProcedure: ProcedureShape] = {
        let changed = weakCacheConsistency
        let created = [postOpHandle, postOpAttributes, changed]
        let entry: [XDRShape] = [.hyper, .opaque(255), .hyper]
        return [
            .null: ProcedureShape(arguments: .nothing, results: .nothing),
            .getattr: shape([handle], ok: [attributes], failed: .nothing),
            .setattr: shape([handle, setAttributes, .optional(.fixed(8))], ok: [changed], failed: changed),
            .lookup: shape(
                [entryInDirectory], ok: [handle, postOpAttributes, postOpAttributes], failed: postOpAttributes),
            .access: shape([handle, .word], ok: [postOpAttributes, .number(0...0x3f)], failed: postOpAttributes),
            .readlink: shape([handle], ok: [postOpAttributes, .opaque(4096)], failed: postOpAttributes),
            .read: shape(
                [handle, .hyper, .word], ok: [postOpAttributes, .word, .bool, .opaque(1 << 20)],
                failed: postOpAttributes),
            .write: shape(
                [handle, .hyper, .word, .number(0...2), .lastOpaque(1 << 20)],
                ok: [changed, .word, .number(0...2), .fixed(8)], failed: changed),
            .create: shape(
                [entryInDirectory, .union([0: setAttributes, 1: setAttributes, 2: .fixed(8)], other: nil)],
                ok: created, failed: changed),
            .mkdir: shape([entryInDirectory, setAttributes], ok: created, failed: changed),
            .symlink: shape([entryInDirectory, setAttributes, name], ok: created, failed: changed),
            .mknod: shape([entryInDirectory, mknodData], ok: created, failed: changed),
            .remove: shape([entryInDirectory], ok: [changed], failed: changed),
            .rmdir: shape([entryInDirectory], ok: [changed], failed: changed),
            .rename: shape(
                [entryInDirectory, entryInDirectory], ok: [changed, changed], failed: .sequence([changed, changed])),
            .link: shape(
                [handle, entryInDirectory], ok: [postOpAttributes, changed],
                failed: .sequence([postOpAttributes, changed])),
            .readdir: shape(
                [handle, .hyper, .fixed(8), .word],
                ok: [postOpAttributes, .fixed(8), .list(.sequence(entry)), .bool], failed: postOpAttributes),
            .readdirplus: shape(
                [handle, .hyper, .fixed(8), .word, .word],
                ok: [
                    postOpAttributes, .fixed(8), .list(.sequence(entry + [postOpAttributes, postOpHandle])), .bool,
                ],
                failed: postOpAttributes),
            .fsstat: shape(
                [handle], ok: [postOpAttributes] + Array(repeating: .hyper, count: 6) + [.word],
                failed: postOpAttributes),
            .fsinfo: shape(
                [handle], ok: [postOpAttributes] + Array(repeating: .word, count: 7) + [.hyper, time, .word],
                failed: postOpAttributes),
            .pathconf: shape(
                [handle], ok: [postOpAttributes, .word, .word, .bool, .bool, .bool, .bool],
                failed: postOpAttributes),
            .commit: shape([handle, .hyper, .word], ok: [changed, .fixed(8)], failed: changed),
        ]
    }()

    /// §3.3.11: devices have attributes and two words, pipes attributes, all others nothing.
    private static let mknodData = XDRShape.union(
        [
            3: .sequence([setAttributes, .word, .word]), 4: .sequence([setAttributes, .word, .word]),
            6: setAttributes, 7: setAttributes,
        ], other: .nothing)

    /// §5.2.
    static let mount: [MountProcedure: ProcedureShape] = {
        let path = XDRShape.opaque(1024)
        let nothing = ProcedureShape(arguments: .nothing, results: .nothing)
        let failures: [UInt32] = [1, 2, 5, 13, 20, 22, 63, 10004, 10006]
        var arms = Dictionary(uniqueKeysWithValues: failures.map { ($0, XDRShape.nothing) })
        arms[0] = .sequence([handle, .array(.word, max: 10)])
        return [
            .null: nothing,
            .mnt: ProcedureShape(arguments: path, results: .union(arms, other: nil)),
            .dump: ProcedureShape(arguments: .nothing, results: .list(.sequence([.opaque(255), path]))),
            .umnt: ProcedureShape(arguments: path, results: .nothing),
            .umntall: nothing,
            .export: ProcedureShape(
                arguments: .nothing, results: .list(.sequence([path, .list(.opaque(255))]))),
        ]
    }()

    /// Of an answer without a lock: LCK_DENIED (1) to CANCEL, which found nothing to cancel; LCK_GRANTED (0) to what
    /// gives back; LCK_DENIED_NOLOCKS (2). Arguments behind the cookie are not looked at.
    static func locks(_ version: UInt32, _ procedure: UInt32) -> ProcedureShape? {
        let cookie = XDRShape.opaque(1024)
        func answer(_ status: UInt32, _ more: [XDRShape] = []) -> ProcedureShape {
            ProcedureShape(arguments: cookie, results: .sequence([cookie, .number(status...status)] + more))
        }
        let nothing = ProcedureShape(arguments: .nothing, results: .nothing)
        return switch (procedure, version >= 3) {
        case (0, _), (23, true): nothing
        case (1, _), (2, _), (22, true): answer(2)
        case (3, _): answer(1)
        case (4, _): answer(0)
        case (20, true): answer(2, [.word])
        case (21, true): answer(0, [.word])
        default: nil
        }
    }
}
