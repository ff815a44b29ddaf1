// `sluice serve`: opens a store and answers NFS and MOUNT until SIGTERM.

import ArgumentParser
import EmbeddedFileService
import Foundation
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
            'serving nfs://HOST:PORT/'. SIGTERM makes everything durable and ends it.
            """)

    @OptionGroup var store: StoreFlags

    @Option(help: "Address of NFS and MOUNT; port 0 picks a free one. Default: 127.0.0.1:2049.")
    var listen: String?

    @Option(help: "A configuration file; see etc/sluice.yaml. Flags win.")
    var config: String?

    func run() async throws {
        var flags = store.configuration
        flags.listen = listen
        let configuration = try Configuration.read(config).overridden(by: flags)
        let listenText = configuration.listen ?? "127.0.0.1:2049"
        guard let address = ListenAddress(listenText) else {
            throw Refusal(
                listen == nil ? .configuration : .usage,
                "'\(listenText)' is not an address; one looks like 127.0.0.1:2049")
        }
        let policy = try configuration.parsedPolicy(isFromFlag: store.policy != nil)

        let log = Logger(label: "sluice") { StreamLogHandler.standardError(label: $0) }
        let descriptors = OpenFileLimit.raise()
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
                maxOpenFiles: descriptors.volumes)
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
            files: files, address: address, data: places.data, log: log,
            maxConnections: descriptors.connections)
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
    let log: Logger
    let maxConnections: Int

    func run() async throws {
        var bounds = RPCBounds()
        bounds.maxConnections = maxConnections
        let group = MultiThreadedEventLoopGroup.singleton
        let key = files.handleKey
        let programs = NFSPrograms(
            service: files,
            handles: FileHandleCodec(key: FileHandleKey(key.k0, key.k1), storeID: files.storeID))
        let server: RPCServer<NFSPrograms<EmbeddedFileService>>
        do {
            server = try await RPCServer.start(
                host: address.host, port: address.port, dispatcher: programs, group: group, logger: log,
                bounds: bounds)
        } catch {
            _ = await files.close()
            throw Refusal(.unavailable, "cannot listen on \(address.host):\(address.port): \(error)")
        }
        let control = try await ControlSocket.serve(in: data, group: group) { [files] in await files.status() }
        let host = address.host.contains(":") ? "[\(address.host)]" : address.host
        log.info("serving nfs://\(host):\(server.localAddress.port ?? address.port)/")

        await withGracefulShutdownWaiting()

        log.info("stopping: no new calls, settling files")
        try? await control.close()
        ControlSocket.remove(from: data)
        await server.shutdown()
        let failures = await files.close()
        guard failures == 0 else {
            throw Refusal(.inputOutput, "the last bytes of \(failures) files could not be written; see the log")
        }
        log.info("stopped; everything is durable")
    }

    /// Returns when shutdown begins, ticking the files once a second until then.
    private func withGracefulShutdownWaiting() async {
        await cancelWhenGracefulShutdown { [files] in
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(1))
                await files.tick()
            }
        }
    }
}
