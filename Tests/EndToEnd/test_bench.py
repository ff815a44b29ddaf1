"""tools/bench, in its quick form: that it works, checks what it reads, and says when a server is wrong or greedy."""

import json
import os
import subprocess
import sys
import types

import gateway
from harness import check, equal, test
from nfs3 import NFSError, Status

CLONE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(CLONE, "Benchmarks"))

from nfs3client.build import build  # noqa: E402
from report import OwnSeries, Series  # noqa: E402

# Each figure that a bench of all measures has: a rate and the server's CPU time.
FIGURES = ["write", "read", "read-cold", "write-shuffled", "small-1", "small-8", "getattr-1", "getattr-16", "lookup-1",
           "lookup-16", "readdirplus"]
LATENCIES = [f"{call}-{size}-{percentile}" for call in ("file-sync", "commit") for size in ("4k", "1m")
             for percentile in ("p50", "p99")]
# Those of Sluice beside itself or its disk, and what bounds each has.
OWN = {"write-shuffled-own": {"ratio"}, "write-backwards": {"ratio", "memory", "descriptors"},
       "memory-unordered": {"memory", "descriptors"}, "open-files": {"memory", "descriptors"},
       "open-files-gap": {"memory", "descriptors"}, "open-files-stripe": {"memory", "descriptors"}, "recovery": {"seconds"},
       **{f"disk-{latency}": {"ratio"} if latency == "file-sync-4k-p50" else set() for latency in LATENCIES}}
HAVE_BASE = {"write-shuffled-own", "write-backwards", *(f"disk-{latency}" for latency in LATENCIES)}


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
    equal({each["figure"] for each in found["figures"]}, {*(name + end for name in FIGURES for end in ("", "-cpu")), *LATENCIES},
          "the figures")
    equal({each["figure"]: each["ratio_at_least"] for each in found["figures"] if each["ratio_at_least"]},
          {"small-1": 0.7, "small-8": 0.7}, "the bounds of ratios to a peer")
    for each in found["figures"]:
        if not each["figure"].endswith("-cpu"):
            check(each["sluice_median"] > 0, f"{each['figure']} is {each['sluice_median']}")
        check(each["label"] in done.stdout, f"{each['label']} is not in the table")
    check(found["peak_resident_mib"]["sluice"] > 1, "there is no peak of memory")
    equal({each["measure"]: set(each["bounds"]) for each in found["own"]}, OWN, "the own measures and their bounds")
    for each in found["own"]:
        name = each["measure"]
        check(each["label"] in done.stdout, f"{each['label']} is not in the table")
        check(each["measured_median"] > 0, f"{name} is {each['measured_median']}")
        has_base = name in HAVE_BASE
        equal((len(each["base"]), each["ratio"] is not None), (1, True) if has_base else (0, False), f"{name}'s base")
        check(each["reached"].get("ratio") is None, f"{name}'s ratio was judged in a quick run")
        if "memory" in each["bounds"]:
            check(1 < each["peak_resident_mib"] <= each["bounds"]["memory"], f"{name}: {each['peak_resident_mib']} MiB")
            check(1 < each["most_descriptors"] < 4096, f"{name}: {each['most_descriptors']} descriptors")
    shuffled = next(each for each in found["own"] if each["measure"] == "memory-unordered")
    check(shuffled["taken"]["measured"][0]["counters"]["stalledWrites"] > 0, "the file was not larger than the memory")


@test("the bench says which bounds are not reached, and ends with 4")
def bounds(directory):
    figures = os.path.join(directory, "figures.json")
    done = bench("--quick", "--dir", directory, "--only", "memory-unordered,open-files,recovery", "--json", figures,
                 "--bound", "memory-unordered-memory=1", "--bound", "open-files-descriptors=2", "--bound", "recovery-seconds=0")
    equal(done.returncode, 4, f"the exit code; it said: {done.stderr}")
    after = done.stdout.split("NOT REACHED:\n")[-1].splitlines()
    equal(len(after), 3, f"bounds that are said not to be reached, of {done.stdout}")
    for line, name, end in ((after[0], "memory-unordered-memory", "MiB resident, at most 1.00 wanted"),
                            (after[1], "open-files-descriptors", "descriptors, below 2 wanted"),
                            (after[2], "recovery-seconds", "s, at most 0.00 wanted")):
        check(line.startswith(f"  {name}: ") and line.endswith(end), line)
    with open(figures) as file:
        found = {each["measure"]: each["reached"] for each in json.load(file)["own"]}
    equal(found, {"memory-unordered": {"memory": False, "descriptors": True},
                  "open-files": {"memory": True, "descriptors": False}, "recovery": {"seconds": False}}, "what is reached")


