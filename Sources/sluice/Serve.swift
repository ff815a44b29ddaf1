// `sluice serve`: opens a store and answers NFS and MOUNT until SIGTERM, or until the store has failed for good.

import ArgumentParser
import EmbeddedFileService
import Foundation
import Glibc
import Logging
import Model
import NFS3
import NIOCore
import NIOPosix
import ONCRPC
import Platform
import ServiceLifecycle
import UnixSignals

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serve a store over NFSv3.",
        discussion: """
            With --volumes N an empty data directory is formatted first, for trying it out. Real disks, named \
            with --volume, need 'sluice format' once. When the gateway is ready it logs a line with \
            'serving nfs://HOST:PORT/'. SIGTERM makes everything durable and ends it; SIGHUP reads the exports of \
            the configuration file again.
            """)

    @OptionGroup var store: StoreFlags

    @Option(help: "Address of NFS and MOUNT; port 0 picks a free one. Default: 127.0.0.1:2049.")
    var listen: String?

    @Option(help: "A configuration file; see etc/sluice.yaml. Flags win.")
    var config: String?

    @Flag(help: "Let the superuser of clients make block and character devices.")
    var devices = false

    @Flag(
        inversion: .prefixedNo,
        help: "Register NFS, MOUNT and NLM with this machine's rpcbind. Default: no.")
    var rpcbind: Bool?

    @Option(help: "Memory for data on its way, at least 128MiB. Default: an eighth of the machine's.")
    var memory: String?

    @Option(help: "Directory for written bytes that memory has no room for. Default: on the volume with the most room.")
    var dump: String?

    @Option(help: "The most that the intent journal takes on each of its disks, at least 128MiB. Default: 1GiB.")
    var journal: String?

    @Option(help: "Seconds after which a file that nobody writes to is settled. Default: 10.")
    var idle: Int?

    @Option(help: "The most files that are open at once, connections apart. Default: 4096, or what the system allows.")
    var files: Int?

    func run() async throws {
        // Until the reload listens for it, a SIGHUP must not end the process: the exports are read at the start anyway.
        signal(SIGHUP, SIG_IGN)
        var flags = store.configuration
        flags.listen = listen
        flags.rpcbind = rpcbind
        if devices { flags.devices = true }
        flags.memory = memory
        flags.dump = dump
        flags.journal = journal
        flags.idle = idle
        flags.files = self.files
        let file = try Configuration.read(config)
        let configuration = file.overridden(by: flags)
        let listenText = configuration.listen ?? "127.0.0.1:2049"
        guard let address = ListenAddress(listenText) else {
            throw Refusal(
                listen == nil ? .configuration : .usage,
                "'\(listenText)' is not an address; one looks like 127.0.0.1:2049")
        }
        let policy = try configuration.parsedPolicy(isFromFlag: store.policy != nil)
        let plan = try MemoryPlan(configuration.memory, isFromFlag: memory != nil)
        let idleTime = try configuration.idleTime(isFromFlag: idle != nil)
        let journalBytes = try configuration.journalBytes(isFromFlag: journal != nil)
        let maxFiles = try configuration.maxFiles(isFromFlag: self.files != nil)

        try ProcMount.check()
        let log = Logger(label: "sluice") { StreamLogHandler.standardError(label: $0) }
        let descriptors = OpenFileLimit.raise(forFiles: maxFiles)
        let fileSystem = FileSystem()
        let places = try StorePlaces(
            data: configuration.data, count: configuration.volumes, listed: configuration.volume,
            fileSystem: fileSystem)
        let lock = try places.lock(fileSystem: fileSystem)
        defer { lock.close() }
        if places.mustFormat {
            try Format.format(places, policy: policy, fileSystem: fileSystem, log: log)
        }
        let files: EmbeddedFileService
        do throws(StoreRefusal) {
            files = try await EmbeddedFileService.open(
                volumes: places.volumes, fileSystem: fileSystem, clock: SystemClock(), log: log,
                maxOpenFiles: descriptors.volumes, memory: plan.store, journalBytes: journalBytes,
                idleTime: idleTime,
                allowsDevices: configuration.devices ?? false, dumpDirectory: configuration.dump)
        } catch {
            throw Refusal(error)
        }
        if let policy, policy != files.policy {
            _ = await files.close()
            throw Refusal(
                configuration == flags ? .usage : .configuration,
                "the store was formatted with \(files.policy), not \(policy); leave the policy out")
        }
        try places.remember(fileSystem: fileSystem)

        let gateway = Gateway(
            files: files, address: address, data: places.data, usesRpcbind: configuration.rpcbind ?? false,
            configuration: file, configurationPath: config, log: log, maxConnections: descriptors.connections,
            requestBytes: plan.requestBytes)
        let services = ServiceGroup(
            configuration: .init(
                services: [.init(service: gateway, successTerminationBehavior: .gracefullyShutdownGroup)],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: log))
        try await services.run()
    }
}

