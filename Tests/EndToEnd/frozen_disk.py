#!/usr/bin/env python3
"""Freezes disks of a store while files are made, and looks whether they are made all the same, and kept.

Run by test_frozen_disk.py, as root and in a mount namespace of its own:

    unshare --mount frozen_disk.py --binary SLUICE --directory DIR

Each volume is an ext4 image on a loop device (power_cut.py). FIFREEZE holds up whatever writes to one, for ever: no error, no
end, and the threads that do it can't even be killed. That is what a disk does that doesn't answer any more.
"""

import argparse
import fcntl
import os
import sys
import time

import gateway
from harness import check, equal
from nfs3 import UNSTABLE
from power_cut import Disks, serve

# _IOWR('X', 119 and 120, int) of the kernel's fs.h.
FIFREEZE = 3 << 30 | 4 << 16 | ord("X") << 8 | 119
FITHAW = 3 << 30 | 4 << 16 | ord("X") << 8 | 120

FILES = 20
# Of the journal's replicas.
PATIENCE_SECONDS = 10


def content(name):
    return name * 300


def make_files(client, word):
    """Files of some KiB, each committed. Returns the time of the slowest."""
    slowest = 0
    for number in range(FILES):
        name = b"%s-%d" % (word, number)
        before = time.monotonic()
        handle = client.create(client.root, name).handle
        verifier = client.write(handle, 0, content(name), UNSTABLE).verifier
        equal(client.commit(handle).verifier, verifier, "the verifier of COMMIT")
        slowest = max(slowest, time.monotonic() - before)
    return slowest


def check_files(client, words):
    for word in words:
        for number in range(FILES):
            name = b"%s-%d" % (word, number)
            handle = client.lookup(client.root, name).handle
            equal(client.read(handle, 0, 1 << 20).data, content(name), f"the content of {name}")


def run(disks, log):
    words = [b"before", b"frozen", b"again"]
    with serve(disks, log) as server, server.client() as client:
        quickest = make_files(client, words[0])
        replicas = [
            index for index, volume in enumerate(disks.volumes) if os.path.isdir(os.path.join(volume, "journal"))]
        equal(len(replicas), 3, "the volumes with a replica of the journal")
        fcntl.ioctl(disks.descriptors[replicas[0]], FIFREEZE, 0)
        try:
            slowest = make_files(client, words[1])
            # Once, and then no more.
            afterwards = make_files(client, words[2])
            print(
                f"slowest file: {quickest:.2f} s, {slowest:.2f} s when volume {replicas[0]} froze, "
                f"then {afterwards:.2f} s")
            check(slowest >= 0.9 * PATIENCE_SECONDS, "the frozen volume was not waited for: it had no replica")
            check(
                slowest < 3 * PATIENCE_SECONDS and afterwards < 0.5 * PATIENCE_SECONDS,
                "the frozen volume was waited for too long, or again")
            check_files(client, words)
            # Its threads on the frozen disk end when that goes on.
            server.process.kill()
        finally:
            fcntl.ioctl(disks.descriptors[replicas[0]], FITHAW, 0)
        server.kill()
    with serve(disks, log) as server, server.client() as client:
        check_files(client, words)
        # When older segments of the journal have come to the volume that is back.
        end = time.monotonic() + gateway.START_TIMEOUT_SECONDS
        while (status := gateway.status(disks.data))["health"] != "green":
            check(time.monotonic() < end, f"the store is not green with the volume back: {status['reasons']}")
        equal(server.stop(), 0, "the exit code")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--directory", required=True)
    arguments = parser.parse_args()
    gateway.binary = arguments.binary
    disks = Disks(arguments.directory, 5)
    disks.format(3, 2)
    try:
        run(disks, os.path.join(arguments.directory, "gateway.log"))
    finally:
        for server in list(gateway.Gateway.running):
            server.kill()
        disks.unmount()
    disks.delete()
    return 0


if __name__ == "__main__":
    sys.exit(main())
