// Which directories make up the store: found from flags, the configuration file and what is under --data.

import Glibc
import Model
import Platform

/// The places of a store: its data directory and its volumes.
struct StorePlaces: Equatable {
    let data: String
    let volumes: [String]
    /// `--volumes N` on an empty data directory: to be formatted before serving.
    let mustFormat: Bool

    /// The file under `--data` that remembers the volumes' paths, one a line. It can be lost: the volumes
    /// can be named again.
    private static let listName = "volumes"

    /// Is there while volumes are made under `--data`.
    private static let formattingName = "formatting"

    /// - Parameters:
    ///   - count: `--volumes N`.
    ///   - listed: `--volume DIR …`.
    init(data: String?, count: Int?, listed: [String]?, fileSystem: FileSystem) throws(Refusal) {
        guard let data else { throw Refusal(.usage, "--data DIR is needed") }
        guard count == nil || listed == nil else {
            throw Refusal(.usage, "--volumes N and --volume DIR exclude each other")
        }
        if let count, !(3...99).contains(count) {
            throw Refusal(.usage, "--volumes \(count): a store needs 3 to 99 volumes")
        }
        let path = Self.absolute(data)
        let found: Result<StorePlaces, Refusal>
        do throws(IOError) {
            found = try Self.find(in: path, count: count, listed: listed?.map(Self.absolute), fileSystem)
        } catch {
            throw Refusal(.configuration, "\(error)")
        }
        self = try found.get()
    }

    private init(data: String, volumes: [String], mustFormat: Bool) {
        self.data = data
        self.volumes = volumes
        self.mustFormat = mustFormat
    }

    private static func find(
        in data: String, count: Int?, listed: [String]?, _ fileSystem: FileSystem
    ) throws(IOError) -> Result<StorePlaces, Refusal> {
        let exists = try fileSystem.status(data) != nil
        if let listed {
            guard Set(listed).count == listed.count else { return .failure(Refusal(.usage, "a volume is named twice")) }
            if !exists { try fileSystem.createDirectory(data) }
            return .success(StorePlaces(data: data, volumes: listed, mustFormat: false))
        }
        let names = exists ? try fileSystem.list(data) : []
        if names.contains(formattingName) {
            return .failure(
                Refusal(.store, "the making of a store in \(data) was interrupted; delete \(data) and begin again"))
        }
        if names.contains(listName) {
            let known = try read("\(data)/\(listName)", fileSystem)
            guard count == nil || count == known.count else {
                return .failure(Refusal(.usage, "--volumes \(count!): the store in \(data) has \(known.count) volumes"))
            }
            return .success(StorePlaces(data: data, volumes: known, mustFormat: false))
        }
        // Perhaps the list was lost. What is missing besides, the superblocks tell.
        let present = names.filter { $0.hasPrefix("volume-") }.sorted().map { "\(data)/\($0)" }
        if !present.isEmpty { return .success(StorePlaces(data: data, volumes: present, mustFormat: false)) }
        guard let count else {
            return .failure(
                Refusal(
                    .usage,
                    "\(data) holds no store; --volumes N makes one there for trying out, "
                        + "'sluice format' one on real disks"))
        }
        guard names.allSatisfy({ $0 == "lock" || $0 == "control.sock" || $0 == "lost+found" }) else {
            return .failure(
                Refusal(.usage, "\(data) is not empty and holds no store; nothing is formatted over it"))
        }
        if !exists { try fileSystem.createDirectory(data) }
        let volumes = (0..<count).map { "\(data)/volume-\($0 < 10 ? "0" : "")\($0)" }
        return .success(StorePlaces(data: data, volumes: volumes, mustFormat: true))
    }

    /// Makes the directories of `--volumes N` and runs `format`, so that an interruption is recognised.
    func makeVolumes(fileSystem: FileSystem, format: () throws(Refusal) -> Void) throws(Refusal) {
        let marker = "\(data)/\(Self.formattingName)"
        do throws(IOError) {
            try fileSystem.open(marker, .createOrOpen).close()
            try fileSystem.syncDirectory(data)
            for volume in volumes { try fileSystem.createDirectory(volume) }
        } catch {
            throw Refusal(.configuration, "\(error)")
        }
        try format()
        do throws(IOError) {
            try fileSystem.remove(marker)
            try fileSystem.syncDirectory(data)
        } catch {
            throw Refusal(.configuration, "\(error)")
        }
    }

    /// Remembers the volumes under `--data`.
    func remember(fileSystem: FileSystem) throws(Refusal) {
        let path = "\(data)/\(Self.listName)"
        do throws(IOError) {
            let file = try fileSystem.open(path + ".new", .createOrOpen)
            defer { file.close() }
            let text = Array((volumes.joined(separator: "\n") + "\n").utf8)
            try file.truncate(to: 0)
            // Typed throws does not pass through the closure, hence the detour.
            let result: Result<Void, IOError> = text.withUnsafeBytes { bytes in
                do throws(IOError) { return .success(try file.write(bytes, at: 0)) } catch { return .failure(error) }
            }
            try result.get()
            try file.sync()
            try fileSystem.rename(path + ".new", to: path)
            try fileSystem.syncDirectory(data)
        } catch {
            throw Refusal(.configuration, "\(error)")
        }
    }

    private static func read(_ path: String, _ fileSystem: FileSystem) throws(IOError) -> [String] {
        let file = try fileSystem.open(path, .read)
        defer { file.close() }
        var bytes = [UInt8](repeating: 0, count: Int(try file.size()))
        let result: Result<Int, IOError> = bytes.withUnsafeMutableBytes { buffer in
            do throws(IOError) { return .success(try file.read(into: buffer, at: 0)) } catch { return .failure(error) }
        }
        bytes.removeLast(bytes.count - (try result.get()))
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    private static func absolute(_ path: String) -> String {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        if path.hasPrefix("/") { return path }
        guard let current = getcwd(nil, 0) else { return path }
        defer { free(current) }
        return String(cString: current) + "/" + path
    }
}
