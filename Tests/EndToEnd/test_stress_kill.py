"""tools/stress --kill: the gateway keeps what it has promised however often it is killed, and a server that lies is found.

`SLUICE_KILLS=100 Tests/EndToEnd/run "as often as"` is the long variant.
"""

import json
import os
import shlex
import socket
import subprocess
import sys

import gateway
from harness import check, equal, test, test_each

HERE = os.path.dirname(os.path.abspath(__file__))
CLONE = os.path.dirname(os.path.dirname(HERE))

# A kill, the start and the work until the next take some 3 s where this was written.
SECONDS_FOR_A_KILL = 30


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def stress(directory, command, port, kills, *arguments):
    """Runs it: (exit code, what it said, the summary or None). The seed is a new one each time, and is printed."""
    summary = os.path.join(directory, "summary.json")
    log = shlex.quote(os.path.join(directory, "server.log"))
    done = subprocess.run(
        [os.path.join(CLONE, "tools/stress"), "--kill", f"exec {shlex.join(map(str, command))} 2>>{log}", "--kills", str(kills),
         "--json", summary, *map(str, arguments), f"nfs://127.0.0.1:{port}/"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120 + kills * SECONDS_FOR_A_KILL)
    print("".join(f"  {line}\n" for line in done.stderr.splitlines() if "seed" in line), end="")
    found = None
    if os.path.exists(summary):
        with open(summary) as file:
            found = json.load(file)
    return done.returncode, done.stdout + done.stderr, found


def serve(directory, port):
    return [gateway.binary, "serve", "--data", os.path.join(directory, "data"), "--volumes", 5, "--policy", "RS-3-2-64k",
            "--memory", "512MiB", "--listen", f"127.0.0.1:{port}"]


def kill_well(directory, kills, *arguments):
    port = free_port()
    code, said, found = stress(directory, serve(directory, port), port, kills, *arguments)
    equal(code, 0, f"the exit code; it said: {said[-3000:]}")
    check("all that was promised is there" in said, f"no verdict: {said}")
    equal(found["kills"], kills + 1, "kills, the one when all is committed included")
    for name in ("verifier_changes", "names_made", "names_renamed", "names_removed", "named_writes", "names_verified"):
        check(found[name] > 0, f"{name} is 0: the run tests less than it says")
    check(found["writes_resent"] + found["writes_superseded"] > 0, "no write had to be sent again")
    return found


@test("stress kills the gateway at random moments, and all that was promised is there")
def killed(directory):
    kill_well(directory, 6, "--kill-every", 1.5, "--size", "8M", "--namers", 3)


@test("stress kills the gateway mostly while it starts, and all that was promised is there")
def killed_early(directory):
    found = kill_well(directory, 10, "--kill-every", 0.7, "--kill-early", 0.7, "--size", "4M", "--files", 2)
    check(found["kills_while_starting"] > 0, "no kill came while it started")


if os.environ.get("SLUICE_KILLS"):
    @test(f"stress kills the gateway as often as SLUICE_KILLS says: {os.environ['SLUICE_KILLS']} times")
    def killed_often(directory):
        kill_well(directory, int(os.environ["SLUICE_KILLS"]), "--kill-every", 1.5, "--size", "16M", "--namers", 4)


def lying(directory, lie, namers=2, kills=3):
    port = free_port()
    command = [sys.executable, os.path.join(HERE, "liar.py"), "--lie", lie, "--listen", port, "--directory", directory,
               "--binary", gateway.binary]
    return stress(directory, command, port, kills, "--kill-every", 1, "--kill-early", 0, "--size", "2M", "--connections", 2,
                  "--in-flight", 4, "--retransmit", 0, "--namers", namers, "--max-length", "32k")


# What must be said of each: of names, or of bytes that the data model has. Whatever of a lost WRITE is looked at first.
LOST = ("promised", "expected", "the size was", "the size is", "its mtime is")
LIES = {"commit": LOST, "verifier": LOST, "file-sync": LOST, "name": ("the name is gone", "is not listed", "is stale"),
        "ghost": ("was removed",), "size": ("size is",), "byte": ("which was promised",), "mtime": ("its mtime is",)}


@test_each("stress finds out a server that lies: {lie}", lie=list(LIES))
def liars(directory, lie):
    expect_found(lying(directory, lie), LIES[lie])


@test_each("stress finds out a server that lies without namers, too: {lie}", lie=["commit", "verifier", "file-sync"])
def liars_without_namers(directory, lie):
    expect_found(lying(directory, lie, namers=0), ("; expected", "the size was"))


def expect_found(result, words):
    code, said, found = result
    equal(code, 1, f"the exit code; it said: {said}")
    check("verdict, seed" in said and "WRONG" in said, f"no verdict: {said}")
    check(any(each in said for each in words), f"it said something else: {said}")
    equal(found["is_right"], False, "is_right in the summary")


@test("stress finds nothing wrong with the same server when it doesn't lie")
def honest(directory):
    code, said, _ = lying(directory, "none")
    equal(code, 0, f"the exit code; it said: {said}")


@test("stress says that a server it has started has ended by itself, or doesn't answer")
def ends(directory):
    port = free_port()
    code, said, _ = stress(directory, ["false"], port, 1)
    equal(code, 1, "the exit code")
    check("ended by itself, with exit code 1" in said, f"it said: {said}")
    code, said, _ = stress(directory, ["sleep", 600], port, 1, "--patience", 0.5)
    equal(code, 1, "the exit code")
    check("has not answered NULL" in said, f"it said: {said}")
