"""Sluice with a memory budget, freshly started for one turn: the peak of a process's memory is that of its whole life.

What is looked at meanwhile: the peak of its resident memory (VmHWM), file descriptors, and files that are open.
"""

import contextlib
import os
import shutil
import tempfile
import threading

from measures import MIB
from own import JOURNAL_BLOCK_BYTES
from servers import Failed, Sluice

DESCRIPTORS_EVERY_SECONDS = 0.05
# `sluice status` is a program that starts: seldom enough not to show in the rate.
STATUS_EVERY_SECONDS = 1


class Watch(threading.Thread):
    """Counts a server's file descriptors, and the files open on it, until `stop`; what failed is raised there."""

    def __init__(self, server, counts_open_files):
        super().__init__(daemon=True)
        self.server, self.counts_open_files = server, counts_open_files
        self.descriptors = self.open_files = 0
        self._stopped = threading.Event()
        self._failure = None
        self.start()

    def run(self):
        rounds = int(STATUS_EVERY_SECONDS / DESCRIPTORS_EVERY_SECONDS)
        tick = 0
        try:
            while not self._stopped.wait(DESCRIPTORS_EVERY_SECONDS):
                self.descriptors = max(self.descriptors, self.server.descriptors())
                tick += 1
                if self.counts_open_files and tick % rounds == 0:
                    self.open_files = max(self.open_files, self.server.counters()["openFiles"])
        except (OSError, Failed) as failure:
            self._failure = failure

    def stop(self):
        self._stopped.set()
        self.join()
        if self._failure:
            raise Failed(f"{self.server.name} could not be watched: {self._failure}")


# The WRITEs come in so many parts, after each of which is looked how full the journal is, and at most twice as many.
JOURNAL_PARTS = 4
# Sluice settles files when its journal is half full. So that it has in it what is wanted, it may take more than twice that.
JOURNAL_ROOM = 2.25
LEAST_JOURNAL_MIB = 128


def journal_options(load):
    return {"size": load.sizes.journal_mib * MIB // JOURNAL_PARTS, "block_bytes": JOURNAL_BLOCK_BYTES}


def fill_journal(load, server):
    """The seeds of the parts, and what was in the journal at last, if its status says so.

    A server empties its journal while it is filled; so when all is written, more is, until it is as full as is wanted.
    """
    seeds, filled = [], 0
    while filled < load.sizes.journal_mib * MIB and len(seeds) < 2 * JOURNAL_PARTS:
        seeds.append(load.new_seed())
        load.run(server, "journal", seed=seeds[-1], in_flight=64, **journal_options(load))
        filled = server.journal_bytes()
    return seeds, filled


class FreshServers:
    """Starts a server for each turn, in a directory of its own, which stays until the next has started.

    Not longer, since a turn leaves some GiB; and not shorter, so that the pages of its files are free only just before
    they are used again: a virtual machine's host takes back what has been free for seconds, and giving it again costs
    as much time as writing it (see `measures.write`).
    """

    def __init__(self, directory, binary, memory_mib):
        self.directory, self.binary, self.memory_mib = directory, binary, memory_mib
        self._last = None

    def turn(self, load, run, counts_open_files):
        """Runs `run(load, server)`: its intervals, and what the server took."""
        directory = tempfile.mkdtemp(prefix="fresh.", dir=self.directory)
        os.sync()
        server = Sluice(directory, self.binary, f"{self.memory_mib}MiB")
        with contextlib.ExitStack() as stack:
            stack.callback(server.stop)
            self.forget_last()
            self._last = directory
            watch = Watch(server, counts_open_files)
            try:
                intervals = run(load, server)
            finally:
                # A failure of the load says more than one of the watch.
                with contextlib.suppress(Failed):
                    watch.stop()
            watch.stop()
            taken = {"memory_mib": server.memory_kib("VmHWM") / 1024, "descriptors": watch.descriptors,
                     "open_files": watch.open_files or None, "counters": server.counters()}
        if server.process.returncode != 0:
            raise Failed(f"sluice ended with exit code {server.process.returncode}; its log is {server.log}")
        return intervals, taken

    def recovery(self, load):
        """Fills a server with small synced WRITEs, kills and starts it: the interval that the start took, and what was there."""
        directory = tempfile.mkdtemp(prefix="fresh.", dir=self.directory)
        self.forget_last()
        self._last = directory
        journal_mib = max(LEAST_JOURNAL_MIB, int(load.sizes.journal_mib * JOURNAL_ROOM))
        server = Sluice(directory, self.binary, journal=f"{journal_mib}MiB")
        with contextlib.ExitStack() as stack:
            stack.callback(server.stop)
            seeds, journal_bytes = fill_journal(load, server)
            seconds = server.kill_and_start()
            for seed in seeds:
                load.run(server, "journal-read", seed=seed, in_flight=16, **journal_options(load))
        if server.process.returncode != 0:
            raise Failed(f"sluice ended with exit code {server.process.returncode}; its log is {server.log}")
        committed = len(seeds) * load.sizes.journal_mib * MIB // JOURNAL_PARTS
        return {"recovery": {"interval": "recovery", "seconds": seconds, "operations": 1, "bytes": committed,
                             "journal_bytes": journal_bytes}}

    def forget_last(self):
        if self._last:
            shutil.rmtree(self._last)
        self._last = None
