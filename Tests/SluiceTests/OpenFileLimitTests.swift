// How descriptors are shared between volumes and connections.

import Testing

@testable import sluice

@Suite("limit on open files")
struct OpenFileLimitTests {
    @Test("a quarter is for connections, at most 4,096, and others, the rest for volumes")
    func shares() {
        #expect(OpenFileLimit.Shares(of: 1024).connections == 128)
        #expect(OpenFileLimit.Shares(of: 1024).volumes == 768)
        #expect(OpenFileLimit.Shares(of: 16_892).connections == 4095)
        #expect(OpenFileLimit.Shares(of: 20_000).connections == 4096)
        #expect(OpenFileLimit.Shares(of: 65_536).connections == 4096)
        #expect(OpenFileLimit.Shares(of: 20_000, files: 65_536).volumes == 15_000)
    }

    @Test("all but connections are at most 4,096, or what the configuration says")
    func files() {
        #expect(OpenFileLimit.Shares(of: 65_536).volumes == 4096 - 128)
        #expect(OpenFileLimit.Shares(of: 65_536, files: 512).volumes == 512 - 128)
        #expect(OpenFileLimit.Shares(of: 65_536, files: 512).connections == 4096)
        #expect(OpenFileLimit.Shares(of: 1024, files: 4096).volumes == 768)
    }

    @Test("shares and 128 others are within the limit, from the least with which there is enough for each")
    func sums() {
        for limit in 208...70_000 {
            let shares = OpenFileLimit.Shares(of: limit)
            #expect(shares.connections >= 16 && shares.volumes >= 64)
            if shares.volumes + shares.connections + 128 > limit { Issue.record("\(limit): \(shares)") }
        }
    }

    @Test("with fewer there is a least for each, whatever the limit")
    func least() {
        for limit in [0, 1, 64, 207] {
            #expect(OpenFileLimit.Shares(of: limit).connections == 16)
            #expect(OpenFileLimit.Shares(of: limit).volumes == 64)
        }
    }
}
