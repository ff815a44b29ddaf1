#!/usr/bin/env python3
"""Cuts the power of a store's disks right after a promise, and looks for what was promised.

Run by test_power_cut.py, as root and in a mount namespace of its own:

    unshare --mount power_cut.py --binary SLUICE --directory DIR --policy K,M --rounds N --seed S [--preload LIBRARY]

Each volume is an ext4 image on a loop device, and so is the data directory. EXT4_IOC_SHUTDOWN with NOLOGFLUSH
makes each image what its disk held at that moment: all that was not synced is gone, as kill -9 alone never
shows, since the page cache outlives the process. Exit code 0: all was there; 3: something promised was lost.
"""

import argparse
import fcntl
import itertools
import os
import shutil
import struct
import subprocess
import sys
from random import Random

import gateway
from harness import Failure, check, equal
from model import Model, ranges
from nfs3 import FILE_SYNC, NFSError

LOST = 3

# _IOR('X', 125, __u32) of the kernel's ext4.h, and its flag that leaves the file system's journal unwritten.
EXT4_IOC_SHUTDOWN = 2 << 30 | 4 << 16 | ord("X") << 8 | 125
EXT4_GOING_FLAGS_NOLOGFLUSH = 2

IMAGE_BYTES = 256 << 20  # sparse
# The last promise before the cut, one for each round in turn.
LAST_WORDS = ("COMMIT", "FILE_SYNC", "RENAME", "MKDIR", "REMOVE", "SETATTR", "CREATE", "COMMIT of an overwrite")


class Lost(Exception):
    """Something that was promised before the power cut is not there."""


class Disks:
    """Mounted images, one for each volume and one for the data directory."""

    def __init__(self, directory, volumes, image_bytes=IMAGE_BYTES):
        self.mounts = [os.path.join(directory, f"disk-{index}") for index in range(volumes + 1)]
        for mount in self.mounts:
            os.mkdir(mount)
            with open(mount + ".ext4", "wb") as image:
                image.truncate(image_bytes)
            # Inode tables at once: the kernel would otherwise go on writing them in the background.
            subprocess.run(
                ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", mount + ".ext4"], check=True)
        self.mount()
        # Below the mount points, so that a volume can be deleted whole.
        *self.volumes, self.data = [os.path.join(mount, "store") for mount in self.mounts]
        for path in [*self.volumes, self.data]:
            os.mkdir(path)

    def mount(self):
        for mount in self.mounts:
            # commit=600: ext4 must not happen to make durable within seconds what the gateway forgot to sync.
            subprocess.run(["mount", "-o", "loop,commit=600", mount + ".ext4", mount], check=True)
        self.descriptors = [os.open(mount, os.O_RDONLY) for mount in self.mounts]

    def format(self, k, m):
        """Makes the volumes a store."""
        named = [word for volume in self.volumes for word in ("--volume", volume)]
        code, _, errors = gateway.sluice("format", "--data", self.data, *named, "--policy", f"RS-{k}-{m}-64k")
        equal(code, 0, f"the exit code of format: {errors}")
        self.sync()

    def sync(self):
        subprocess.run(["sync", "--file-system", *self.mounts], check=True)

    def cut_power(self):
        """All at once, as nearly as one thread can."""
        flags = struct.pack("=I", EXT4_GOING_FLAGS_NOLOGFLUSH)
        for descriptor in self.descriptors:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, flags)

    def unmount(self):
        for descriptor in self.descriptors:
            os.close(descriptor)
        for mount in self.mounts:
            subprocess.run(["umount", mount], check=True)

    def delete(self):
        for mount in self.mounts:
            os.remove(mount + ".ext4")
            os.rmdir(mount)


