// The command line: one binary, sub-commands for people.

import ArgumentParser

@main
struct Sluice: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sluice",
        abstract: "An NFSv3 gateway over erasure-coded storage.",
        discussion: "See README.md for how to mount, operate and repair.",
        version: "0.1.0",
        subcommands: [Serve.self, Format.self, Status.self])

    static func main() async {
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch let refusal as Refusal {
            refusal.exit()
        } catch {
            exit(withError: error)
        }
    }
}
