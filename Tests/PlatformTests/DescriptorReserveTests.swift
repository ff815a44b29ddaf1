import FaultInjection
import Glibc
import Platform
import Testing

@Suite("The reserve of descriptors")
struct DescriptorReserveTests {
    private func disk() throws -> (SimulatedFileSystem, DescriptorReserve) {
        let disk = SimulatedFileSystem(directories: ["/v"])
        try disk.open("/v/kept", .createNew).close()
        let reserve = DescriptorReserve(paths: ["/missing", "/v/kept"], fileSystem: disk)
        reserve.fill()
        return (disk, reserve)
    }

    @Test("lends its own descriptor when there is no other, and takes it back")
    func lends() throws {
        let (disk, reserve) = try disk()
        #expect(reserve.isFull && disk.openFileCount == 1)
        disk.maxOpenFiles = 1
        for name in ["/v/a", "/v/b"] {
            #expect(throws: IOError(code: EMFILE, operation: "open", path: name)) { try disk.open(name, .createNew) }
            let file = try reserve.lend { () throws(IOError) in try disk.open(name, .createNew) }
            #expect(!reserve.isFull && disk.openFileCount == 1)
            file.close()
            reserve.fill()
            #expect(reserve.isFull)
            try reserve.lend { () throws(IOError) in try disk.syncDirectory("/v") }
            #expect(reserve.isFull && disk.openFileCount == 1)
        }
        reserve.release()
        #expect(disk.openFileCount == 0)
    }

    @Test("doesn't wait, nor give anything away, where there are descriptors or something else is wrong")
    func notNeeded() throws {
        let (disk, reserve) = try disk()
        let opens = disk.callCount(.open)
        try reserve.lend { () throws(IOError) in try disk.open("/v/a", .createNew) }.close()
        #expect(throws: IOError(code: ENOENT, operation: "open", path: "/v/none")) {
            try reserve.lend { () throws(IOError) in try disk.open("/v/none", .read) }
        }
        #expect(disk.callCount(.open) == opens + 2 && reserve.isFull)
    }

    @Test("gives up with the error of the last attempt, whatever it has")
    func lastingShortage() throws {
        let (disk, reserve) = try disk()
        disk.inject(Fault("/v/a", .open, code: ENFILE))
        #expect(throws: IOError(code: ENFILE, operation: "open", path: "/v/a")) {
            try reserve.lend { () throws(IOError) in try disk.open("/v/a", .createNew) }
        }
        #expect(reserve.isFull)
    }

    @Test("tries again when another thread was quicker to take what it gave back")
    func race() throws {
        let (disk, reserve) = try disk()
        disk.inject(Fault("/v/a", .open, code: EMFILE, count: 3))
        try reserve.lend { () throws(IOError) in try disk.open("/v/a", .createNew) }.close()
        #expect(reserve.isFull)
    }
}