class Promises:
    """What the store has promised: directories by path, and files by path."""

    def __init__(self, seed):
        self.seed = seed
        self.random = Random(seed)
        self.directories = {}  # name in the root -> file id
        self.files = {}  # (directory's name or None, name) -> Model
        self.attributes = {}  # the same key -> what GETATTR told at the promise
        self.undecided = None  # a file with WRITEs that nothing promised; `old` is what it held before them

    def work(self, client, last_word, stripe):
        """Some of everything, and as the last thing what `last_word` says."""
        random = self.random
        self.client, self.stripe = client, stripe
        for each in self.files.values():
            each.client = client
        self.make_directory()
        for _ in range(6):
            self.make_file(random.choice([None, *self.directories]), ranges(random.randrange(1, 9000), 3000))
        large = ranges(stripe + random.randrange(stripe), 262_144)
        self.make_file(None, large)
        random.shuffle(large)
        self.make_file(random.choice(list(self.directories)), large)
        self.overwrite()
        self.rename()
        self.remove()
        self.truncate()
        self.leave_undecided()
        {"COMMIT": lambda: self.make_file(None, ranges(stripe // 2 + 777, 65_536)),
         "FILE_SYNC": lambda: self.make_file(None, ranges(200_000, 40_000), FILE_SYNC),
         "RENAME": self.rename, "MKDIR": self.make_directory, "REMOVE": self.remove, "SETATTR": self.truncate,
         "CREATE": lambda: self.make_file(None, []),
         "COMMIT of an overwrite": self.overwrite}[last_word]()

    def new_name(self):
        return b"%016x" % self.random.getrandbits(64)

    def directory(self, name):
        return self.client.root if name is None else self.client.lookup(self.client.root, name).handle

    def make_directory(self):
        name = self.new_name()
        self.directories[name] = self.client.mkdir(self.client.root, name, mode=0o755).attributes.file_id

    def make_file(self, directory, pieces, stable=None):
        model = Model(self.client, self.new_name(), self.random.getrandbits(64), self.directory(directory))
        self.files[directory, model.name] = model
        if stable is not None:
            replies = model.write(pieces, stable)
            self.attributes[directory, model.name] = max(
                (reply.attributes for reply in replies), key=lambda attributes: attributes.changed)
        elif pieces:
            replies = model.write(pieces)
            # The attributes first: after COMMIT's reply comes the cut, and nothing before it.
            self.attributes[directory, model.name] = self.client.getattr(model.handle).attributes
            model.commit(replies)

    def some_file(self):
        keys = [key for key, model in self.files.items() if model is not self.undecided and model.bytes]
        return self.random.choice(keys)

    def overwrite(self):
        key = self.some_file()
        model = self.files[key]
        size = len(model.bytes)
        replies = model.write([(self.random.randrange(size), self.random.randrange(1, 60_000)) for _ in range(4)])
        self.attributes[key] = self.client.getattr(model.handle).attributes
        model.commit(replies)

    def rename(self):
        directory, name = key = self.some_file()
        model = self.files.pop(key)
        self.attributes.pop(key, None)  # its ctime changes
        to_directory = self.random.choice([None, *self.directories])
        # Handles first, so that RENAME's is the last reply.
        source, target = self.directory(directory), self.directory(to_directory)
        model.name = self.new_name()
        self.files[to_directory, model.name] = model
        self.client.rename(source, name, target, model.name)

    def remove(self):
        directory, name = key = self.some_file()
        del self.files[key]
        self.attributes.pop(key, None)
        self.client.remove(self.directory(directory), name)

    def truncate(self):
        key = self.some_file()
        model = self.files[key]
        self.attributes.pop(key, None)
        model.truncate(self.random.randrange(1, 2 * len(model.bytes)))

    def leave_undecided(self):
        """Overwrites part of a promised file without COMMIT: each byte may then be the old or the new one."""
        self.make_file(None, ranges(400_000, 65_536))
        key, self.undecided = list(self.files.items())[-1]
        self.attributes.pop(key)
        self.old = bytes(self.undecided.bytes)
        self.undecided.write([(50_000, 30_000), (200_001, 100_000)])

    def check(self, client):
        found = {entry.name: entry.file_id for entry in client.list(client.root)}
        names = {name for directory, name in self.files if directory is None} | set(self.directories)
        equal(set(found), names | {b".", b".."}, "the names in the root")
        for directory, file_id in self.directories.items():
            equal(found[directory], file_id, "a directory's file id")
            names = {name for inside, name in self.files if inside == directory}
            listed = {entry.name for entry in client.list(client.lookup(client.root, directory).handle)}
            equal(listed, names | {b".", b".."}, f"the names in {directory}")
        for key, model in self.files.items():
            directory, name = key
            parent = client.root if directory is None else client.lookup(client.root, directory).handle
            equal(client.lookup(parent, name).handle, model.handle, f"the handle of {name}")
            if key in self.attributes:
                now, then = client.getattr(model.handle).attributes, self.attributes[key]
                equal((now.size, now.modified, now.changed, now.mode), (then.size, then.modified, then.changed, then.mode),
                      f"size, mtime, ctime and mode of {name}")
            if model is self.undecided:
                found = client.read_file(model.handle)
                equal(len(found), len(self.old), "the size of the undecided file")
                for at, (old, new, byte) in enumerate(zip(self.old, model.bytes, found)):
                    if byte != old and byte != new:
                        raise Failure(f"the undecided file has at {at} neither its old nor its new byte")
                model.bytes = bytearray(found)  # what was read after the cut is decided
            else:
                model.check(client)
        self.undecided = None


def serve(disks, log, preload=None, port=0):
    named = [word for volume in disks.volumes for word in ("--volume", volume)]
    return gateway.Gateway(
        "--data", disks.data, *named, "--listen", f"127.0.0.1:{port}", log=log,
        environment={"LD_PRELOAD": preload} if preload else None)


def look_for(promises, disks, log, verifier):
    """Raises Lost when anything promised is missing; returns the new verifier."""
    try:
        with serve(disks, log) as server, server.client() as client:
            promises.check(client)
            now = client.commit(next(iter(promises.files.values())).handle).verifier
            check(now != verifier, "the verifier survived a power cut")
            server.kill()
            return now
    except (Failure, NFSError, gateway.Refused, ValueError, ConnectionError) as loss:
        raise Lost(f"{type(loss).__name__}: {loss}") from loss


def run_round(arguments, number):
    k, m = arguments.policy
    directory = os.path.join(arguments.directory, f"round-{number}")
    os.mkdir(directory)
    log = os.path.join(directory, "gateway.log")
    disks = Disks(directory, k + m)
    disks.format(k, m)
    promises = Promises(arguments.seed + number)
    losses = list(itertools.combinations(range(k + m), m))
    lost = promises.random.choice(losses)
    words = LAST_WORDS[number % len(LAST_WORDS)], LAST_WORDS[(number + 3) % len(LAST_WORDS)]
    print(f"round {number}: seed {arguments.seed + number}; {words[0]}, cut; {words[1]}, cut, without volumes {lost}")
    try:
        for cut, word in enumerate(words):
            with serve(disks, log, arguments.preload) as server, server.client() as client:
                verifier = client.commit(client.create(client.root, b"verifier %d" % cut).handle).verifier
                client.remove(client.root, b"verifier %d" % cut)
                promises.work(client, word, k * 65_536)
                disks.cut_power()
                server.kill()
            disks.unmount()
            disks.mount()
            if cut == 1:
                for volume in lost:
                    shutil.rmtree(disks.volumes[volume])
            look_for(promises, disks, log, verifier)
    except Lost:
        with open(log, errors="replace") as file:
            print(f"--- the end of the gateway's log:\n{''.join(file.readlines()[-8:])}", end="")
        raise
    finally:
        for server in list(gateway.Gateway.running):
            server.kill()
        disks.unmount()
    disks.delete()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--policy", required=True, type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--preload")
    arguments = parser.parse_args()
    gateway.binary = arguments.binary
    try:
        for number in range(arguments.rounds):
            run_round(arguments, number)
    except Lost as loss:
        print(f"lost: {loss}")
        return LOST
    return 0


if __name__ == "__main__":
    sys.exit(main())