/// The running gateway.
struct Gateway: Service {
    let files: EmbeddedFileService
    let address: ListenAddress
    let data: String
    let usesRpcbind: Bool
    /// The file, without flags, as it was at the start.
    let configuration: Configuration
    let configurationPath: String?
    let log: Logger
    let maxConnections: Int
    /// See MemoryPlan.
    let requestBytes: Int

    func run() async throws {
        var bounds = RPCBounds()
        bounds.maxConnections = maxConnections
        bounds.maxBytes = requestBytes
        let group = MultiThreadedEventLoopGroup.singleton
        let key = files.handleKey
        let exports = ExportTable(configuration.exports ?? [.open], logger: log)
        let programs = NFSPrograms(
            service: files,
            handles: FileHandleCodec(key: FileHandleKey(key.k0, key.k1), storeID: files.storeID), exports: exports)
        let reload = ExportReload(
            programs: programs, table: exports, configuration: configuration, path: configurationPath, log: log)
        await reload.findRoots()
        let server: RPCServer<NFSPrograms<EmbeddedFileService>>
        do {
            server = try await RPCServer.start(
                host: address.host, port: address.port, dispatcher: programs, group: group, logger: log,
                bounds: bounds)
        } catch {
            _ = await files.close()
            throw Refusal(.unavailable, "cannot listen on \(address.host):\(address.port): \(error)")
        }
        var control: (any Channel)?
        var registration: RpcbindRegistration?
        do throws(Refusal) {
            control = try await ControlSocket.serve(in: data, group: group) { [files] in await files.status() }
            if usesRpcbind { registration = try await RpcbindRegistration.register(server.localAddress, log: log) }
        } catch {
            _ = await stop(control, server)
            throw error
        }
        // Before the line that says it serves, so that a SIGHUP after it is always caught.
        let hangups = await UnixSignalsSequence(trapping: .sighup)
        if configuration.exports == nil, !server.localAddress.isLoopback {
            log.warning(
                """
                there are no exports in the configuration: everyone who can reach \(server.localAddress.ipAddress ?? "?") \
                may read and change all files, as any user, root included
                """)
        }
        let host = address.host.contains(":") ? "[\(address.host)]" : address.host
        log.info("serving nfs://\(host):\(server.localAddress.port ?? address.port)/")

        await serveUntilShutdown(reload: reload, hangups: hangups)

        if files.failure == nil {
            log.info("stopping: no new calls, settling files")
        } else {
            log.critical("stopping, since the store has failed: no new calls; a new start may find it whole")
        }
        if let registration { await registration.unregister(log: log) }
        let failures = await stop(control, server)
        // It may also have failed while files were settled.
        if let refusal = Self.refusal(unsettledFiles: failures, storeFailure: files.failure) { throw refusal }
        log.info("stopped; everything is durable")
    }

    /// How the process ends that has stopped serving; nil: well.
    static func refusal(unsettledFiles: Int, storeFailure: String?) -> Refusal? {
        if let storeFailure {
            return Refusal(.inputOutput, "the store has failed, only what was committed is durable: \(storeFailure)")
        }
        guard unsettledFiles > 0 else { return nil }
        return Refusal(.inputOutput, "the last bytes of \(unsettledFiles) files could not be written; see the log")
    }

    /// Answers nobody any more and makes everything durable; returns how many files it could not settle.
    private func stop(
        _ control: (any Channel)?, _ server: RPCServer<NFSPrograms<EmbeddedFileService>>
    ) async -> Int {
        if let control {
            try? await control.close()
            ControlSocket.remove(from: data)
        }
        files.prepareToClose()
        let patience = Task { [files] in
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(1))
                files.giveUpWhatHangs()
            }
        }
        defer { patience.cancel() }
        await server.shutdown()
        return await files.close()
    }

    /// Returns when shutdown begins, or the store has failed; until then settles files and checks volumes once a second, and reloads the
    /// exports at SIGHUP.
    private func serveUntilShutdown(
        reload: ExportReload<EmbeddedFileService>, hangups: UnixSignalsSequence
    ) async {
        await cancelWhenGracefulShutdown { [files] in
            await withTaskGroup(of: Bool.self) { tasks in
                tasks.addTask {
                    while !Task.isCancelled {
                        try? await Task.sleep(for: .seconds(1))
                        files.settleIdleFiles()
                    }
                    return false
                }
                tasks.addTask {
                    while !Task.isCancelled {
                        try? await Task.sleep(for: .seconds(1))
                        await files.checkVolumes()
                    }
                    return false
                }
                tasks.addTask {
                    for await _ in hangups { await reload.run() }
                    return false
                }
                tasks.addTask { await files.waitForFailure() != nil }
                for await hasFailed in tasks where hasFailed { tasks.cancelAll() }
            }
        }
    }
}

extension SocketAddress {
    /// Reachable only from this machine.
    fileprivate var isLoopback: Bool {
        guard let ipAddress else { return true }
        return ipAddress.hasPrefix("127.") || ipAddress == "::1" || ipAddress.hasPrefix("::ffff:127.")
    }
}
