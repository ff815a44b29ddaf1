// swift-tools-version: 6.2
// The targets are the layers of Sources/README.md, lowest first. A target may depend only on
// targets above its own line here; tools/check-layers compares this file and every import with
// tools/layers.txt.

import PackageDescription

/// tools/fuzz sets it: the layers are instrumented then, and the fuzzers, otherwise tests that replay their corpus,
/// are a program.
let isFuzzing = Context.environment["SLUICE_FUZZING"] != nil
let fuzzingFlags = ["-sanitize=fuzzer,address"]

/// tools/simulate sets it: the simulation looks into the layers, which are optimised nevertheless.
let isSimulating = Context.environment["SLUICE_SIMULATION"] != nil

let swiftSettings: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
    ] + (Context.environment["SLUICE_WARNINGS_ARE_ERRORS"] == nil ? [] : [.treatAllWarnings(as: .error)])
    + (isFuzzing ? [.unsafeFlags(fuzzingFlags + ["-enable-testing"])] : [])
    + (isSimulating ? [.unsafeFlags(["-enable-testing"])] : [])

let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

func layer(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .target(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: swiftSettings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource]? = nil) -> Target {
    .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: swiftSettings)
}

/// The same sources either way, so that what a fuzzer found is replayed by the code that found it.
func fuzzing(_ dependencies: [Target.Dependency]) -> Target {
    let path = "Tests/FuzzingTests"
    return isFuzzing
        ? .executableTarget(
            name: "fuzzing", dependencies: dependencies, path: path, exclude: ["ReplayTests.swift", "Corpus"],
            swiftSettings: swiftSettings, linkerSettings: [.unsafeFlags(fuzzingFlags + ["-use-ld=lld"])])
        : .testTarget(
            name: "FuzzingTests", dependencies: dependencies, path: path, exclude: ["main.swift"],
            resources: [.copy("Corpus")], swiftSettings: swiftSettings)
}

/// A program can't be linked into another one, only into tests: without its main function it is a library.
func commandLine(_ dependencies: [Target.Dependency]) -> Target {
    isFuzzing
        ? layer("sluice", dependencies, exclude: ["Sluice.swift"])
        : .executableTarget(name: "sluice", dependencies: dependencies, swiftSettings: swiftSettings)
}

let package = Package(
    name: "sluice",
    products: isFuzzing ? [] : [.executable(name: "sluice", targets: ["sluice"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        .systemLibrary(name: "CLinux"),
        .systemLibrary(name: "CTirpc", pkgConfig: "libtirpc", providers: [.apt(["libtirpc-dev"])]),
        .systemLibrary(name: "CISAL", pkgConfig: "libisal", providers: [.apt(["libisal-dev"])]),
        .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),

        layer("Model", []),
        layer("Platform", ["CLinux", "Model", nioCore]),
        layer("LockFree", ["Model"]),
        layer("XDR", ["CTirpc", nioCore]),
        layer("ErasureCoding", ["CISAL", "Model"]),
        layer("ONCRPC", ["CTirpc", "XDR", "ErasureCoding", "Model", "Platform", nioCore, nioPosix, logging]),
        layer("BlockStore", ["Model", "Platform", "ErasureCoding", nioCore]),
        layer("Striping", ["Model", "Platform", "ErasureCoding", "BlockStore", nioCore]),
        layer("Journal", ["Model", "Platform", "ErasureCoding", nioCore]),
        layer("Namespace", ["CSQLite", "Model", "Platform", "ErasureCoding", "Journal", logging]),
        layer("WriteBack", ["Model", "Platform", "LockFree", "ErasureCoding", "Journal", nioCore]),
        layer("FileService", ["Model", "Platform"]),
        layer(
            "EmbeddedFileService",
            [
                "Model", "Platform", "LockFree", "ErasureCoding", "BlockStore", "Striping", "Journal", "Namespace",
                "WriteBack", "FileService", nioCore, logging,
            ]),
        layer(
            "NFS3", ["Model", "Platform", "XDR", "ONCRPC", "FileService", nioCore, logging],
            exclude: ["DEVIATIONS.md"]),
        commandLine([
            "CTirpc", "Model", "Platform", "ONCRPC", "BlockStore", "Namespace", "FileService", "EmbeddedFileService",
            "NFS3", nioCore, nioPosix, logging, "Yams",
            .product(name: "ArgumentParser", package: "swift-argument-parser"),
            .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        ]),

        .executableTarget(
            name: "mapbench", dependencies: ["CLinux", "LockFree", "Model"], path: "Benchmarks/OffsetMap",
            swiftSettings: swiftSettings),
        .target(
            name: "FaultInjection", dependencies: ["Model", "Platform"], path: "Tests/FaultInjection",
            swiftSettings: swiftSettings),
        fuzzing([
            "NFS3", "EmbeddedFileService", "ONCRPC", "XDR", "Namespace", "BlockStore", "FileService", "ErasureCoding",
            "Model", "Platform",
            "FaultInjection", "sluice", nioCore, .product(name: "NIOEmbedded", package: "swift-nio"), logging,
        ]),
        tests("ModelTests", ["Model"]),
        tests("PlatformTests", ["Model", "Platform", "FaultInjection", nioCore]),
        tests("LockFreeTests", ["LockFree", "Model", "FaultInjection"]),
        tests("XDRTests", ["XDR", "FaultInjection", nioCore]),
        tests("ErasureCodingTests", ["ErasureCoding", "Model"]),
        tests("ONCRPCTests", ["ONCRPC", "FaultInjection", "XDR", "Model", "Platform", nioCore, nioPosix, logging]),
        tests("BlockStoreTests", ["BlockStore", "ErasureCoding", "Model", "Platform", "FaultInjection", nioCore]),
        tests(
            "StripingTests",
            ["Striping", "BlockStore", "ErasureCoding", "Model", "Platform", "FaultInjection", nioCore, logging],
            resources: [.copy("Fixtures")]),
        tests("JournalTests", ["Journal", "ErasureCoding", "Model", "Platform", "FaultInjection", nioCore]),
        tests("NamespaceTests", ["Namespace", "Journal", "Model", "Platform", "FaultInjection", logging]),
        tests("WriteBackTests", ["CLinux", "WriteBack", "Journal", "LockFree", "Model", "Platform", "FaultInjection"]),
        tests(
            "EmbeddedFileServiceTests",
            [
                "EmbeddedFileService", "FileService", "WriteBack", "Namespace", "Journal", "Striping", "BlockStore",
                "Model", "Platform", "FaultInjection", nioCore, logging,
            ]),
        tests(
            "NFS3Tests",
            [
                "NFS3", "EmbeddedFileService", "FaultInjection", "ONCRPC", "XDR", "FileService", "Model", "Platform",
                nioCore, logging,
            ]),
        tests("SluiceTests", ["sluice", "NFS3", "EmbeddedFileService", "Platform", "FaultInjection", nioCore]),
    ]
        + (isSimulating
            ? [
                .executableTarget(
                    name: "simulation",
                    dependencies: [
                        "CSQLite", "EmbeddedFileService", "WriteBack", "Namespace", "Journal", "BlockStore",
                        "FileService",
                        "Model", "Platform", "FaultInjection", logging,
                    ], path: "Tests/Simulation", swiftSettings: swiftSettings)
            ] : [])
)
