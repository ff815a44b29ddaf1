// A program on some client that writes, commits, reads and changes any files of the store, one call at a time; several of
// them are under way at once, also on the same file.

import FaultInjection
import FileService
import Model
import Platform
import WriteBack

@testable import EmbeddedFileService

struct DataCaller {
    let world: World
    let calls: Int

    let maxFileBytes: Int

    func run() async {
        for _ in 0..<calls {
            if world.isOver { return }
            guard let file = world.sortedFiles.randomElement(using: &world.random) else {
                await yieldToOthers()
                continue
            }
            let goesOn =
                switch Int.random(in: 0..<100, using: &world.random) {
                case 0..<45: await write(file)
                case 45..<65: await commit(file)
                case 65..<80: await read(file)
                case 80..<88: await truncate(file)
                case 88..<94: await setAttributes(file)
                default: await getAttributes(file)
                }
            if !goesOn { return }
        }
    }

    private func pick(_ range: Range<Int>) -> Int { Int.random(in: range, using: &world.random) }

    private func write(_ file: FileModel) async -> Bool {
        let size = file.maxSize
        let offset =
            switch pick(0..<4) {
            case 0: size
            case 1: pick(0..<8) * 4096
            default: pick(0..<size + 6000)
            }
        let largest = [1, 600, 5000, 5000, 20_000, 30_000][pick(0..<6)]
        let count = min(pick(1..<largest + 1), maxFileBytes - offset)
        guard count > 0 else { return true }
        let bytes = pattern(count, &world.random)
        let stability: WriteStability = [.unstable, .unstable, .unstable, .dataSync, .fileSync][pick(0..<5)]
        let event = world.event()
        let what = "\(event): write file \(file.number) at \(offset), \(count) bytes, \(stability)"
        world.note(what)
        let index = file.begin(.bytes(offset: offset, bytes), at: event, world.clock.now())
        do throws(FileError) {
            let result = try await world.service.write(
                Payload(bytes: bytes), to: file.reference, offset: UInt64(offset), stability: stability,
                as: World.user)
            if stability != .unstable, result.stability == .unstable { world.isWrong("\(what) was answered unstable") }
            file.end(
                index, at: world.event(), world.clock.now(), isAnswered: true,
                isPromised: result.stability != .unstable, verifier: result.verifier)
            world.note("\(what) -> done, \(result.stability), verifier \(result.verifier.rawValue % 1000)")
            return true
        } catch {
            return fail(file, index, error, what)
        }
    }

    private func commit(_ file: FileModel) async -> Bool {
        let isAll = pick(0..<2) == 0
        let offset = isAll ? 0 : pick(0..<file.maxSize + 1)
        let count = isAll ? 0 : pick(0..<file.maxSize + 1)
        let began = world.event()
        let what = "\(began): commit file \(file.number) from \(offset), \(count) bytes"
        world.note(what)
        do throws(FileError) {
            let result = try await world.service.commit(
                file.reference, offset: UInt64(offset), count: UInt64(count), as: World.user)
            file.commit(offset..<(count == 0 ? .max : offset + count), began: began, verifier: result.verifier)
            world.note("\(what) -> done, verifier \(result.verifier.rawValue % 1000)")
            return true
        } catch {
            file.hasFailed = true
            return world.failed(error, what, mayBeStale: file.isRemovalAsked)
        }
    }

    private func read(_ file: FileModel) async -> Bool {
        let offset = pick(0..<2) == 0 ? 0 : pick(0..<file.maxSize + 1)
        let count = pick(1..<40_000)
        let began = world.event()
        let what = "\(began): read file \(file.number) at \(offset), \(count) bytes"
        world.note(what)
        do throws(FileError) {
            let result = try await world.service.read(
                file.reference, offset: UInt64(offset), count: count, as: World.user)
            let view = world.view(began: began)
            let bytes = result.payload.bytes
            world.note("\(what) -> \(bytes.count) bytes")
            world.mustNot(file.objection(to: bytes, at: offset, view), what)
            check(file, result.attributes, view, what)
            if bytes.isEmpty, UInt64(offset) < result.attributes.size { world.isWrong("\(what) gave nothing") }
            return true
        } catch {
            file.hasFailed = true
            return world.failed(error, what, mayBeStale: file.isRemovalAsked)
        }
    }

    private func truncate(_ file: FileModel) async -> Bool {
        let size = min(maxFileBytes, pick(0..<2) == 0 ? pick(0..<file.maxSize + 1) : pick(0..<file.maxSize + 9000))
        return await change(
            file, .size(size), AttributeUpdate(size: UInt64(size)), "truncate file \(file.number) to \(size)")
    }

    private func setAttributes(_ file: FileModel) async -> Bool {
        if pick(0..<2) == 0 {
            let mode = UInt32(pick(0..<0o1000))
            return await change(
                file, .mode(mode), AttributeUpdate(mode: mode), "set mode of file \(file.number) to \(mode)")
        }
        let time = Timestamp(seconds: Int64(pick(0..<900_000)), nanoseconds: UInt32(pick(0..<1000)))
        return await change(
            file, .modificationTime(time), AttributeUpdate(modificationTime: .to(time)),
            "set time of file \(file.number) to \(time.seconds)")
    }

    private func change(
        _ file: FileModel, _ effect: FileChange.Effect, _ update: AttributeUpdate, _ text: String
    ) async -> Bool {
        let event = world.event()
        let what = "\(event): \(text)"
        world.note(what)
        let index = file.begin(effect, at: event, world.clock.now())
        do throws(FileError) {
            _ = try await world.service.setAttributes(of: file.reference, to: update, guardTime: nil, as: World.user)
            file.end(index, at: world.event(), world.clock.now(), isAnswered: true, isPromised: true)
            world.note("\(what) -> done")
            return true
        } catch {
            return fail(file, index, error, what)
        }
    }

    private func getAttributes(_ file: FileModel) async -> Bool {
        let began = world.event()
        let what = "\(began): get attributes of file \(file.number)"
        do throws(FileError) {
            let attributes = try await world.service.attributes(of: file.reference)
            check(file, attributes, world.view(began: began), what)
            return true
        } catch {
            file.hasFailed = true
            return world.failed(error, what, mayBeStale: file.isRemovalAsked)
        }
    }

    private func check(
        _ file: FileModel, _ attributes: FileAttributes, _ view: FileModel.View, _ what: @autoclosure () -> String
    ) {
        world.mustNot(file.objection(toSize: Int(attributes.size), view), what())
        world.mustNot(file.objection(toMode: attributes.mode, view), what())
        world.noteReverts(of: file)
        world.mustNot(file.objection(toTime: attributes.modificationTime, view), what())
    }

    /// A change was refused; it may have taken effect.
    private func fail(_ file: FileModel, _ index: Int, _ error: FileError, _ what: @autoclosure () -> String) -> Bool {
        file.hasFailed = true
        if world.hasPower { file.end(index, at: world.event(), world.clock.now(), isAnswered: false) }
        return world.failed(error, what(), mayBeStale: file.isRemovalAsked)
    }
}
