"""Own measures: Sluice beside itself, with another order of the same WRITEs or against a bound.

A pair is three turns, base, measure, base: the ratio is that of the measure to the mean of the two, as it is for a peer
(see report.py). A measure without a base is only held against bounds.

The latency of what must be durable has the disk itself as its base: as many fdatasyncs at once as a journal has replicas.

A measure with a budget runs on a server that was started for the turn (see fresh.py), so that peak memory is its own.
"""

import dataclasses
from typing import Callable

from measures import MIB, megabytes_per_second, operations_per_second, sync_options, synced, write, write_shuffled

# What Sluice may take beside its budget: the program, its metadata in use, SQLite.
ALLOWANCE_MIB = 64
# Descriptors that may be open stay below: hard limits of open files are often that low.
DESCRIPTORS = 4096
# Of RS-3-2-1024k: a file that has written a whole one, and no more, has a block group that can be appended to.
STRIPE_BYTES = 3 * MIB
# m + 1 of RS-3-2: a journal's replicas.
REPLICAS = 3
# Small enough never to be drained at once, and large enough to fill the journal in a minute.
JOURNAL_BLOCK_BYTES = 64 << 10


@dataclasses.dataclass(frozen=True)
class OwnMeasure:
    name: str  # for --only
    about: str
    label: str
    unit: str
    interval: str
    figure: Callable[[dict], float]  # of the interval's line
    turn: Callable  # as a Measure's
    base: Callable | None = None
    ratio_at_least: float | None = None
    ratio_at_most: float | None = None
    seconds_at_most: float | None = None
    base_interval: str | None = None  # if the base has another than the measure
    has_budget: bool = True
    is_killed: bool = False  # the turn fills a server of its own, and begins when that is killed
    counts_open_files: bool = False
    pairs: int = 3  # unless the command line says so; without a base: turns

    def bounds(self, sizes):
        """{what: limit}: the ratio at least or at most, MiB of resident memory at most, descriptors below, seconds at most."""
        bounds = {}
        if self.ratio_at_least is not None:
            bounds["ratio"] = self.ratio_at_least
        if self.ratio_at_most is not None:
            bounds["ratio"] = self.ratio_at_most
        if self.seconds_at_most is not None:
            bounds["seconds"] = self.seconds_at_most
        if self.has_budget:
            bounds["memory"] = sizes.budget_mib + ALLOWANCE_MIB
            bounds["descriptors"] = DESCRIPTORS
        return bounds


def write_beyond_budget(**order):
    def turn(load, server):
        return load.run(server, "write", size=load.sizes.beyond_budget_mib * MIB, seed=load.new_seed(), **order)
    return turn


def write_unordered(load, server):
    size = load.sizes.beyond_budget_mib * MIB
    return load.run(server, "write", size=size, window=size, seed=load.new_seed())


def open_files(load, server, gap=0):
    return load.run(server, "open", count=load.sizes.open_files, rounds=load.sizes.open_rounds, gap=gap, block_bytes=4096,
                    in_flight=64, seed=load.new_seed())


def open_files_behind_gap(load, server):
    return open_files(load, server, gap=MIB)


def open_large_files(load, server):
    return load.run(server, "open", count=load.sizes.open_large_files, rounds=load.sizes.open_rounds, head=STRIPE_BYTES,
                    block_bytes=4096, in_flight=8, seed=load.new_seed())


def open_measure(name, about, label, turn, turns=2):
    return OwnMeasure(name, about, f"WRITEs to open files, {label}", "calls/s", "busy", operations_per_second, turn,
                      counts_open_files=True, pairs=turns)


def sync_disk(block_bytes):
    def turn(load, server):
        return load.sync_files(server.directory, REPLICAS, **sync_options(load, block_bytes))
    return turn


def latency_measures(name, block_bytes, label, at_most):
    """FILE_SYNC and COMMIT, p50 and p99, of which one is bounded."""
    for interval in ("file-sync", "commit"):
        for percentile in ("p50", "p99"):
            words = f"{interval.upper().replace('-', '_')} {label}, {percentile}"
            yield OwnMeasure(
                f"disk-{interval}-{name}-{percentile}", f"{words}, beside {REPLICAS} fdatasyncs at once of {label} each, of"
                " files that were written before", f"{words}, to {REPLICAS} fdatasyncs", "ms", interval,
                lambda line, percentile=percentile: line[f"{percentile}_ms"], synced(block_bytes), base=sync_disk(block_bytes),
                base_interval="fdatasync", has_budget=False, pairs=5,
                ratio_at_most=at_most if (interval, percentile) == ("file-sync", "p50") else None)


OWN_MEASURES = [
    OwnMeasure("write-shuffled-own", "write-shuffled as a share of Sluice's own rate in order",
               "write + COMMIT shuffled", "MB/s", "write", megabytes_per_second, write_shuffled, base=write, ratio_at_least=0.95, has_budget=False, pairs=5),
    OwnMeasure("write-backwards", "a file much larger than the memory, the last MiB first, 8 in flight, and one COMMIT;"
               " read back and compared", "write + COMMIT backwards", "MB/s", "write", megabytes_per_second,
               write_beyond_budget(backwards=True), base=write_beyond_budget(), ratio_at_least=0.8),
    OwnMeasure("memory-unordered", "the same, shuffled over the whole file", "write + COMMIT shuffled over the whole file",
               "MB/s", "write", megabytes_per_second, write_unordered, pairs=2),
    open_measure("open-files", "many files open at once, each gets a WRITE (UNSTABLE, 4 KiB, 64 in flight) in turn, round"
                 " after round; no COMMIT; then all is read and compared", "one after the other", open_files),
    open_measure("open-files-gap", "the same, each file's first byte behind a gap", "behind a gap of 1 MiB",
                 open_files_behind_gap),
    open_measure("open-files-stripe", "the same, fewer files, each with a stripe before the rounds",
                 "behind a stripe of 3 MiB", open_large_files, turns=1),
    *latency_measures("4k", 4096, "4 KiB", at_most=2),
    *latency_measures("1m", MIB, "1 MiB", at_most=None),
    OwnMeasure("recovery", "kill -9 after many WRITEs of 64 KiB (FILE_SYNC, 64 in flight, gaps between them), a start from"
               " the disk, and the first reply; then all is read and compared", "start with a full journal, to the first reply", "s",
               "recovery", lambda line: line["seconds"], None, seconds_at_most=5, has_budget=False, is_killed=True),
]
