"""tools/bench, in its quick form: that it works, checks what it reads, and says when a server is wrong."""

import json
import os
import subprocess
import sys

import gateway
from harness import check, equal, test

CLONE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(CLONE, "Benchmarks"))

from nfs3client.build import build  # noqa: E402

# Each figure that a bench of all measures has: a rate and the server's CPU time.
FIGURES = ["write", "read", "read-cold", "write-shuffled", "small-1", "small-8", "getattr-1", "getattr-16", "lookup-1",
           "lookup-16", "readdirplus"]


def bench(*arguments):
    return subprocess.run(
        [os.path.join(CLONE, "tools/bench"), *arguments, "--binary", gateway.binary, "--servers", "sluice"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


@test("a quick bench of the gateway alone measures everything and leaves nothing behind")
def quick(directory):
    work, figures = os.path.join(directory, "work"), os.path.join(directory, "figures.json")
    done = bench("--quick", "--dir", work, "--json", figures)
    equal(done.returncode, 0, f"the exit code; it said: {done.stderr}")
    equal(os.listdir(work), [], "what is left in its directory")
    with open(figures) as file:
        found = json.load(file)
    equal({each["figure"] for each in found["figures"]}, {name + end for name in FIGURES for end in ("", "-cpu")},
          "the figures")
    for each in found["figures"]:
        if not each["figure"].endswith("-cpu"):
            check(each["sluice_median"] > 0, f"{each['figure']} is {each['sluice_median']}")
        check(each["label"] in done.stdout, f"{each['label']} is not in the table")
    check(found["peak_resident_mib"]["sluice"] > 1, "there is no peak of memory")


@test("the bench's load refuses bytes other than it wrote")
def wrong_bytes(directory):
    load = os.path.join(directory, "nfsload")
    build("nfsload", load)

    def run(measure, seed):
        return subprocess.run(
            [load, "--nfs-port", str(server.port), "--size", str(8 << 20), "--seed", str(seed), measure],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)

    with gateway.Gateway("--data", os.path.join(directory, "data"), "--volumes", 5, "--listen", "127.0.0.1:0",
                         log=os.path.join(directory, "gateway.log")) as server:
        equal(run("write", 1).returncode, 0, "the exit code of writing and reading back")
        equal(run("read", 1).returncode, 0, "the exit code of reading the same")
        other = run("read", 2)
        equal(other.returncode, 1, "the exit code of reading other bytes than expected")
        check("was read otherwise than it was written" in other.stderr, f"it said: {other.stderr}")


@test("the bench refuses a wrong command line with 64 and a server that does not start with 1")
def refusals(directory):
    equal(bench("--only", "nothing").returncode, 64, "the exit code of an unknown measure")
    equal(bench("--pairs", "0").returncode, 64, "the exit code of no pairs")
    done = subprocess.run(
        [os.path.join(CLONE, "tools/bench"), "--quick", "--servers", "sluice", "--binary", "/bin/false", "--dir", directory],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    equal(done.returncode, 1, "the exit code without a server")
    check("sluice does not start" in done.stderr, f"it said: {done.stderr}")
