// Which directories make up a store, found from flags and from what is under the data directory.

import FaultInjection
import Platform
import Testing

@testable import sluice

@Suite("Places of a store")
struct StorePlacesTests {
    private func code(_ body: () throws(Refusal) -> StorePlaces) -> Refusal.Code? {
        do throws(Refusal) {
            _ = try body()
            return nil
        } catch {
            return error.code
        }
    }

    @Test("--volumes N makes a store in an empty data directory only")
    func formatsEmptyOnly() throws {
        let disk = SimulatedFileSystem(directories: ["/data", "/full/things"])
        let places = try StorePlaces(data: "/data", count: 5, listed: nil, fileSystem: disk)
        #expect(places.mustFormat)
        #expect(places.volumes == (0..<5).map { "/data/volume-0\($0)" })
        #expect(
            code { () throws(Refusal) in try StorePlaces(data: "/full", count: 5, listed: nil, fileSystem: disk) }
                == .usage)
    }

    @Test("a store whose making was interrupted is recognised, not served and not formatted over")
    func interrupted() throws {
        let disk = SimulatedFileSystem(directories: ["/data"])
        let places = try StorePlaces(data: "/data", count: 3, listed: nil, fileSystem: disk)
        let stop = Refusal(.inputOutput, "stopped")
        #expect(throws: Refusal.self) {
            try places.makeVolumes(fileSystem: disk) { () throws(Refusal) in throw stop }
        }
        #expect(
            code { () throws(Refusal) in
                try StorePlaces(data: "/data", count: 3, listed: nil, fileSystem: disk)
            } == .store)
    }

    @Test("real volumes are never formatted unasked")
    func listedIsNotFormatted() throws {
        let disk = SimulatedFileSystem(directories: ["/data", "/a", "/b", "/c"])
        let places = try StorePlaces(data: "/data", count: nil, listed: ["/a/", "/b", "/c"], fileSystem: disk)
        #expect(!places.mustFormat && places.volumes == ["/a", "/b", "/c"])
    }

    @Test("the volumes are remembered, and found again without flags")
    func remembers() throws {
        let disk = SimulatedFileSystem(directories: ["/data", "/a", "/b", "/c"])
        let named = try StorePlaces(data: "/data", count: nil, listed: ["/a", "/b", "/c"], fileSystem: disk)
        try named.remember(fileSystem: disk)
        let found = try StorePlaces(data: "/data", count: nil, listed: nil, fileSystem: disk)
        #expect(found == named)
        #expect(
            code { () throws(Refusal) in try StorePlaces(data: "/data", count: 4, listed: nil, fileSystem: disk) }
                == .usage)
    }

    @Test("volumes under the data directory are found when the list is lost")
    func lostList() throws {
        let disk = SimulatedFileSystem(directories: ["/data/volume-00", "/data/volume-02", "/data/volume-01"])
        let found = try StorePlaces(data: "/data", count: nil, listed: nil, fileSystem: disk)
        #expect(found.volumes == ["/data/volume-00", "/data/volume-01", "/data/volume-02"] && !found.mustFormat)
    }

    @Test("contradictions and nonsense are usage errors")
    func usage() {
        let disk = SimulatedFileSystem(directories: ["/data"])
        #expect(
            code { () throws(Refusal) in try StorePlaces(data: nil, count: 5, listed: nil, fileSystem: disk) } == .usage
        )
        #expect(
            code { () throws(Refusal) in try StorePlaces(data: "/data", count: 5, listed: ["/a"], fileSystem: disk) }
                == .usage)
        #expect(
            code { () throws(Refusal) in try StorePlaces(data: "/data", count: 2, listed: nil, fileSystem: disk) }
                == .usage)
        #expect(
            code { () throws(Refusal) in try StorePlaces(data: "/data", count: nil, listed: nil, fileSystem: disk) }
                == .usage)
        #expect(
            code { () throws(Refusal) in
                try StorePlaces(data: "/data", count: nil, listed: ["/a", "/a/"], fileSystem: disk)
            } == .usage)
    }
}
