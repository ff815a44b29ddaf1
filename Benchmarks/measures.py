"""What is measured, and how the load is called for it.

A measure is run on one server at a time, which is a turn; the load checks each reply and prints one line of JSON for
each interval. A figure is a number that is made of an interval.
"""

import dataclasses
import json
import random
import subprocess
from typing import Callable

from machine import forget_cached_pages
from servers import Failed

MIB, GIB = 1 << 20, 1 << 30

# A hung server is found by the load itself after two minutes without a reply; this ends a load that hangs.
LOAD_SECONDS = 1800


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is done in a turn."""

    large_mib: int
    window_mib: int
    writes: int  # of the large file in a turn, odd
    small_files_1: int
    small_files_8: int
    query_seconds: int
    entries: int
    # Of Sluice beside itself, see own.py.
    budget_mib: int
    beyond_budget_mib: int  # of a file that is larger than the budget
    open_files: int
    open_rounds: int  # WRITEs to each of them
    open_large_files: int  # with a stripe each
    synced_small: int  # calls of 4 KiB that wait for durability
    synced_large: int  # of 1 MiB
    journal_mib: int  # of small WRITEs before the kill


# The window is that of a kernel client's write-back: what it sends out of order is that far apart. The numbers of
# small files are what Sluice takes some seconds for. The open files get four times what may be pending in memory.
FULL = Sizes(large_mib=1024, window_mib=16, writes=5, small_files_1=500, small_files_8=1000, query_seconds=2,
             entries=100_000, budget_mib=256, beyond_budget_mib=4096, open_files=10_000, open_rounds=14,
             open_large_files=1500, synced_small=500, synced_large=100, journal_mib=1024)
QUICK = Sizes(large_mib=32, window_mib=16, writes=1, small_files_1=20, small_files_8=40, query_seconds=1, entries=2000,
              budget_mib=128, beyond_budget_mib=192, open_files=500, open_rounds=4, open_large_files=50,
              synced_small=20, synced_large=5, journal_mib=4)


@dataclasses.dataclass(frozen=True)
class Figure:
    key: str
    label: str
    unit: str
    more_is_better: bool
    of: Callable[[dict], float]  # the interval's line
    ratio_at_least: float | None = None  # to the peer


def megabytes_per_second(interval):
    return interval["bytes"] / 1e6 / interval["seconds"]


def operations_per_second(interval):
    return interval["operations"] / interval["seconds"]


def cpu_seconds_per_gib(interval):
    return interval["server_cpu_seconds"] / (interval["bytes"] / GIB)


def cpu_microseconds_per_operation(interval):
    return interval["server_cpu_seconds"] * 1e6 / interval["operations"]


def data_figures(key, label):
    return [Figure(key, label, "MB/s", True, megabytes_per_second),
            Figure(f"{key}-cpu", f"server's CPU, {label}", "s/GiB", False, cpu_seconds_per_gib)]


def rate_figures(key, label, unit, units, ratio_at_least=None):
    return [Figure(key, label, f"{units}/s", True, operations_per_second, ratio_at_least),
            Figure(f"{key}-cpu", f"server's CPU, {label}", f"µs/{unit}", False, cpu_microseconds_per_operation)]


def latency_figures(key, label):
    return [Figure(f"{key}-{percentile}", f"{label}, {percentile}", "ms", False,
                   lambda interval, percentile=percentile: interval[f"{percentile}_ms"]) for percentile in ("p50", "p99")]


class Load:
    """The load generators, built, with this run's sizes."""

    def __init__(self, program, syncs_program, sizes, seed):
        self.program, self.syncs_program, self.sizes = program, syncs_program, sizes
        self.random = random.Random(seed)

    def sync_files(self, directory, files, **options):
        """Parallel fdatasyncs of files in the directory, no server: {"fdatasync": its line}."""
        done = subprocess.run([self.syncs_program, str(files), str(options["block_bytes"]), str(options["count"]), directory],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOAD_SECONDS)
        if done.returncode != 0:
            raise Failed(f"syncs: {done.stderr.strip()}")
        return {"fdatasync": json.loads(done.stdout)}

    def run(self, server, measure, **options):
        """One call of the load: {name of the interval: its line}."""
        command = [self.program, "--nfs-port", server.nfs_port, "--mount-port", server.mount_port, "--export",
                   server.export, "--server", server.pid]
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            command += [flag] if value is True else [flag, value]
        done = subprocess.run([*map(str, command), measure], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=LOAD_SECONDS)
        if done.returncode != 0:
            raise Failed(f"{server.name}, {measure}: {done.stderr.strip()}\nthe server's log is {server.log}")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return {line["interval"]: line for line in lines}

    def new_seed(self):
        """Other bytes in each turn, so that those of an earlier turn cannot pass for them."""
        return self.random.getrandbits(63)


