"""Real programs through the kernel's client, compared with the same on a local file system; the steps are in guest/."""

import os

from harness import equal, test
from kernel_client import run_steps, wait_for
from store import Store


def steps(directory, name, *arguments, **settings):
    shared = os.path.join(directory, "shared")
    os.mkdir(shared)
    with Store(directory, 3, 2).serve() as gateway:
        run_steps(gateway.port, shared, name, *arguments, **settings)


@test("git, sqlite and a compiler do on the kernel's mount what they do on tmpfs")
def programs(directory):
    steps(directory, "programs")


@test("system calls on files do on the kernel's mount what they do on tmpfs")
def files(directory):
    steps(directory, "files")


@test("two kernel mounts at once see what the other closed, race for names, and share files")
def mounts(directory):
    steps(directory, "mounts")


@test("20,000 files through the kernel client: made in parallel, find, du, ls -R, grep, rm -r; no block is left")
def many_files(directory):
    shared = os.path.join(directory, "shared")
    os.mkdir(shared)
    store = Store(directory, 3, 2)
    with store.serve() as gateway:
        run_steps(gateway.port, shared, "many_files")
        status = store.status()
        # The root and the step's own directory.
        equal((status["files"], status["directories"], status["bytes"]), (0, 2, 0), "files, directories and bytes")
        # The kernel's mount and the last drains are over; the files of dead groups go soon after.
        wait_for(lambda: not any(store.block_files(volume) for volume in range(store.count)))


@test("cp -a, rsync -aH and tar of a tree with links, holes, odd names, modes and times through the kernel client")
def copies(directory):
    steps(directory, "copies")


@test("random operations on a tree through the kernel client do what they do on tmpfs")
def random_trees(directory):
    steps(directory, "random_trees")
