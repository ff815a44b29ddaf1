"""tools/stress: that it finds what is wrong with a server, and that the gateway is right, also when it is killed."""

import json
import os
import subprocess

import gateway
from harness import check, equal, test
from kill_hook import KillHook
from store import Store

CLONE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Half a minute where this was written, on a machine that did much else; a run that hangs ends by its own patience.
RUN_TIMEOUT_SECONDS = 600


def stress(*arguments):
    return subprocess.run(
        [os.path.join(CLONE, "tools/stress"), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=RUN_TIMEOUT_SECONDS)


def run_well(directory, *arguments):
    """Runs it, which must succeed; returns the summary."""
    summary = os.path.join(directory, "summary.json")
    done = stress("--json", summary, "--patience", 300, *arguments)
    equal(done.returncode, 0, f"the exit code; it said: {done.stderr[-3000:]}")
    with open(summary) as file:
        return json.load(file)


@test("stress finds each fault of a server that is wrong, and none in one that is right")
def self_test(directory):
    done = stress("--self-test", "--seed", 1)
    equal(done.returncode, 0, f"the exit code; it said: {done.stdout}")
    check("0 of 13 failed" in done.stdout, f"it said: {done.stdout}")


@test("stress finds nothing wrong: several connections, copies of calls, dropped connections, truncation")
def plain(directory):
    with Store(directory, 3, 2).serve() as server:
        found = run_well(directory, "--seed", 1, "--operations", 8000, "--duplicate-share", 0.1, "--truncate-share", 0.002,
                         "--size", "16M", f"nfs://127.0.0.1:{server.port}/")
        with server.client() as client:
            left = [entry.name for entry in client.readdir(client.root).entries if entry.name not in (b".", b"..")]
            equal(left, [], "what it leaves behind")
        equal(server.stop(), 0, "the exit code of SIGTERM")
    for name in ("connections_dropped", "calls_replayed", "same_xid_copies", "late_copies", "other_xid_copies"):
        check(found[name] > 0, f"{name} is 0: the run tests less than it says")
    equal(found["bytes_verified"], 4 * 16 << 20, "the bytes read back")
    equal(found["verifier_changes"], 0, "changes of the verifier")


@test("stress finds nothing wrong with small files and windows, where everything overlaps")
def overlapping(directory):
    with Store(directory, 3, 2).serve() as server:
        run_well(directory, "--seed", 2, "--operations", 8000, "--files", 2, "--size", "1M", "--window", "128k", "--max-length",
                 "32k", "--connections", 8, "--read-share", 0.4, f"nfs://127.0.0.1:{server.port}/")


@test("stress finds all that was committed when the gateway is killed again and again in the middle")
def killed(directory):
    store = Store(directory, 3, 2)
    servers = [store.serve()]
    port = servers[0].port

    def kill(is_last):
        servers[-1].kill()
        servers.append(store.serve(port))

    with KillHook(directory, kill) as hook:
        found = run_well(directory, "--seed", 3, "--seconds", 8, "--size", "16M", "--commit-share", 0.01, "--kill-every", 2,
                         "--kill-hook", hook.command, f"nfs://127.0.0.1:{port}/")
    check(found["kills"] >= 2, f"only {found['kills']} kills, one of them when all was committed")
    check(found["verifier_changes"] >= 1, "the verifier never changed")
    check(found["writes_resent"] + found["writes_superseded"] > 0, "no write had to be sent again")
    equal(found["bytes_verified"], 4 * 16 << 20, "the bytes read back")


@test("stress makes the same operations for the same seed, and others for another")
def same_operations(directory):
    def made(server, seed):
        # What is sent twice depends on when connections are dropped.
        found = run_well(directory, "--seed", seed, "--operations", 500, "--retransmit", 0, "--duplicate-share", 0, "--size",
                         "4M", f"nfs://127.0.0.1:{server.port}/")
        return found["bytes_written"], {kind: each["count"] for kind, each in found["latencies"].items() if kind != "COMMIT"}

    with Store(directory, 3, 2).serve() as server:
        first = made(server, 4)
        equal(made(server, 4), first, "the bytes and calls of the same seed")
        check(made(server, 5) != first, "another seed makes the same")


@test("stress refuses a wrong command line with 64, and a server that isn't there with 1")
def refusals(directory):
    for arguments in ([], ["nfs://127.0.0.1"], ["nfs:/"], ["--files", 0, "nfs://127.0.0.1/"],
                      ["--read-share", 2, "nfs://127.0.0.1/"], ["--read-share", 0.6, "--commit-share", 0.6, "nfs://127.0.0.1/"]):
        equal(stress(*arguments).returncode, 64, f"the exit code of {arguments}")
    # Port 1 of loopback: nobody may listen there but root, and nobody does.
    done = stress("--patience", 0.2, "nfs://127.0.0.1:1/")
    equal(done.returncode, 1, "the exit code without a server")
    check("no connection" in done.stderr, f"it said: {done.stderr}")