class Measure:
    """`name` is for --only; `figures` maps an interval's name to what is shown of it."""

    def __init__(self, name, about, figures, turn, prepare=None):
        self.name, self.about, self.figures = name, about, figures
        self.turn = turn
        self.prepare = prepare  # once for each server, before its first turn


def write_once(load, server, window):
    server.large_file_seed = load.new_seed()
    return load.run(server, "write", size=load.sizes.large_mib * MIB, window=window, seed=server.large_file_seed)


def write(load, server, window=0):
    """Writes several times: the first doesn't count, so that each turn begins alike, with the same file just written;
    of the others the one that took the median time does, for each interval.

    A single one shows what memory other programs have left: a virtual machine's host may take back pages that have been
    free for seconds (free page reporting), and then each GiB of page cache costs seconds of system time. Where this was
    written the same GiB, by either server, took 1.3 s four times of five and over 3 s the fifth.
    """
    write_once(load, server, window)
    runs = [write_once(load, server, window) for _ in range(load.sizes.writes)]
    return {name: sorted((run[name] for run in runs), key=lambda line: line["seconds"])[len(runs) // 2]
            for name in runs[0]}


def write_shuffled(load, server):
    return write(load, server, window=load.sizes.window_mib * MIB)


def read_cold(load, server):
    write_once(load, server, window=0)
    forget_cached_pages(server.files)
    return load.run(server, "read", size=load.sizes.large_mib * MIB, seed=server.large_file_seed)


def small_files(in_flight):
    def turn(load, server):
        count = load.sizes.small_files_1 if in_flight == 1 else load.sizes.small_files_8
        return load.run(server, "small", in_flight=in_flight, count=count, seed=load.new_seed())
    return turn


def sync_options(load, block_bytes):
    return {"block_bytes": block_bytes, "count": load.sizes.synced_small if block_bytes < MIB else load.sizes.synced_large}


def synced(block_bytes):
    def turn(load, server):
        return load.run(server, "sync", seed=load.new_seed(), **sync_options(load, block_bytes))
    return turn


def queries(measure, in_flight):
    def turn(load, server):
        return load.run(server, measure, in_flight=in_flight, seconds=load.sizes.query_seconds)
    return turn


def fill(load, server):
    return load.run(server, "fill", count=load.sizes.entries)["fill"]


def readdirplus(load, server):
    return load.run(server, "readdirplus", count=load.sizes.entries)


def small_measure(in_flight, words):
    return Measure(f"small-{in_flight}", f"CREATE, WRITE of 4 KiB and COMMIT for each file, {words}",
                   {"small": rate_figures(f"small-{in_flight}", f"small files, {in_flight} in flight", "file", "files",
                                          ratio_at_least=0.7)},
                   small_files(in_flight))


def sync_measure(name, block_bytes, label):
    return Measure(f"sync-{name}", f"WRITEs of {label} (FILE_SYNC), and COMMITs of one such WRITE, one call at a time, to a"
                   " file that was written before: seconds of a call",
                   {"file-sync": latency_figures(f"file-sync-{name}", f"FILE_SYNC {label}"),
                    "commit": latency_figures(f"commit-{name}", f"COMMIT {label}")}, synced(block_bytes))


def query_measure(name, in_flight):
    return Measure(f"{name}-{in_flight}", f"{name.upper()} of 256 files in turn, {in_flight} in flight",
                   {name: rate_figures(f"{name}-{in_flight}", f"{name.upper()}, {in_flight} in flight", "call", "calls")},
                   queries(name, in_flight))


MEASURES = [
    Measure("write", "WRITEs (UNSTABLE, 1 MiB, 8 in flight) in order and one COMMIT, timed together; then READs with the"
            " pages still cached, each byte compared",
            {"write": data_figures("write", "write + COMMIT in order"), "read": data_figures("read", "read, cached")},
            write),
    Measure("read-cold", "the same READs after the server's files were dropped from the page cache",
            {"read": data_figures("read-cold", "read, not cached")}, read_cold),
    Measure("write-shuffled", "the same WRITEs shuffled inside windows of 16 MiB, and the COMMIT; read back and compared;"
            " the median of five",
            {"write": data_figures("write-shuffled", "write + COMMIT shuffled")}, write_shuffled),
    small_measure(1, "one file at a time"),
    small_measure(8, "eight files at a time"),
    sync_measure("4k", 4096, "4 KiB"),
    sync_measure("1m", MIB, "1 MiB"),
    query_measure("getattr", 1),
    query_measure("getattr", 16),
    query_measure("lookup", 1),
    query_measure("lookup", 16),
    Measure("readdirplus", "a whole directory of 10^5 entries by READDIRPLUS, replies of 64 KiB, one in flight; filled"
            " once, 64 CREATEs in flight",
            {"readdirplus": rate_figures("readdirplus", "READDIRPLUS", "entry", "entries")}, readdirplus, prepare=fill),
]
