"""Real programs through the kernel's client, compared with the same on a local file system; the steps are in guest/."""

import os

from harness import test
from kernel_client import run_steps
from store import Store


def steps(directory, name, *arguments, **settings):
    shared = os.path.join(directory, "shared")
    os.mkdir(shared)
    with Store(directory, 3, 2).serve() as gateway:
        run_steps(gateway.port, shared, name, *arguments, **settings)


@test("git, sqlite and a compiler do on the kernel's mount what they do on tmpfs")
def programs(directory):
    steps(directory, "programs")