@test("a ratio of the bench to its own base is held against its bound, if it counts")
def ratios(directory):
    def series(measured, base=((100, 104), (100, 100), (96, 100)), at_most=None):
        series = OwnSeries(types.SimpleNamespace(name="order", base=True, ratio_at_most=at_most), {"ratio": at_most or 0.8})
        series.base, series.measured = list(base), measured
        return series

    equal(series([90, 80, 70]).reached("ratio"), True, "0.88, 0.80 and 0.71 reach 0.80 by their median of")
    equal(series([90, 79, 70]).not_reached(judges_ratio=True), ["order-ratio: a ratio of 0.79, at least 0.80 wanted"],
          "what is said of a median of 0.79")
    equal(series([90, 79, 70]).not_reached(judges_ratio=False), [], "what is said of it in a quick run")
    unsteady = series([10, 10, 10], base=((100, 120), (100, 120), (100, 100)))
    equal((unsteady.counts(), unsteady.reached("ratio")), (False, None), "a ratio to a base that is 20 % off itself")
    equal(series([190, 200, 210], at_most=2).reached("ratio"), True, "1.96, 2.00 and 2.14 reach at most 2.00 by their median of")
    equal(series([190, 201, 210], at_most=2).not_reached(judges_ratio=True), ["order-ratio: a ratio of 2.01, at most 2.00 wanted"],
          "what is said of a median of 2.01")


@test("a ratio of the bench to its peer is held against its bound, if it counts")
def peer_ratios(directory):
    def series(sluice, bound=0.7):
        series = Series(types.SimpleNamespace(key="small-1"), bound)
        series.sluice, series.peer = sluice, [100, 100, 100]
        return series

    equal(series([(70, 70), (60, 60), (80, 80)]).reached(), True, "a median of 0.70")
    equal(series([(69, 69), (60, 60), (80, 80)]).not_reached(),
          ["small-1-ratio: a ratio of 0.69 to the peer, at least 0.70 wanted"], "what is said of a median of 0.69")
    equal(series([(10, 12), (10, 12), (10, 10)]).reached(), None, "a ratio of what is 20 % off itself")
    equal(series([(10, 10), (10, 10), (10, 10)], None).reached(), None, "a ratio without a bound")


@test("the bench's load of open files refuses what a stranger wrote to one of them, in its gap and in its bytes")
def open_files(directory):
    load, gap, block_bytes = os.path.join(directory, "nfsload"), 1 << 20, 512
    build("nfsload", load)

    def run(*arguments):
        return subprocess.Popen(
            [load, "--nfs-port", str(server.port), "--count", "200", "--block-bytes", str(block_bytes), "--gap", str(gap),
             "--in-flight", "16", *arguments, "open"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def first_file(client, seed, process):
        """The load's first file, once the load has written to it."""
        while process.poll() is None:
            try:
                found = client.lookup(client.lookup(client.root, b"nfsload-%016x" % seed).handle, b"file-00000000")
                if client.getattr(found.handle).attributes.size > gap:
                    return found.handle
            except NFSError as error:
                equal(error.status, Status.NOENT, "why there is no file yet")
        check(False, f"the load ended before its first file was found: {process.communicate()}")

    def disturbed(seed, offset, *arguments):
        # A second of rounds at least, so that the file is there long enough.
        process = run("--rounds", "400", "--seed", str(seed), *arguments)
        with server.client() as client:
            client.write(first_file(client, seed, process), offset, b"?")
        return process.communicate(timeout=300)[1], process.returncode

    with gateway.Gateway("--data", os.path.join(directory, "data"), "--volumes", 5, "--listen", "127.0.0.1:0",
                         log=os.path.join(directory, "gateway.log")) as server:
        undisturbed = run("--rounds", "5", "--seed", "1")
        said, complaints = undisturbed.communicate(timeout=300)
        equal(undisturbed.returncode, 0, f"the exit code; it said: {complaints}")
        equal({line["interval"]: line["operations"] for line in map(json.loads, said.splitlines())},
              {"open": 200, "busy": 800, "read": 200}, "the calls")
        equal(disturbed(2, gap - 1), (f"nfsload: file 0 has a byte in its gap, at {gap - 1}\n", 1), "a byte in a gap")
        equal(disturbed(3, gap), (f"nfsload: file 0 was read otherwise than it was written, at {gap}\n", 1),
              "a byte that was overwritten")
        equal(disturbed(4, gap + 5, "--head", str(1 << 20)),
              (f"nfsload: file 0 was read otherwise than it was written, at {gap}\n", 1), "a byte of the head")


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
    for bound in ("write-backwards-speed=1", "write-shuffled-own-memory=1", "write-backwards-memory",
                  "write-backwards-memory=much", "small-1-memory=1", "recovery-ratio=1"):
        equal(bench("--bound", bound).returncode, 64, f"the exit code of the bound {bound}")
    done = subprocess.run(
        [os.path.join(CLONE, "tools/bench"), "--quick", "--servers", "sluice", "--binary", "/bin/false", "--dir", directory],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    equal(done.returncode, 1, "the exit code without a server")
    check("sluice does not start" in done.stderr, f"it said: {done.stderr}")
